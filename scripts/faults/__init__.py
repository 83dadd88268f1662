"""Fault injection: runs are broken on purpose and what remains is checked."""
