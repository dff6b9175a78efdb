"""One metric per file; plain Python values or arrays in."""
