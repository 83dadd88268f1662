"""A trial: all the episodes that an agent spends on one task, and the loop that collects it.

An agent with a memory learns a task by acting in its episodes one after another. Before each
action it receives an `ActorInput`. Its memory is kept between the episodes of a trial and is
cleared at the start of the next trial. The reinforcement-learning problem that such an agent solves
is the whole trial: rewards are discounted across it, and it ends with its last episode.

Source: Duan et al. 2016 (arXiv:1611.02779), sec. 2.2; Wang et al. 2016 (arXiv:1611.05763), sec. 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from metarl.rollouts.episodes import (
    require_action_shape,
    require_env_shape,
    require_finite_rollout,
    require_memory_of_steps,
)
from metarl.tasks.family import BatchEnv, Step
from metarl.tasks.observations import float_dtype
from metarl.validation import require_at_least

__all__ = ["ActorInput", "TrialActor", "Trials", "collect_trials"]


class ActorInput(NamedTuple):
    """The input of an actor before each action; leading axes [tasks, envs]."""

    observations: Tensor  # [N, E, O]
    previous_actions: Tensor | None  # [N, E, A] or [N, E] int64; None at the start of the trial
    previous_rewards: Tensor  # [N, E], 0 at the start of the trial
    episode_ended: Tensor  # [N, E] bool, true if the previous action was the last of its episode
    deterministic: Tensor  # [N, E] bool, true if the most likely action is requested


class TrialActor(Protocol):
    """An actor with a memory that lasts for one batch of trials."""

    def act(self, actor_input: ActorInput) -> Tensor:
        """Actions [N, E, A], or [N, E] int64, in the environment's units; updates the memory."""


@dataclass(frozen=True)
class Trials:
    """One trial of each environment, padded to the longest one.

    `observations` alone do not contain the last observation of an episode, because the next
    episode begins in its place. It is stored once per episode, which takes K / T of the memory of
    `observations`; `next_observations` combines both.
    """

    observations: Tensor  # [N, E, T, O], before each action
    actions: Tensor  # [N, E, T, A], or [N, E, T] int64
    rewards: Tensor  # [N, E, T], 0 after the end
    episode_ends: Tensor  # [N, E, T] bool, true at the last step of each episode
    mask: Tensor  # [N, E, T] bool, true until and including the trial's last step
    final_observations: Tensor  # [N, E, K, O], after the last step of each episode
    num_episodes: int  # K, episodes of each trial
    success: Tensor | None = None  # [N, E, T] bool; None if the family does not define success
    expected_rewards: Tensor | None = None  # [N, E, T], 0 after the end; None if not provided

    @property
    def num_steps(self) -> int:
        """Number of valid environment steps, summed over tasks."""
        return int(self.mask.sum())

    @property
    def next_observations(self) -> Tensor:
        """The observation after each step, before any reset. Shape [N, E, T, O].

        Each access creates a new tensor as large as `observations`; it is 0 after the trial's end.
        """
        following = torch.zeros_like(self.observations)
        following[:, :, :-1] = self.observations[:, :, 1:]
        tasks, envs, steps = self.episode_ends.nonzero(as_tuple=True)
        episodes = self.episode_indices[tasks, envs, steps]
        following[tasks, envs, steps] = self.final_observations[tasks, envs, episodes]
        return following

    @property
    def episode_indices(self) -> Tensor:
        """Index of the episode that each step belongs to, 0 … K − 1. Shape [N, E, T]."""
        ends = self.episode_ends.to(torch.int64)
        return (ends.cumsum(-1) - ends).clamp(max=self.num_episodes - 1)

    @property
    def episode_returns(self) -> Tensor:
        """Undiscounted return of each episode, reward units. Shape [N, E, K]."""
        return self._per_episode(self.rewards)

    @property
    def episode_success(self) -> Tensor | None:
        """Whether each episode succeeded at any of its steps. Shape [N, E, K] bool."""
        if self.success is None:
            return None
        return self._per_episode(self.success.to(self.rewards.dtype)) > 0

    def _per_episode(self, values: Tensor) -> Tensor:
        sums = values.new_zeros(*values.shape[:-1], self.num_episodes)
        return sums.scatter_add(-1, self.episode_indices, values)


