"""Exact and sampled planning in bandits and tabular MDPs."""
