"""Corpora on disk and batches of waveforms."""
