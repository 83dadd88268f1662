"""Fault injection: break runs on purpose and check the result."""
