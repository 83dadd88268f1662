"""A whole trial as one episode, so that agents of other libraries can learn to adapt by memory.

`TrialFamily(family, num_episodes)` is a task family like any other, so that all interfaces of a
family work for trials too: `TaskEnv` and `TaskVectorEnv` for Gymnasium, `as_sb3_vec_env` for
Stable-Baselines3. sb3-contrib's RecurrentPPO, trained on it unchanged, is an RL² agent.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.rollouts.trial_inputs import TrialInputs
from metarl.rollouts.trials import ActorInput
from metarl.tasks.family import BatchEnv, Step, TaskFamily
from metarl.tasks.observations import float_dtype
from metarl.tasks.spaces import Tasks
from metarl.tasks.wrapper import BatchEnvWrapper, TaskFamilyWrapper
from metarl.validation import require_at_least

__all__ = ["TrialFamily"]


class TrialFamily(TaskFamilyWrapper):
    """The same tasks, with trials as episodes: several episodes of a task in sequence.

    The ends of inner episodes are hidden; an observation is the `TrialInputs` encoding of the
    inner observation, the previous action and reward, and whether the previous step ended an
    episode. The trial terminates with its last episode, so the value after it is 0.
    The environments of a batch share one random stream, so the start of an inner episode in one of
    them can change the random numbers of the others.

    Source: Duan et al. 2016 (arXiv:1611.02779), sec. 2.2.
    """

    name: ClassVar[str] = "TrialFamily"

    def __init__(self, family: TaskFamily, num_episodes: int) -> None:
        """Trials of a family.

        Args:
            family: family with the tasks and episodes.
            num_episodes: K, episodes of each trial.

        Raises:
            ValueError: if K is below 1.
            TypeError: if observations are not a flat Box, or actions cannot be encoded.
        """
        require_at_least("num_episodes", num_episodes, 1)
        super().__init__(family)
        self.num_episodes = num_episodes
        self._inputs = TrialInputs(
            family.observation_space, family.action_space, family.action_divisor
        )
        self.horizon = num_episodes * family.horizon
        self.behavior = "video"
        self.observation_description = (
            f"{family.observation_description}, previous action and reward, end of an episode"
        )
        self.observation_space = spaces.Box(-np.inf, np.inf, (self._inputs.size,), np.float32)

    @property
    def id(self) -> str:
        return f"{self.family.id} × {self.num_episodes} episodes"

    def make_batch(
        self, tasks: Tasks, *, num_envs: int, device: torch.device | str = "cpu"
    ) -> BatchEnv:
        batch = self.family.make_batch(tasks, num_envs=num_envs, device=device)
        return _TrialBatch(batch, self, self._inputs)


class _TrialBatch(BatchEnvWrapper):
    """Counts the episodes of each environment, and resets it between them."""

    def __init__(self, batch: BatchEnv, family: TrialFamily, inputs: TrialInputs) -> None:
        super().__init__(batch)
        self._inputs, self._num_episodes = inputs, family.num_episodes
        self.horizon, self.observation_space = family.horizon, family.observation_space
        self._last: ActorInput | None = None

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        observations = self.batch.reset(generator, env_mask)
        self._generator = generator
        batch_shape = observations.shape[:2]
        begins = (
            observations.new_ones(batch_shape, dtype=torch.bool) if env_mask is None else env_mask
        )
        if self._last is None or env_mask is None:
            self._episodes = torch.zeros(batch_shape, dtype=torch.int64, device=observations.device)
            self._is_first = begins
            nothing = observations.new_zeros(batch_shape, dtype=float_dtype(observations))
            self._last = ActorInput(observations, None, nothing, nothing.bool(), nothing.bool())
        else:
            self._episodes = self._episodes.masked_fill(begins, 0)
            self._is_first = self._is_first | begins
            self._last = self._last._replace(observations=observations)
        return self._encoded()

    def step(self, actions: Tensor) -> Step:
        step = self.batch.step(actions)
        ended = (step.terminated | step.truncated) & (self._episodes < self._num_episodes)
        self._episodes = self._episodes + ended.to(torch.int64)
        is_over = self._episodes >= self._num_episodes
        observations, again = step.observations, ended & ~is_over
        if bool(again.any()):
            observations = self.batch.reset(self._generator, again)
        self._is_first = torch.zeros_like(is_over)
        self._last = ActorInput(observations, actions, step.rewards, ended, self._is_first)
        return Step(self._encoded(), step.rewards, is_over, torch.zeros_like(is_over), step.success)

    def _encoded(self) -> Tensor:
        """Encode all observations; at the start of a trial, without a previous step."""
        assert self._last is not None
        first = self._inputs.encode(self._last._replace(previous_actions=None))
        if self._last.previous_actions is None:
            return first
        later = self._inputs.encode(self._last)
        return torch.where(self._is_first.unsqueeze(-1), first, later)
