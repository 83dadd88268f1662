"""Actors that need no training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from gymnasium import spaces
from torch import Tensor

from metarl.rollouts.episodes import Actor
from metarl.rollouts.trials import ActorInput
from metarl.tasks.actions import ActionLayout, BoxColumns, ChoiceColumns
from metarl.tasks.family import BatchEnv

__all__ = ["select_actions", "random_actor"]


def select_actions(
    actor_input: ActorInput,
    stochastic: Callable[[Tensor], Tensor],
    deterministic: Callable[[Tensor], Tensor],
) -> Tensor:
    """Deterministic actions in environments that request them, stochastic ones elsewhere."""
    requested = actor_input.deterministic
    if not bool(requested.any()):
        return stochastic(actor_input.observations)
    best = deterministic(actor_input.observations)
    if bool(requested.all()):
        return best
    drawn = stochastic(actor_input.observations)
    return torch.where(requested.view(*requested.shape, *(1,) * (best.dim() - 2)), best, drawn)


def random_actor(env: BatchEnv, generator: torch.Generator) -> Actor:
    """Create an actor with actions uniform over the action space.

    Unbounded numbers have no uniform distribution; as in Gymnasium's `Box.sample`, a number with
    one bound is the bound ± Exponential(1), and one without bounds is N(0, 1).

    Raises:
        TypeError: if the action space is not built from Box, Discrete, MultiDiscrete and
            MultiBinary.
    """
    layout = ActionLayout(env.action_space)
    if isinstance(env.action_space, spaces.Discrete):
        count, first = int(env.action_space.n), int(env.action_space.start)

        def act_index(observations: Tensor) -> Tensor:
            batch_shape, device = observations.shape[:2], observations.device
            return first + torch.randint(count, batch_shape, generator=generator, device=device)

        return act_index

    def act(observations: Tensor) -> Tensor:
        pieces = [
            _random_choices(part, observations, generator)
            if isinstance(part, ChoiceColumns)
            else _random_numbers(part, observations, generator)
            for part in layout.parts
        ]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, -1)

    return act


def _random_choices(
    part: ChoiceColumns, observations: Tensor, generator: torch.Generator
) -> Tensor:
    device = observations.device
    counts, starts = (torch.tensor(numbers, device=device) for numbers in part)
    shape = (*observations.shape[:2], len(counts))
    uniform = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
    return starts + (uniform * counts).to(torch.int64)


def _random_numbers(part: BoxColumns, observations: Tensor, generator: torch.Generator) -> Tensor:
    shape, device = (*observations.shape[:2], part.size), observations.device
    uniform = torch.rand(shape, generator=generator, device=device, dtype=torch.float32)
    low, high, width = (
        torch.as_tensor(bound).to(uniform) for bound in (part.low, part.high, part.high - part.low)
    )
    has_low, has_high = low.isfinite(), high.isfinite()
    if bool((has_low & has_high).all()):
        numbers = low + width * uniform
    else:
        excess = -torch.log1p(-uniform)  # Exponential(1)
        normal = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))
        bounded = low.nan_to_num(neginf=0.0) + width.nan_to_num(posinf=0.0) * uniform
        one_bound = torch.where(has_low, low + excess, high - excess)
        numbers = torch.where(
            has_low & has_high, bounded, torch.where(has_low | has_high, one_bound, normal)
        )
    is_integer = torch.as_tensor(part.is_integer, device=device)
    return torch.where(is_integer, numbers.round(), numbers) if part.is_integer.any() else numbers
