"""A task family whose tasks are no secret: each observation ends with the task.

A policy trained here needs no adaptation; it is the ceiling for agents that must find the task out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor

from metarl.tasks import BatchEnv, Step, TaskFamily, Tasks

__all__ = ["KnownTask"]


class KnownTask(TaskFamily):
    """The same tasks, with the task appended to every observation.

    The task's coordinates are appended in units of the task space: low is −1, high is 1.
    """

    name: ClassVar[str] = "KnownTask"

    def __init__(self, family: TaskFamily) -> None:
        self._family = family
        self.variant = family.variant
        self.splits = family.splits  # type: ignore[misc] # this family's are the wrapped one's
        self.description = f"{family.description}; observes the task"
        self.task_space = family.task_space
        inner = family.observation_space
        size = family.task_space.shape[0]
        low = np.concatenate([inner.low, np.full(size, -1.0)]).astype(np.float32)
        high = np.concatenate([inner.high, np.full(size, 1.0)]).astype(np.float32)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self.action_space = family.action_space
        self.horizon = family.horizon
        self.action_scale = family.action_scale

    @property
    def id(self) -> str:
        return f"{self._family.id}+task"

    def make_batch(
        self, tasks: Tasks, *, num_envs: int, device: torch.device | str = "cpu"
    ) -> BatchEnv:
        batch = self._family.make_batch(tasks, num_envs=num_envs, device=device)
        appended = torch.from_numpy(self.normalized(tasks)).to(device, torch.float32)
        return _KnownTaskBatch(batch, appended, self.observation_space)

    def oracle(
        self, tasks: Tasks, *, device: torch.device | str = "cpu"
    ) -> Callable[[Tensor], Tensor] | None:
        actor = self._family.oracle(tasks, device=device)
        size = self._family.observation_space.shape[0]
        return None if actor is None else lambda observations: actor(observations[..., :size])

    def normalized(self, tasks: Tasks) -> Tasks:
        """Tasks in units of the task space, [N, D] in [−1, 1]."""
        low, high = self.task_space.low, self.task_space.high
        scaled: Tasks = 2 * (self.check_tasks(tasks) - low) / (high - low) - 1
        return scaled

    def _draw_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        return self._family._draw_tasks(num_tasks, split, rng)


class _KnownTaskBatch:
    autoreset_mode: ClassVar[AutoresetMode] = AutoresetMode.DISABLED

    def __init__(self, batch: BatchEnv, tasks: Tensor, observation_space: spaces.Box) -> None:
        self._batch = batch
        self.num_tasks, self.num_envs = batch.num_tasks, batch.num_envs
        self.horizon = batch.horizon
        self.observation_space = observation_space
        self.action_space: gymnasium.Space[object] = batch.action_space
        self._tasks = tasks.unsqueeze(1).expand(-1, self.num_envs, -1)  # [N, E, D]

    def reset(self, generator: torch.Generator) -> Tensor:
        return torch.cat([self._batch.reset(generator), self._tasks], -1)

    def step(self, actions: Tensor) -> Step:
        step = self._batch.step(actions)
        return step._replace(observations=torch.cat([step.observations, self._tasks], -1))

    def close(self) -> None:
        self._batch.close()
