"""Whole programs on top of the toolkit."""
