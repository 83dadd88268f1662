"""Batched simulators: tensors, MuJoCo, and worker processes."""
