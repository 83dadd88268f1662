"""Checks that a task family keeps its contract."""
