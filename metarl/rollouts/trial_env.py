"""A whole trial as one episode: how agents of other libraries learn to adapt by memory.

`TrialFamily(family, num_episodes)` is a task family like any other, so that every face of a family
is there for trials too: `TaskEnv` and `TaskVectorEnv` for Gymnasium, `as_sb3_vec_env` for
Stable-Baselines3. sb3-contrib's RecurrentPPO, trained on it unchanged, is an RL² agent.
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

from metarl.rollouts.trial_inputs import TrialInputs
from metarl.rollouts.trials import ActorInput
from metarl.tasks.family import BatchEnv, RendersBatch, Step, TaskFamily
from metarl.tasks.spaces import Tasks
from metarl.validation import require_at_least

__all__ = ["TrialFamily"]


class TrialFamily(TaskFamily):
    """The same tasks, each episode a trial: several episodes of the one task in a row.

    The ends of inner episodes are hidden; an observation is what `TrialInputs` makes of the
    inner one, the previous action, the previous reward and whether the previous step ended an
    episode. The trial terminates with its last episode: what comes after it is worth nothing.
    The environments of a batch draw from one stream, so that when an inner episode begins in one
    can change the chance of the others, as resets of some always can.

    Source: Duan et al. 2016 (arXiv:1611.02779), sec. 2.2.
    """

    name: ClassVar[str] = "TrialFamily"

    def __init__(self, family: TaskFamily, num_episodes: int) -> None:
        """Trials of a family.

        Args:
            family: whose tasks and episodes.
            num_episodes: K, of each trial.

        Raises:
            ValueError: if K is below 1.
            TypeError: if observations are no flat Box, or actions cannot be encoded.
        """
        require_at_least("num_episodes", num_episodes, 1)
        self._family, self.num_episodes = family, num_episodes
        self._inputs = TrialInputs(family.observation_space, family.action_space)
        self.variant, self.horizon = family.variant, num_episodes * family.horizon
        self.splits, self.ood_splits = family.splits, family.ood_splits
        self.same_tasks_in_splits = family.same_tasks_in_splits
        self.task_description, self.source = family.task_description, family.source
        self.observation_description = (
            f"{family.observation_description}, previous action and reward, end of an episode"
        )
        self.warning, self.action_scale = family.warning, family.action_scale
        self.task_space, self.action_space = family.task_space, family.action_space
        self.observation_space = spaces.Box(-np.inf, np.inf, (self._inputs.size,), np.float32)

    @property
    def id(self) -> str:
        return f"{self._family.id} × {self.num_episodes} episodes"

    @property
    def has_picture(self) -> bool:
        return self._family.has_picture

    def make_batch(
        self, tasks: Tasks, *, num_envs: int, device: torch.device | str = "cpu"
    ) -> BatchEnv:
        batch = self._family.make_batch(tasks, num_envs=num_envs, device=device)
        kind = _DrawnBatch if isinstance(batch, RendersBatch) else _TrialBatch
        return kind(batch, self, self._inputs)

    def check_tasks(self, tasks: object) -> Tasks:
        return self._family.check_tasks(tasks)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        return self._family._sample_tasks(num_tasks, split, rng)


class _TrialBatch:
    """Counts the episodes of each environment, and resets it between them."""

    autoreset_mode: ClassVar[AutoresetMode] = AutoresetMode.DISABLED

    def __init__(self, batch: BatchEnv, family: TrialFamily, inputs: TrialInputs) -> None:
        self._batch, self._inputs, self._num_episodes = batch, inputs, family.num_episodes
        self.num_tasks, self.num_envs = batch.num_tasks, batch.num_envs
        self.horizon = family.horizon
        self.observation_space = family.observation_space
        self.action_space: gymnasium.Space[Any] = batch.action_space
        self._last: ActorInput | None = None

    def reset(self, generator: torch.Generator, env_mask: Tensor | None = None) -> Tensor:
        observations = self._batch.reset(generator, env_mask)
        self._generator = generator
        lead = observations.shape[:2]
        begins = observations.new_ones(lead, dtype=torch.bool) if env_mask is None else env_mask
        if self._last is None or env_mask is None:
            self._episodes = torch.zeros(lead, dtype=torch.int64, device=observations.device)
            self._is_first = begins
            nothing = observations.new_zeros(lead)
            self._last = ActorInput(observations, None, nothing, nothing.bool(), nothing.bool())
        else:
            self._episodes = self._episodes.masked_fill(begins, 0)
            self._is_first = self._is_first | begins
            self._last = self._last._replace(observations=observations)
        return self._encoded()

    def step(self, actions: Tensor) -> Step:
        step = self._batch.step(actions)
        ended = (step.terminated | step.truncated) & (self._episodes < self._num_episodes)
        self._episodes = self._episodes + ended.to(torch.int64)
        is_over = self._episodes >= self._num_episodes
        observations, again = step.observations, ended & ~is_over
        if bool(again.any()):
            observations = self._batch.reset(self._generator, again)
        self._is_first = torch.zeros_like(is_over)
        self._last = ActorInput(observations, actions, step.rewards, ended, self._is_first)
        return Step(self._encoded(), step.rewards, is_over, torch.zeros_like(is_over), step.success)

    def set_tasks(self, tasks: Tasks) -> None:
        self._batch.set_tasks(tasks)

    def oracle_actions(self) -> Tensor | None:
        return self._batch.oracle_actions()

    def close(self) -> None:
        self._batch.close()

    def _encoded(self) -> Tensor:
        """Observations of all; those that begin a trial know of no step before."""
        assert self._last is not None
        first = self._inputs.encode(self._last._replace(previous_actions=None))
        if self._last.previous_actions is None:
            return first
        later = self._inputs.encode(self._last)
        return torch.where(self._is_first.unsqueeze(-1), first, later)


class _DrawnBatch(_TrialBatch):
    """One whose environments can be drawn."""

    def render(self, task: int, env: int) -> NDArray[np.uint8]:
        assert isinstance(self._batch, RendersBatch)
        return self._batch.render(task, env)
