"""Inner rules with a state, written for one task, and finite differences as their reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from metarl.bilevel.rules import RuleState, StatefulRule
from metarl.parameters import Params

HEAD = ("weight_1", "bias_1")
all_or_head = pytest.mark.parametrize("adapted", [None, HEAD], ids=["all", "head"])


def zero_velocities(params: Params) -> RuleState:
    return {name: torch.zeros_like(p) for name, p in params.items()}


def momentum_step(
    params: Params, grads: Params, state: RuleState, loss: Tensor
) -> tuple[Params, RuleState]:
    del loss
    velocities = state | {name: 0.9 * state[name] + g for name, g in grads.items()}
    return {n: p - 0.1 * velocities[n] if n in grads else p for n, p in params.items()}, velocities


def learned_start(params: Params) -> RuleState:
    """Velocities that depend on the parameters, and a count of the steps."""
    velocities = {name: 0.1 * torch.tanh(p) for name, p in params.items()}
    return {**velocities, "count": next(iter(params.values())).new_zeros(())}


def loss_aware_step(
    params: Params, grads: Params, state: RuleState, loss: Tensor
) -> tuple[Params, RuleState]:
    """θ − 0.3 v / (1 + L) / count: short steps where the loss is large and later on."""
    count = state["count"] + 1
    after = {**state, "count": count}
    moved = dict(params)
    for name, grad in grads.items():
        after[name] = 0.5 * state[name] + torch.tanh(grad)
        moved[name] = params[name] - 0.3 * after[name] / (1 + loss) / count
    return moved, after


RULES = {
    "momentum": StatefulRule(zero_velocities, momentum_step),
    "loss": StatefulRule(learned_start, loss_aware_step),
}


def by_finite_differences(
    function: Callable[[Params], Tensor], params: Params, step: float = 1e-6
) -> Params:
    """Central differences of a scalar function in every entry of the parameters."""
    found = {}
    for name, p in params.items():
        slopes = torch.zeros_like(p)
        for i in range(p.numel()):
            change = torch.zeros_like(p).flatten()
            change[i] = step
            ahead, behind = (
                function({**params, name: p + sign * change.view_as(p)}) for sign in (1, -1)
            )
            slopes.view(-1)[i] = (ahead - behind) / (2 * step)
        found[name] = slopes
    return found
