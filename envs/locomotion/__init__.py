"""Locomotion tasks of simulated robots in MuJoCo."""
