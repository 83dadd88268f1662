"""Someone looks on at some of an agent's episodes, played as in an evaluation.

What is noted down and what becomes of it is in `behaviour`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from metarl.evaluation.evaluator import play_stages, stage_names
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.rl.players import AdaptiveAgent
from metarl.rollouts.episodes import collect
from metarl.rollouts.trials import collect_trials
from metarl.seeding import torch_generator
from metarl.tasks.family import BatchEnv, Step, TaskFamily
from metarl.tasks.spaces import Tasks

__all__ = ["Onlooker", "Places", "WatchedBatch", "WatchedPlay"]

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

    def note(self, where: Places, actions: Tensor, rewards: Tensor) -> None:
        """Actions were taken there, and paid rewards [N, E]."""


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

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        observations = self._batch.reset(generator, env_mask)
        chosen = np.ones_like(self._running) if env_mask is None else env_mask.cpu().numpy()
        self._episode += chosen
        self._time[chosen] = 0
        self._running |= chosen
        self._onlooker.look(self._places(chosen), observations)
        return observations

    def step(self, actions: Tensor) -> Step:
        before = self._places(self._running)
        step = self._batch.step(actions)
        self._onlooker.note(before, actions, step.rewards)
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


@dataclass(frozen=True)
class WatchedPlay:
    """Who plays what, and which of it is watched: S stages, N tasks, E episodes of each."""

    agent: AdaptiveAgent
    family: TaskFamily
    tasks: Tasks  # [N, D]
    protocol: EvaluationProtocol  # its number of tasks and its split are not used
    stages: tuple[int, ...]  # in rising order; 0 is before adaptation
    num_episodes: int  # the most of each task; the first ones
    device: torch.device

    def __post_init__(self) -> None:
        last = self.protocol.adaptation_steps
        if not self.stages or min(self.stages) < 0 or max(self.stages) > last:
            raise ValueError(f"stages must be numbers from 0 to {last}, got {list(self.stages)}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(S, N, E)."""
        return len(self.stages), len(self.tasks), self.num_kept

    @property
    def num_kept(self) -> int:
        """E."""
        if self.agent.remembers:
            return self.num_episodes
        return min(self.num_episodes, self.protocol.evaluation_episodes)

    @property
    def stage_names(self) -> tuple[str, ...]:
        """What the stages are called."""
        names = stage_names(self.protocol, remembers=self.agent.remembers)
        return tuple(names[stage] for stage in self.stages)

    def make_batch(self) -> BatchEnv:
        """The environments to play in."""
        num_envs = self.num_kept if self.agent.remembers else self.protocol.episodes_together
        return self.family.make_batch(self.tasks, num_envs=num_envs, device=self.device)

    def show(self, env: BatchEnv, onlooker: Onlooker) -> None:
        """Let someone look on at the stages asked for."""
        if self.agent.remembers:
            for k, stage in enumerate(self.stages):
                self._run_trials(env, onlooker, k, self.protocol.episodes_before(stage))
            return
        resets_per_stage = 1 if self.protocol.shares_episodes else 2
        shown = {stage * resets_per_stage: k for k, stage in enumerate(self.stages)}
        watched = WatchedBatch(env, onlooker, shown, num_envs=self.num_kept)
        for _ in play_stages(self.agent, watched, self.protocol, *self._chance()):
            pass

    def _run_trials(self, env: BatchEnv, onlooker: Onlooker, k: int, before: int) -> None:
        """One trial of each environment, up to the episode that counts."""
        watched = WatchedBatch(env, onlooker, {before: k}, num_envs=self.num_kept)
        resets, noise = self._chance()
        collect_trials(
            watched,
            self.agent.play(env.num_tasks, env.num_envs, noise),
            resets,
            num_episodes=before + 1,
            num_exploratory=before if self.protocol.deterministic else None,
        )

    def _chance(self) -> tuple[torch.Generator, torch.Generator]:
        seed = self.protocol.seed
        return (
            torch_generator(seed, "evaluation", "resets"),
            torch_generator(seed, "evaluation", "actions", device=self.device),
        )

    def show_oracle(self, onlooker: Onlooker) -> bool:
        """Let someone look on at the oracle; false if the family has none.

        Where starts are drawn, they are those of the agent before adaptation.
        """
        with closing(self.make_batch()) as env:
            env.reset(self._chance()[0])
            if env.oracle_actions() is None:
                return False
            watched = WatchedBatch(env, onlooker, {0: 0}, num_envs=self.num_kept)
            collect(watched, lambda _: _known(env.oracle_actions()), self._chance()[0])
        return True


def _known(actions: Tensor | None) -> Tensor:
    assert actions is not None
    return actions
