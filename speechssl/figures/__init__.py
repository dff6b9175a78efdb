"""One figure per file; arrays in, PNG out."""
