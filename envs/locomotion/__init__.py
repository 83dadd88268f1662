"""Robots on MuJoCo."""
