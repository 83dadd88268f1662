"""Encoding of tasks as vectors, the inputs of a privileged critic."""

from __future__ import annotations

import gymnasium
import numpy as np
import torch
from torch import Tensor

from metarl.rl.normalization import RunningMoments
from metarl.seeding import derive_seed
from metarl.tasks.actions import encode_actions, encoded_size
from metarl.tasks.family import TaskFamily
from metarl.tasks.spaces import Tasks, TaskSpace, normalized_rows, space_bounds

__all__ = ["TaskEncoder", "encode_tasks", "task_size"]

_NUM_SAMPLES = 1000
"""Number of tasks that the mean and the standard deviation are estimated from."""


class TaskEncoder:
    """Encodes tasks as vectors with mean 0 and standard deviation 1 over the training tasks.

    Without normalization a network may never learn: 500 of the 550 numbers of a `TabularMDP` have
    mean −.8 in units of the task space, and one step of Adam on their weights saturates a layer.
    """

    def __init__(self, family: TaskFamily, *, seed: int, device: torch.device) -> None:
        """Estimate mean and standard deviation from a sample of tasks that the seed determines.

        Raises:
            ValueError: if the tasks have no bounds.
        """
        if not np.isfinite(space_bounds(family.task_space)).all():
            raise ValueError(
                f"privileged_critic must be False with {family.id}, whose tasks have no bounds: "
                f"its task_space is {family.task_space}"
            )
        self._space, self._device = family.task_space, device
        sample = family.sample_tasks(_NUM_SAMPLES, seed=derive_seed(seed, "task numbers"))
        rows = encode_tasks(self._space, sample).to(device)
        self._moments = RunningMoments.empty(rows.shape[1], device).updated(rows)

    def __call__(self, tasks: Tasks) -> Tensor:
        """Encoded tasks [B, D], on the device."""
        return self._moments.normalized(encode_tasks(self._space, tasks).to(self._device))


def task_size(space: TaskSpace) -> int:
    """The size D of an encoded task."""
    return encoded_size(_start_at_zero(space))


def encode_tasks(space: TaskSpace, tasks: Tasks) -> Tensor:
    """Tasks [B, ...] as vectors [B, D]: boxes scaled to [−1, 1], discrete parts one-hot."""
    if isinstance(space, gymnasium.spaces.Box):
        return torch.as_tensor(normalized_rows(space, tasks), dtype=torch.float32)
    indices = torch.as_tensor(tasks - space_bounds(space)[0], dtype=torch.int64)
    if isinstance(space, gymnasium.spaces.Discrete):
        indices = indices.squeeze(-1)
    return encode_actions(_start_at_zero(space), indices)


def _start_at_zero(space: TaskSpace) -> TaskSpace:
    """The task space with discrete parts that start at 0, as `encode_actions` requires."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return gymnasium.spaces.Discrete(int(space.n))
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return gymnasium.spaces.MultiDiscrete(space.nvec)
    return space
