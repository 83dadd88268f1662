"""Optimisers of the outer loop, on parameters by name."""
