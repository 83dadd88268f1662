"""A task family whose observations include the task.

A policy trained here does not need to adapt; its return is an upper bound for agents that must
infer the task.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.tasks.family import BatchEnv, Step, TaskFamily
from metarl.tasks.spaces import Tasks, normalized_rows, space_bounds
from metarl.tasks.wrapper import BatchEnvWrapper, TaskFamilyWrapper

__all__ = ["ObservedTaskFamily"]


class ObservedTaskFamily(TaskFamilyWrapper):
    """The same tasks, with the task appended to every observation.

    The task's coordinates are in units of the task space: low is −1, high is 1.
    """

    name: ClassVar[str] = "ObservedTask"

    def __init__(self, family: TaskFamily) -> None:
        super().__init__(family)
        inner, bounds = family.observation_space, space_bounds(family.task_space)
        if not np.isfinite(bounds).all():
            raise ValueError(
                f"task_space of {family.id} must be bounded for its tasks to be observed, got "
                f"{family.task_space}"
            )
        size = len(bounds[0])
        low = np.concatenate([inner.low, np.full(size, -1.0)]).astype(np.float32)
        high = np.concatenate([inner.high, np.full(size, 1.0)]).astype(np.float32)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self.observation_description = f"{family.observation_description}, the task"

    @property
    def id(self) -> str:
        return f"{self.family.id}+task"

    def make_batch(
        self, tasks: Tasks, *, num_envs: int, device: torch.device | str = "cpu"
    ) -> BatchEnv:
        batch = self.family.make_batch(tasks, num_envs=num_envs, device=device)
        return _ObservedTaskBatch(batch, tasks, self, torch.device(device))


class _ObservedTaskBatch(BatchEnvWrapper):
    def __init__(
        self, batch: BatchEnv, tasks: Tasks, family: ObservedTaskFamily, device: torch.device
    ) -> None:
        super().__init__(batch)
        self._family, self._device = family, device
        self.observation_space = family.observation_space
        self._set_appended(tasks)

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        return torch.cat([self.batch.reset(generator, env_mask), self._tasks], -1)

    def step(self, actions: Tensor) -> Step:
        step = self.batch.step(actions)
        return step._replace(observations=torch.cat([step.observations, self._tasks], -1))

    def set_tasks(self, tasks: Tasks) -> None:
        self.batch.set_tasks(tasks)
        self._set_appended(tasks)

    def _set_appended(self, tasks: Tasks) -> None:
        rows = normalized_rows(self._family.task_space, self._family.check_tasks(tasks))
        appended = torch.from_numpy(rows).to(self._device, torch.float32)
        self._tasks = appended.unsqueeze(1).expand(-1, self.num_envs, -1)  # [N, E, D]
