"""One file per verb of `speechssl <verb>`: wiring only."""
