"""Hidden states to disk."""
