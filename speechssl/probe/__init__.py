"""The frozen benchmark protocol: cache, grid, runner, rows."""
