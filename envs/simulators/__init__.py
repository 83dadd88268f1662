"""Batched simulators: tensors, MuJoCo, worker processes."""
