"""A training run: its directory, loop, metrics, resumption and seeds."""
