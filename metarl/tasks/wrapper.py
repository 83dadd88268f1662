"""Base classes for families and batches that modify another one."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from metarl.tasks.family import BatchEnv, RendersBatch, Step, TaskFamily
from metarl.tasks.spaces import Tasks

__all__ = ["BatchEnvWrapper", "TaskFamilyWrapper"]

_COPIED = (
    "variant", "splits", "ood_splits", "shared_tasks", "task_description",
    "observation_description", "source", "warning", "task_space", "observation_space",
    "observation_images", "action_space", "horizon", "behavior", "action_divisor",
)  # fmt: skip


class TaskFamilyWrapper(TaskFamily):
    """A family that behaves like another one, `family`, except for the overrides of a subclass.

    A subclass sets attributes that differ after `super().__init__(family)`, and usually wraps the
    batch:

        class HalvedRewards(TaskFamilyWrapper):
            \"""The same tasks with half the reward.\"""

            def make_batch(self, tasks, *, num_envs, device="cpu"):
                batch = self.family.make_batch(tasks, num_envs=num_envs, device=device)
                return HalvedBatch(batch)

        class HalvedBatch(BatchEnvWrapper):
            def step(self, actions):
                step = self.batch.step(actions)
                return step._replace(rewards=step.rewards / 2)

    `structure` is None; a subclass for which the declaration remains true sets it again. Override
    `id` if results must be separate from results of the wrapped family.
    """

    name: ClassVar[str] = "TaskFamilyWrapper"

    def __init__(self, family: TaskFamily) -> None:
        self.family = family
        for attribute in _COPIED:
            setattr(self, attribute, getattr(family, attribute))

    @property
    def id(self) -> str:
        return self.family.id

    @property
    def can_render(self) -> bool:
        return self.family.can_render

    def make_batch(
        self, tasks: Tasks, *, num_envs: int, device: torch.device | str = "cpu"
    ) -> BatchEnv:
        return self.family.make_batch(tasks, num_envs=num_envs, device=device)

    def without_workers(self) -> TaskFamily:
        family = self.family.without_workers()
        if family is self.family:
            return self
        changed = copy.copy(self)
        changed.family = family
        return changed

    def check_tasks(self, tasks: object) -> Tasks:
        return self.family.check_tasks(tasks)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        return self.family._sample_tasks(num_tasks, split, rng)


class BatchEnvWrapper:
    """A batch that behaves like another one, `batch`, except for the overrides of a subclass.

    It has the method `render` if the wrapped batch has one.
    """

    autoreset_mode: ClassVar[AutoresetMode] = AutoresetMode.DISABLED

    def __init__(self, batch: BatchEnv) -> None:
        self.batch = batch
        self.num_tasks, self.num_envs = batch.num_tasks, batch.num_envs
        self.horizon = batch.horizon
        self.observation_space = batch.observation_space
        self.action_space: gymnasium.Space[Any] = batch.action_space
        if isinstance(batch, RendersBatch):
            self.render = batch.render

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        return self.batch.reset(generator, env_mask)

    def step(self, actions: Tensor) -> Step:
        return self.batch.step(actions)

    def set_tasks(self, tasks: Tasks) -> None:
        self.batch.set_tasks(tasks)

    def oracle_actions(self) -> Tensor | None:
        return self.batch.oracle_actions()

    def close(self) -> None:
        self.batch.close()
