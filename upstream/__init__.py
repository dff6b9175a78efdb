"""Encoder families, one folder each."""
