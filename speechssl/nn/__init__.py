"""Building blocks shared by families: attention, positions, padding, counter-based randomness, pooling, layer mix."""
