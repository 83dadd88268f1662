"""Figures that need no display."""
