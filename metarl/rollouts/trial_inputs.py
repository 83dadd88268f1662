"""Input vectors of a memory: observation, previous action, previous reward, end of an episode.

This module alone fixes their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import gymnasium
import torch
from torch import Tensor

from metarl.devices import require_memory
from metarl.rollouts.trials import ActorInput, Trials
from metarl.tasks.actions import ActionLayout
from metarl.tasks.observations import float_dtype

__all__ = ["TrialInputs"]


@dataclass(frozen=True)
class TrialInputs:
    """Encodes the inputs of a trial's actor as vectors.

        x_t = [o_t, a_{t−1}, r_{t−1}, ended_{t−1}],   a, r and ended 0 at the trial's start

    with choices one-hot.

    Source: Duan et al. 2016 (arXiv:1611.02779), fig. 1.
    """

    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    action_divisor: float | None = None
    """As in `ActionHead`. None: continuous actions are encoded in units of their box; a number: in
    the environment's units, without dividing by it."""
    scaling: Callable[[Tensor], Tensor] | None = field(default=None, compare=False)
    """Applied to observations, such as `ObservationScaling`; None leaves them unchanged."""

    def __post_init__(self) -> None:
        shape = self.observation_space.shape
        if not isinstance(self.observation_space, gymnasium.spaces.Box) or len(shape or ()) != 1:
            raise TypeError(f"observation_space must be a flat Box, got {self.observation_space}")
        self._layout  # noqa: B018 - raises for spaces that have no layout

    @cached_property
    def _layout(self) -> ActionLayout:
        return ActionLayout(self.action_space)

    @property
    def size(self) -> int:
        """Size of an encoded input."""
        assert self.observation_space.shape is not None
        return int(self.observation_space.shape[0]) + self._layout.encoded_size + 2

    def encode(self, actor_input: ActorInput) -> Tensor:
        """Encode one input of all environments. Shape [N, E, size].

        Raises:
            ValueError: if the size of the observations differs from the space's.
        """
        observations = actor_input.observations
        size = self.size - self._layout.encoded_size - 2
        if observations.shape[2:] != (size,):
            raise ValueError(
                f"observations must have shape [tasks, envs, {size}], got "
                f"{tuple(observations.shape)}"
            )
        observations = self._scaled(observations)
        if actor_input.previous_actions is None:
            unused = observations.new_zeros(
                *observations.shape[:2], self.size - observations.shape[-1]
            )
            return torch.cat([observations, unused], dim=-1)
        return self._joined(
            observations,
            actor_input.previous_actions,
            actor_input.previous_rewards,
            actor_input.episode_ended,
        )

    def encode_trials(self, trials: Trials) -> Tensor:
        """Encode whole trials, as the same vectors as in `encode`. Shape [N, E, T, size].

        Raises:
            ValueError: if the inputs, which are floats, do not fit in memory.
        """
        if trials.mask.device.type == "cpu":
            require_memory(
                f"inputs of the memory for {trials.mask.numel()} steps, {self.size} numbers each,",
                2 * 4 * trials.mask.numel() * self.size,  # and the observations after scaling
                remedy="use fewer tasks at a time (meta_batch_size), shorter episodes, or smaller "
                "images",
            )
        observations = self._scaled(trials.observations)
        later = self._joined(
            observations[:, :, 1:],
            trials.actions[:, :, :-1],
            trials.rewards[:, :, :-1],
            trials.episode_ends[:, :, :-1],
        )
        first = observations[:, :, :1]
        unused = first.new_zeros(*first.shape[:3], self.size - first.shape[-1])
        return torch.cat([torch.cat([first, unused], dim=-1), later], dim=2)

    def _scaled(self, observations: Tensor) -> Tensor:
        scaled = observations if self.scaling is None else self.scaling(observations)
        return scaled.to(float_dtype(scaled))

    def _joined(
        self, observations: Tensor, actions: Tensor, rewards: Tensor, ended: Tensor
    ) -> Tensor:
        encoded = self._layout.encode(actions, in_box_units=self.action_divisor is None)
        encoded = encoded.to(observations.dtype)
        outcome = torch.stack([rewards, ended.to(rewards.dtype)], dim=-1).to(observations.dtype)
        return torch.cat([observations, encoded, outcome], dim=-1)
