"""Adaptation of any agent to recorded episodes, and its actions afterwards.

An adapted state holds players that have seen the episodes, the same players that an evaluation
uses, so adaptation means the same for all agents.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.rl.players import AdaptiveAgent, Player, begin_play
from metarl.rollouts.episodes import Episodes
from metarl.rollouts.trials import ActorInput
from metarl.tasks.family import TaskFamily
from metarl.tasks.observations import float_dtype

__all__ = ["ActingAgent", "AdaptedState", "Inputs", "adapt_agent", "predict_actions"]

Inputs: TypeAlias = ActorInput | Tensor | NDArray[np.floating]


class ActingAgent(AdaptiveAgent, Protocol):
    """The part of an agent that this module uses."""

    family: TaskFamily
    device: torch.device


class _Group(NamedTuple):
    """A player and the trials that it acts in."""

    player: Player
    rows: Tensor | None
    """Rows of the trials in [tasks · envs]; None: all tasks, with any number of environments."""


class _LastStep(NamedTuple):
    """The last step of each recorded trial."""

    actions: Tensor  # [N, E, A] or [N, E] int64
    rewards: Tensor  # [N, E]


@dataclass(frozen=True)
class AdaptedState:
    """An agent's knowledge of a set of tasks; opaque, made by `Agent.adapt` and `Agent.predict`."""

    owner: ActingAgent
    groups: tuple[_Group, ...]
    generator: torch.Generator
    """The players' generator; each prediction sets its state."""
    num_tasks: int
    num_envs: int | None
    """E if each environment has a separate memory; None for any number."""
    last: _LastStep | None = None
    """The step that observations without a previous action follow."""
    has_acted: bool = False
    """Whether actions were predict_actions with a memory, whose rewards it must see next."""


def adapt_agent(agent: ActingAgent, episodes: Sequence[Episodes]) -> AdaptedState:
    """The state of an agent after adaptation to batches of episodes [N, E, ...]."""
    num_tasks, num_envs = episodes[0].rewards.shape[:2]
    generator = torch.Generator(agent.device)
    if not agent.remembers:
        player = begin_play(agent, num_tasks, num_envs, generator)
        for batch in episodes:
            player.adapt(batch)
        return AdaptedState(agent, (_Group(player, None),), generator, num_tasks, None)
    trials = _join_episodes(episodes)
    groups = []
    # Group trials by length: a player must not see further steps after its trial has ended.
    for length in trials.lengths.unique().tolist():
        rows = (trials.lengths == length).nonzero().squeeze(1)
        player = begin_play(agent, len(rows), 1, generator)
        for step in range(length):
            player.act(trials.input(rows, step))
        groups.append(_Group(player, rows))
    last = trials.last_step((num_tasks, num_envs))
    return AdaptedState(agent, tuple(groups), generator, num_tasks, num_envs, last)


def predict_actions(
    agent: ActingAgent,
    inputs: Inputs,
    state: AdaptedState | None,
    generator: torch.Generator | None,
) -> tuple[Tensor, AdaptedState]:
    """Actions and the next state; the given state is not changed.

    Args:
        agent: the owner of the state.
        inputs: observations of all tasks [N, E, ...], or an `ActorInput`.
        state: the adapted state; None before any data.
        generator: samples the actions; None takes the mode.

    Raises:
        ValueError: if shapes do not fit, or a memory lacks the previous step.
    """
    known = _actor_input(agent, inputs, state)
    known = known._replace(deterministic=torch.full_like(known.episode_ended, generator is None))
    if state is None:
        num_tasks, num_envs = known.observations.shape[:2]
        noise = torch.Generator(agent.device)
        group = _Group(begin_play(agent, num_tasks, num_envs, noise), None)
        envs = num_envs if agent.remembers else None
        state = AdaptedState(agent, (group,), noise, num_tasks, envs)
    if state.num_envs is not None:  # a memory changes when it acts
        shared = {id(one): one for one in (agent, state.generator)}
        groups = tuple(_Group(copy.deepcopy(g.player, dict(shared)), g.rows) for g in state.groups)
        state = replace(state, groups=groups, last=None, has_acted=True)
    if generator is not None:
        state.generator.set_state(generator.get_state())
    actions = _actions(state.groups, known)
    if generator is not None:
        generator.set_state(state.generator.get_state())
    return actions, state


