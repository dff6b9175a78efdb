"""Trained models put to use: predictions, exported programs, conversions and model cards."""