def collect_trials(
    env: BatchEnv,
    actor: TrialActor,
    generator: torch.Generator,
    *,
    num_episodes: int,
    num_exploratory: int | None = None,
) -> Trials:
    """Run one trial in every environment of a batch.

    An environment whose episode has ended begins its next one immediately, regardless of the
    others. An environment whose trial has ended waits for the rest: its actor input is zero, and
    its steps do not count.

    Args:
        env: the batch; it is reset first and may be used again afterwards.
        actor: acts from the start of a trial; it has its own memory and random generator.
        generator: samples the initial states. On the CPU.
        num_episodes: K, episodes of each trial.
        num_exploratory: episodes before actions become deterministic; None: they never do.

    Returns:
        The trials, on the environment's device.

    Raises:
        NonFiniteError: a ValueError, if an observation or a reward that counts is not finite,
            including the final observation of an episode.
        ValueError: if a number is out of range, the environment's tensors have another shape, or
            the trials do not fit in memory.
    """
    require_at_least("num_episodes", num_episodes, 1)
    scored_from = num_episodes if num_exploratory is None else num_exploratory
    require_at_least("num_exploratory", scored_from, 0)
    records: list[_Record] = []
    actor_input, episode = _start(env, generator, deterministic=scored_from == 0)
    finals = _FinalObservations(actor_input.observations, num_episodes)
    for _ in range(num_episodes * env.horizon):
        # All steps are copied once, when they are stacked.
        require_memory_of_steps(actor_input.observations, 2 * (len(records) + 1))
        seen = actor_input.observations.clone()  # copies, because a batch may reuse its tensors
        actions = actor.act(actor_input)
        require_action_shape(env, actions)
        step = env.step(actions)
        _require_shapes(env, step)
        finals.write(step.observations, episode)
        running = episode < num_episodes
        ended = (step.terminated | step.truncated) & running
        records.append(_Record.copied_from(seen, actions, step, ended, running))
        episode = episode + ended.to(torch.int64)
        observations, continues = step.observations, episode < num_episodes
        if not bool(continues.any()):
            break
        begins = ended & continues
        if bool(begins.any()):
            observations = env.reset(generator, None if bool(begins.all()) else begins)
        rewards = step.rewards
        if not bool(continues.all()):  # a waiting environment may return anything, also NaN
            observations = observations.masked_fill(~continues.unsqueeze(-1), 0)
            rewards = rewards.masked_fill(~continues, 0)
        deterministic = continues & (episode >= scored_from)
        actor_input = ActorInput(observations, actions, rewards, ended, deterministic)
    return _stacked(records, finals.observations)


class _Record(NamedTuple):
    """One step of all environments, each [N, E, ...]."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    episode_ends: Tensor
    mask: Tensor
    success: Tensor | None
    expected_rewards: Tensor | None

    @classmethod
    def copied_from(
        cls, observations: Tensor, actions: Tensor, step: Step, ended: Tensor, running: Tensor
    ) -> _Record:
        """Create a record with copies of the tensors that actor or environment may modify later."""
        return cls(
            observations,
            actions.clone(),
            step.rewards.clone(),
            ended,
            running,
            _copy(step.success),
            _copy(step.expected_rewards),
        )


class _FinalObservations:
    """The newest observation of each episode, which is its final one once the episode has ended."""

    def __init__(self, observations: Tensor, num_episodes: int) -> None:
        num_tasks, num_envs, *size = observations.shape
        # The additional slot is for environments whose trial has ended.
        self._slots = observations.new_zeros(num_tasks, num_envs, num_episodes + 1, *size)
        self._tasks = torch.arange(num_tasks, device=observations.device).unsqueeze(-1)
        self._envs = torch.arange(num_envs, device=observations.device)

    def write(self, observations: Tensor, episodes: Tensor) -> None:
        """Copy observations [N, E, O] to the slots of the episodes [N, E] that they belong to."""
        self._slots[self._tasks, self._envs, episodes] = observations

    @property
    def observations(self) -> Tensor:
        """The final observations of all episodes, [N, E, K, O], a view."""
        return self._slots[:, :, :-1]


def _copy(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.clone()


def _start(
    env: BatchEnv, generator: torch.Generator, *, deterministic: bool
) -> tuple[ActorInput, Tensor]:
    """The first input, and the index of each environment's episode."""
    observations = env.reset(generator)
    batch_shape = (env.num_tasks, env.num_envs)
    require_env_shape("observations", observations, (*batch_shape, *env.observation_space.shape))
    never = torch.zeros(batch_shape, dtype=torch.bool, device=observations.device)
    nothing = observations.new_zeros(batch_shape, dtype=float_dtype(observations))
    actor_input = ActorInput(observations, None, nothing, never, never | deterministic)
    return actor_input, never.to(torch.int64)


def _require_shapes(env: BatchEnv, step: Step) -> None:
    batch_shape = (env.num_tasks, env.num_envs)
    require_env_shape(
        "observations", step.observations, (*batch_shape, *env.observation_space.shape)
    )
    require_env_shape("rewards", step.rewards, batch_shape)


def _stacked(records: Sequence[_Record], finals: Tensor) -> Trials:
    observations, actions, rewards, ends, mask = (
        torch.stack([record[field] for record in records], dim=2)  # type: ignore[misc] # not None
        for field in range(5)
    )
    success = _stacked_if_any([record.success for record in records])
    expected = _stacked_if_any([record.expected_rewards for record in records])
    require_finite_rollout("observations", observations.isfinite().all(-1) | ~mask, observations)
    require_finite_rollout(
        "final_observations", finals.isfinite().all(-1), finals, time_axis="episode"
    )
    require_finite_rollout("rewards", rewards.isfinite() | ~mask, rewards)
    if expected is not None:
        require_finite_rollout("expected_rewards", expected.isfinite() | ~mask, expected)
    return Trials(
        observations,
        actions,
        torch.where(mask, rewards, 0),
        ends,
        mask,
        finals,
        finals.shape[2],
        None if success is None else success & mask,
        None if expected is None else torch.where(mask, expected, 0),
    )


def _stacked_if_any(values: Sequence[Tensor | None]) -> Tensor | None:
    """[N, E, T], or None if the family does not provide the values."""
    provided = [value for value in values if value is not None]
    return torch.stack(provided, dim=2) if provided else None
