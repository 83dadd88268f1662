"""Actors that need no training."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import torch
from torch import Tensor

from metarl.rollouts.episodes import Actor
from metarl.rollouts.trials import ActorInput
from metarl.tasks.family import BatchEnv

__all__ = ["chosen", "random_actor"]


def chosen(
    moment: ActorInput,
    stochastic: Callable[[Tensor], Tensor],
    deterministic: Callable[[Tensor], Tensor],
) -> Tensor:
    """The deterministic action of each environment that requests it, stochastic ones elsewhere."""
    requested = moment.deterministic
    if not bool(requested.any()):
        return stochastic(moment.observations)
    best = deterministic(moment.observations)
    if bool(requested.all()):
        return best
    drawn = stochastic(moment.observations)
    return torch.where(requested.view(*requested.shape, *(1,) * (best.dim() - 2)), best, drawn)


def random_actor(env: BatchEnv, generator: torch.Generator) -> Actor:
    """Actions uniform over the action space.

    Raises:
        TypeError: if the action space is neither a bounded Box, Discrete nor MultiDiscrete.
    """
    space = env.action_space
    if isinstance(space, gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete):
        return _random_indices(space, generator)
    if not isinstance(space, gymnasium.spaces.Box) or not space.is_bounded():
        raise TypeError(
            f"action_space must be Discrete, MultiDiscrete or a bounded Box, got {space}"
        )
    low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)

    def act(observations: Tensor) -> Tensor:
        shape = (*observations.shape[:2], *space.shape)
        uniform = torch.rand(shape, generator=generator, device=observations.device)
        return low.to(uniform) + (high - low).to(uniform) * uniform

    return act


def _random_indices(
    space: gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete, generator: torch.Generator
) -> Actor:
    if isinstance(space, gymnasium.spaces.Discrete):
        count, first = int(space.n), int(space.start)

        def act(observations: Tensor) -> Tensor:
            lead, device = observations.shape[:2], observations.device
            return first + torch.randint(count, lead, generator=generator, device=device)

        return act
    counts, starts = torch.as_tensor(space.nvec), torch.as_tensor(space.start)

    def act_many(observations: Tensor) -> Tensor:
        device = observations.device
        shape = (*observations.shape[:2], *counts.shape)
        uniform = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
        return starts.to(device) + (uniform * counts.to(device)).to(torch.int64)

    return act_many
