"""Crash-safe files: checkpoints, settings and the provenance of results."""
