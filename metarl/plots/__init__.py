"""Matplotlib figures of results, without a display."""
