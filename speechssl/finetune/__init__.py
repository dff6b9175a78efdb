"""Fine-tuning: whole models trained on labelled waveforms, as a mode of the benchmark."""
