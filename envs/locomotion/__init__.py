"""Locomotion tasks: simulated robots in MuJoCo."""
