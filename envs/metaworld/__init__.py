"""Manipulation tasks of Meta-World."""
