"""A task family whose tasks are no secret: each observation ends with the task.

A policy trained here needs no adaptation; it is the ceiling for agents that must find the task out.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from metarl.tasks.family import BatchEnv, RendersBatch, Step, TaskFamily
from metarl.tasks.spaces import Tasks, normalized_rows, space_bounds

__all__ = ["ObservedTaskFamily"]


class ObservedTaskFamily(TaskFamily):
    """The same tasks, with the task appended to every observation.

    The task's coordinates are appended in units of the task space: low is −1, high is 1.
    """

    name: ClassVar[str] = "ObservedTaskFamily"

    def __init__(self, family: TaskFamily) -> None:
        self._family = family
        self.variant, self.horizon = family.variant, family.horizon
        self.splits, self.ood_splits = family.splits, family.ood_splits
        self.same_tasks_in_splits = family.same_tasks_in_splits
        self.task_description = family.task_description
        self.observation_description = f"{family.observation_description}, the task"
        self.source, self.warning = family.source, family.warning
        self.task_space, self.action_space = family.task_space, family.action_space
        self.action_scale, self.behaviour = family.action_scale, family.behaviour
        inner, bounds = family.observation_space, space_bounds(family.task_space)
        if not np.isfinite(bounds).all():
            raise ValueError(
                f"task_space of {family.id} must be bounded for its tasks to be observed, it is "
                f"{family.task_space}"
            )
        size = len(bounds[0])
        low = np.concatenate([inner.low, np.full(size, -1.0)]).astype(np.float32)
        high = np.concatenate([inner.high, np.full(size, 1.0)]).astype(np.float32)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)

    @property
    def id(self) -> str:
        return f"{self._family.id}+task"

    @property
    def has_picture(self) -> bool:
        return self._family.has_picture

    def make_batch(
        self, tasks: Tasks, *, num_envs: int, device: torch.device | str = "cpu"
    ) -> BatchEnv:
        batch = self._family.make_batch(tasks, num_envs=num_envs, device=device)
        kind = _DrawnBatch if isinstance(batch, RendersBatch) else _ObservedTaskBatch
        return kind(batch, tasks, self, torch.device(device))

    def check_tasks(self, tasks: object) -> Tasks:
        return self._family.check_tasks(tasks)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        return self._family._sample_tasks(num_tasks, split, rng)


class _ObservedTaskBatch:
    autoreset_mode: ClassVar[AutoresetMode] = AutoresetMode.DISABLED

    def __init__(
        self, batch: BatchEnv, tasks: Tasks, family: ObservedTaskFamily, device: torch.device
    ) -> None:
        self._batch, self._family, self._device = batch, family, device
        self.num_tasks, self.num_envs = batch.num_tasks, batch.num_envs
        self.horizon = batch.horizon
        self.observation_space = family.observation_space
        self.action_space: gymnasium.Space[Any] = batch.action_space
        self._keep_tasks(tasks)

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        return torch.cat([self._batch.reset(generator, env_mask), self._tasks], -1)

    def step(self, actions: Tensor) -> Step:
        step = self._batch.step(actions)
        return step._replace(observations=torch.cat([step.observations, self._tasks], -1))

    def set_tasks(self, tasks: Tasks) -> None:
        self._batch.set_tasks(tasks)
        self._keep_tasks(tasks)

    def oracle_actions(self) -> Tensor | None:
        return self._batch.oracle_actions()

    def close(self) -> None:
        self._batch.close()

    def _keep_tasks(self, tasks: Tasks) -> None:
        rows = normalized_rows(self._family.task_space, self._family.check_tasks(tasks))
        appended = torch.from_numpy(rows).to(self._device, torch.float32)
        self._tasks = appended.unsqueeze(1).expand(-1, self.num_envs, -1)  # [N, E, D]


class _DrawnBatch(_ObservedTaskBatch):
    """One whose environments can be drawn."""

    def render(self, task: int, env: int) -> NDArray[np.uint8]:
        assert isinstance(self._batch, RendersBatch)
        return self._batch.render(task, env)
