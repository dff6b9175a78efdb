"""One loss per file; plain tensors in."""
