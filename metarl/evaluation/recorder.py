"""Recording of some episodes of an agent that runs as in an evaluation.

The callbacks that keep the recorded data are in `behavior`.
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
from metarl.rl.players import AdaptiveAgent, begin_play, can_adapt
from metarl.rollouts.episodes import collect
from metarl.rollouts.trials import collect_trials
from metarl.seeding import torch_generator
from metarl.tasks.family import BatchEnv, Step, TaskFamily
from metarl.tasks.spaces import Tasks

__all__ = ["RecordIndices", "RecordedBatch", "RolloutRecorder", "StepCallback"]

Indices = NDArray[np.int64]


class RecordIndices(NamedTuple):
    """Indices of k entries in arrays [S, N, E, T + 1, …] of recorded data."""

    stage: Indices  # [k]
    task: Indices  # [k]
    env: Indices  # [k]
    time: Indices  # [k], steps since the episode began

    def select(self, values: Tensor) -> NDArray[Any]:
        """The entries of a tensor [N, E, …] for these tasks and environments. Shape [k, …]."""
        entries: NDArray[Any] = values.detach().cpu().numpy()[self.task, self.env]
        return entries


class StepCallback(Protocol):
    """Receives the states and the steps of the recorded episodes."""

    def on_states(self, index: RecordIndices, observations: Tensor) -> None:
        """Called when states are reached, including initial states; observations [N, E, O]."""

    def on_step(self, index: RecordIndices, actions: Tensor, rewards: Tensor) -> None:
        """Called after a step, with the indices of the states in which the actions were taken.

        Args:
            index: indices of the states before the step.
            actions: [N, E, A] or [N, E] int64.
            rewards: [N, E].
        """


class RecordedBatch:
    """A batch of environments that reports chosen episodes to a callback, and changes nothing.

    Episodes are counted separately for each environment, from its first reset.
    """

    autoreset_mode: ClassVar[AutoresetMode] = AutoresetMode.DISABLED

    def __init__(
        self,
        batch: BatchEnv,
        callback: StepCallback,
        stages: Mapping[int, int],
        *,
        num_envs: int,
    ) -> None:
        """Wrap a batch before its next reset.

        Args:
            batch: the environments.
            callback: receives the recorded states and steps.
            stages: number of a recorded episode ↦ index of its stage; other episodes are not
                recorded.
            num_envs: number of environments of each task to record, counted from the first.
        """
        self._batch, self._callback, self._stages = batch, callback, dict(stages)
        self.num_tasks, self.num_envs = batch.num_tasks, batch.num_envs
        self.horizon = batch.horizon
        self.observation_space = batch.observation_space
        self.action_space: gymnasium.Space[Any] = batch.action_space
        shape = (batch.num_tasks, batch.num_envs)
        self._episode = np.full(shape, -1)
        self._time = np.zeros(shape, np.int64)
        self._running = np.zeros(shape, np.bool_)
        self._is_recorded = np.arange(batch.num_envs) < num_envs

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        observations = self._batch.reset(generator, env_mask)
        chosen = np.ones_like(self._running) if env_mask is None else env_mask.cpu().numpy()
        self._episode += chosen
        self._time[chosen] = 0
        self._running |= chosen
        self._callback.on_states(self._indices(chosen), observations)
        return observations

    def step(self, actions: Tensor) -> Step:
        before = self._indices(self._running)
        step = self._batch.step(actions)
        self._callback.on_step(before, actions, step.rewards)
        stepped = self._running.copy()
        self._time += stepped
        self._running &= ~(step.terminated | step.truncated).cpu().numpy()
        self._callback.on_states(self._indices(stepped), step.observations)
        return step

    def set_tasks(self, tasks: NDArray[np.float64]) -> None:
        self._batch.set_tasks(tasks)

    def oracle_actions(self) -> Tensor | None:
        return self._batch.oracle_actions()

    def close(self) -> None:
        self._batch.close()

    def _indices(self, env_mask: NDArray[np.bool_]) -> RecordIndices:
        """Indices of the environments in a mask [N, E] that are in a recorded episode."""
        in_stage = np.isin(self._episode, list(self._stages))
        task, env = np.nonzero(env_mask & in_stage & self._is_recorded)
        stage = np.array([self._stages[k] for k in self._episode[task, env]], dtype=np.int64)
        return RecordIndices(stage, task, env, self._time[task, env])


@dataclass(frozen=True)
class RolloutRecorder:
    """Runs an agent as an evaluation does and records S stages, N tasks and E episodes of each."""

    agent: AdaptiveAgent
    family: TaskFamily
    tasks: Tasks  # [N, D]
    protocol: EvaluationProtocol  # its number of tasks and its split are not used
    stages: tuple[int, ...]  # in ascending order; 0 is before adaptation
    num_episodes: int  # maximum number of episodes of each task; the first ones are recorded
    device: torch.device

    def __post_init__(self) -> None:
        last = self.protocol.adaptation_steps
        if not self.stages or min(self.stages) < 0 or max(self.stages) > last:
            raise ValueError(f"stages must be numbers from 0 to {last}, got {list(self.stages)}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(S, N, E)."""
        return len(self.stages), len(self.tasks), self.num_recorded

    @property
    def num_recorded(self) -> int:
        """E, the episodes of each task and stage that are recorded."""
        if self.agent.remembers:
            return self.num_episodes
        return min(self.num_episodes, self.protocol.evaluation_episodes)

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The names of the recorded stages."""
        remembers, adapts = self.agent.remembers, can_adapt(self.agent)
        names = stage_names(self.protocol, remembers=remembers, adapts=adapts)
        return tuple(names[stage] for stage in self.stages)

    def make_batch(self) -> BatchEnv:
        """The environments to record in."""
        num_envs = self.num_recorded if self.agent.remembers else self.protocol.episodes_together
        return self.family.make_batch(self.tasks, num_envs=num_envs, device=self.device)

    def record(self, env: BatchEnv, callback: StepCallback) -> None:
        """Run the agent and report the episodes of the recorded stages to a callback."""
        if self.agent.remembers:
            for k, stage in enumerate(self.stages):
                self._record_trials(env, callback, k, stage)
            return
        resets_per_stage = 1 if self.protocol.shares_episodes else 2
        recorded = {stage * resets_per_stage: k for k, stage in enumerate(self.stages)}
        batch = RecordedBatch(env, callback, recorded, num_envs=self.num_recorded)
        for _ in play_stages(self.agent, batch, self.protocol, *self._generators()):
            pass

    def record_oracle(self, callback: StepCallback) -> bool:
        """Report an episode of the oracle to a callback; False if the family has no oracle.

        The initial states are the same as in the agent's stage before adaptation.
        """
        with closing(self.make_batch()) as env:
            env.reset(self._generators()[0])
            if env.oracle_actions() is None:
                return False
            batch = RecordedBatch(env, callback, {0: 0}, num_envs=self.num_recorded)
            collect(batch, lambda _: _not_none(env.oracle_actions()), self._generators()[0])
        return True

    def _record_trials(self, env: BatchEnv, callback: StepCallback, k: int, stage: int) -> None:
        """Run one trial of each environment and record the episode that a stage measures."""
        before = self.protocol.episodes_before(stage)
        batch = RecordedBatch(env, callback, {before: k}, num_envs=self.num_recorded)
        resets, noise = self._generators()
        collect_trials(
            batch,
            begin_play(self.agent, env.num_tasks, env.num_envs, noise),
            resets,
            num_episodes=before + 1,
            num_exploratory=self.protocol.num_exploratory(stage),
        )

    def _generators(self) -> tuple[torch.Generator, torch.Generator]:
        """The evaluator's generators of initial states and of actions."""
        seed = self.protocol.seed
        return (
            torch_generator(seed, "evaluation", "resets"),
            torch_generator(seed, "evaluation", "actions", device=self.device),
        )


def _not_none(actions: Tensor | None) -> Tensor:
    assert actions is not None
    return actions
