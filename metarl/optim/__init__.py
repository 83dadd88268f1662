"""Outer-loop optimizers on named parameters: Adam, SGD, schedules and the trust region."""
