"""Measurement of how well agents adapt to unseen tasks."""
