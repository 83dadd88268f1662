"""Measure the speed of the toolkit and its peers."""
