"""A batch of environments that lets someone look on at some of its episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from metarl.tasks import BatchEnv, Step

__all__ = ["Onlooker", "Places", "WatchedBatch"]

Indices = NDArray[np.int64]


class Places(NamedTuple):
    """Where in an array [S, N, E, T + 1, …] of watched episodes something belongs; k of them."""

    stage: Indices  # [k]
    task: Indices  # [k]
    env: Indices  # [k]
    time: Indices  # [k], steps since the episode began

    def pick(self, values: Tensor) -> NDArray[Any]:
        """The entries of [N, E, …] that belong there, [k, …]."""
        entries: NDArray[Any] = values.detach().cpu().numpy()[self.task, self.env]
        return entries


class Onlooker(Protocol):
    """Takes note of what happens in the episodes watched."""

    def look(self, where: Places, observations: Tensor) -> None:
        """States were reached, the first of an episode included; observations [N, E, O]."""

    def note(self, where: Places, actions: Tensor, rewards: Tensor, best: Tensor | None) -> None:
        """Actions were taken at `where`; rewards [N, E], and what the oracle would have done."""


class WatchedBatch:
    """The same environments, the same chance; episodes are counted from each one's first reset."""

    autoreset_mode: ClassVar[AutoresetMode] = AutoresetMode.DISABLED

    def __init__(
        self,
        batch: BatchEnv,
        onlooker: Onlooker,
        stages: Mapping[int, int],
        *,
        num_envs: int,
    ) -> None:
        """Watch a batch before its next reset.

        Args:
            batch: the environments.
            onlooker: who looks on.
            stages: which episodes are watched, by their number, and where each belongs.
            num_envs: environments of each task that are watched, the first.
        """
        self._batch, self._onlooker, self._stages = batch, onlooker, dict(stages)
        self.num_tasks, self.num_envs = batch.num_tasks, batch.num_envs
        self.horizon = batch.horizon
        self.observation_space = batch.observation_space
        self.action_space: gymnasium.Space[Any] = batch.action_space
        shape = (batch.num_tasks, batch.num_envs)
        self._episode = np.full(shape, -1)
        self._time = np.zeros(shape, np.int64)
        self._running = np.zeros(shape, np.bool_)
        self._seen = np.arange(batch.num_envs) < num_envs

    def reset(self, generator: torch.Generator, where: Tensor | None = None) -> Tensor:
        observations = self._batch.reset(generator, where)
        chosen = np.ones_like(self._running) if where is None else where.cpu().numpy()
        self._episode += chosen
        self._time[chosen] = 0
        self._running |= chosen
        self._onlooker.look(self._places(chosen), observations)
        return observations

    def step(self, actions: Tensor) -> Step:
        best, before = self._batch.oracle_actions(), self._places(self._running)
        step = self._batch.step(actions)
        self._onlooker.note(before, actions, step.rewards, best)
        moved = self._running.copy()
        self._time += moved
        self._running &= ~(step.terminated | step.truncated).cpu().numpy()
        self._onlooker.look(self._places(moved), step.observations)
        return step

    def set_tasks(self, tasks: NDArray[np.float64]) -> None:
        self._batch.set_tasks(tasks)

    def oracle_actions(self) -> Tensor | None:
        return self._batch.oracle_actions()

    def close(self) -> None:
        self._batch.close()

    def _places(self, chosen: NDArray[np.bool_]) -> Places:
        """Of the environments chosen, [N, E], those in a watched episode."""
        watched = np.isin(self._episode, list(self._stages))
        task, env = np.nonzero(chosen & watched & self._seen)
        stage = np.array([self._stages[k] for k in self._episode[task, env]], dtype=np.int64)
        return Places(stage, task, env, self._time[task, env])
