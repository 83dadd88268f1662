"""Adapters between task families and Gymnasium or Stable-Baselines3."""