def _actor_input(agent: ActingAgent, inputs: Inputs, state: AdaptedState | None) -> ActorInput:
    """The inputs as an `ActorInput` with float32 observations."""
    given = inputs.observations if isinstance(inputs, ActorInput) else inputs
    observations = torch.as_tensor(given, dtype=torch.float32, device=agent.device)
    _require_observation_shape(agent.family, observations, state)
    if isinstance(inputs, ActorInput):
        return inputs._replace(observations=observations)
    if state is not None and state.has_acted:
        raise ValueError(
            "inputs must be an ActorInput with the previous actions and rewards, got "
            "observations; a memory learns from them"
        )
    batch_shape = observations.shape[:2]
    never = torch.zeros(batch_shape, dtype=torch.bool, device=observations.device)
    if state is None or state.last is None:
        return ActorInput(observations, None, observations.new_zeros(batch_shape), never, never)
    return ActorInput(observations, *state.last, ~never, never)


def _require_observation_shape(
    family: TaskFamily, observations: Tensor, state: AdaptedState | None
) -> None:
    num_tasks = "tasks" if state is None else state.num_tasks
    num_envs = "envs" if state is None or state.num_envs is None else state.num_envs
    needed = [num_tasks, num_envs, *(family.observation_space.shape or ())]
    found = observations.shape
    if len(found) != len(needed) or any(
        isinstance(size, int) and size != n for size, n in zip(needed, found, strict=True)
    ):
        raise ValueError(
            f"observations must have shape [{', '.join(map(str, needed))}], got {list(found)}"
        )


@torch.no_grad()
def _actions(groups: Sequence[_Group], inputs: ActorInput) -> Tensor:
    batch_shape = inputs.observations.shape[:2]
    if groups[0].rows is None:
        return groups[0].player.act(inputs)
    acted = []
    for player, rows in groups:
        parts = (None if f is None else f.flatten(0, 1)[rows].unsqueeze(1) for f in inputs)
        acted.append(player.act(ActorInput(*parts)).squeeze(1))  # type: ignore[arg-type] # None stays None
    order = torch.cat([rows for _, rows in groups if rows is not None]).argsort()
    return torch.cat(acted)[order].view(*batch_shape, *acted[0].shape[1:])


class _Trials(NamedTuple):
    """Trials of R environments without padding between their episodes."""

    observations: Tensor  # [R, T, O], before each action
    actions: Tensor  # [R, T, ...]
    rewards: Tensor  # [R, T]
    episode_ends: Tensor  # [R, T] bool
    lengths: Tensor  # [R] int64

    def input(self, rows: Tensor, step: int) -> ActorInput:
        """The players' input for some rows at one step, [len(rows), 1, ...]."""
        observations = self.observations[rows, step].unsqueeze(1)
        always = torch.ones(len(rows), 1, dtype=torch.bool, device=observations.device)
        if step == 0:
            nothing = observations.new_zeros(len(rows), 1, dtype=float_dtype(observations))
            return ActorInput(observations, None, nothing, ~always, always)
        actions, rewards, ends = (
            values[rows, step - 1].unsqueeze(1)
            for values in (self.actions, self.rewards, self.episode_ends)
        )
        return ActorInput(observations, actions, rewards, ends, always)

    def last_step(self, batch_shape: tuple[int, int]) -> _LastStep:
        """Each trial's last action and reward."""
        rows, last = torch.arange(len(self.lengths)), self.lengths.cpu() - 1
        return _LastStep(
            self.actions[rows, last].unflatten(0, batch_shape),
            self.rewards[rows, last].unflatten(0, batch_shape),
        )


def _join_episodes(episodes: Sequence[Episodes]) -> _Trials:
    mask = torch.cat([batch.mask for batch in episodes], 2).flatten(0, 1)
    order = (~mask).to(torch.int8).argsort(dim=1, stable=True)  # valid steps come first
    return _Trials(
        _concatenate([batch.observations[:, :, :-1] for batch in episodes], order),
        _concatenate([batch.actions for batch in episodes], order),
        _concatenate([batch.rewards for batch in episodes], order),
        _concatenate([_last_steps(batch.mask) for batch in episodes], order),
        lengths=mask.sum(1),
    )


def _concatenate(parts: Sequence[Tensor], order: Tensor) -> Tensor:
    values = torch.cat(list(parts), 2).flatten(0, 1)
    index = order.view(*order.shape, *(1,) * (values.dim() - 2))
    return values.take_along_dim(index, 1)


def _last_steps(mask: Tensor) -> Tensor:
    """True at the last valid step of each episode."""
    following = torch.cat([mask[..., 1:], torch.zeros_like(mask[..., :1])], -1)
    return mask & ~following
