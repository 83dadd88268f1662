"""Tasks as numbers for a network that is told them in training."""

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

__all__ = ["TaskNumbers", "task_numbers", "task_size"]

_NUM_SAMPLES = 1000
"""Tasks that mean and deviation are taken from."""


class TaskNumbers:
    """Tasks of a family as numbers of mean 0 and deviation 1 over its training tasks.

    Without that, a network may never learn: of the 550 numbers of a `TabularMDP`, 500 have mean
    −.8 in units of the task space, and one step of Adam on their weights saturates a layer.
    """

    def __init__(self, family: TaskFamily, *, seed: int, device: torch.device) -> None:
        """Looks at a sample of tasks, the same for the same seed.

        Raises:
            ValueError: if the tasks have no bounds.
        """
        if not np.isfinite(space_bounds(family.task_space)).all():
            raise ValueError(
                f"value_sees_task must be False with {family.id}, whose tasks have no bounds: its "
                f"task_space is {family.task_space}"
            )
        self._space, self._device = family.task_space, device
        sample = family.sample_tasks(_NUM_SAMPLES, seed=derive_seed(seed, "task numbers"))
        rows = task_numbers(self._space, sample).to(device)
        self._moments = RunningMoments.empty(rows.shape[1], device).updated(rows)

    def __call__(self, tasks: Tasks) -> Tensor:
        """Numbers [B, D] of tasks, on the device."""
        return self._moments.normalized(task_numbers(self._space, tasks).to(self._device))


def task_size(space: TaskSpace) -> int:
    """Numbers that `task_numbers` gives for a task."""
    return encoded_size(_from_zero(space))


def task_numbers(space: TaskSpace, tasks: Tasks) -> Tensor:
    """Tasks [B, D] as numbers: boxes in [−1, 1], what is discrete one-hot."""
    if isinstance(space, gymnasium.spaces.Box):
        return torch.as_tensor(normalized_rows(space, tasks), dtype=torch.float32)
    indices = torch.as_tensor(tasks - space_bounds(space)[0], dtype=torch.int64)
    if isinstance(space, gymnasium.spaces.Discrete):
        indices = indices.squeeze(-1)
    return encode_actions(_from_zero(space), indices)


def _from_zero(space: TaskSpace) -> TaskSpace:
    """A space as large whose choices begin at 0, as those of actions do."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return gymnasium.spaces.Discrete(int(space.n))
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return gymnasium.spaces.MultiDiscrete(space.nvec)
    return space
