"""Proofs that a task family keeps its promises."""
