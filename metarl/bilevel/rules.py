"""Inner rules: how one step of adaptation changes the parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from metarl.parameters import Params

__all__ = ["InnerRule", "RuleState", "StatefulRule", "sgd"]

InnerRule: TypeAlias = Callable[[Params, Params], Params]
"""(parameters, gradients) -> parameters, elementwise and without a state. Learned rates must be
part of the parameters."""

RuleState: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True)
class StatefulRule:
    """An inner rule with a state, which may also use the value of the loss.

    Examples of a state are momentum, second moments, a step count, and the hidden state of a
    learned optimizer. Each task has a separate state, and gradients flow through it. Both functions
    handle one task, without a task axis, whatever the batching of the inner loop; they must work
    under `torch.func.vmap`.

    Learned numbers (rates, weights of an optimizer) must be part of the parameters.

        state_0 = init(θ_0),   θ_{s+1}, state_{s+1} = step(θ_s, ∇L(θ_s), state_s, L(θ_s))

    With mode "first_order" the gradient and the loss are treated as constants.
    """

    init: Callable[[Params], RuleState]
    """init(parameters) -> state before the first step, tensors by name. It may depend on θ."""
    step: Callable[[Params, Params, RuleState, Tensor], tuple[Params, RuleState]]
    """step(parameters, gradients, state, loss) -> parameters and state, under the same names.
    `gradients` holds the adapted parameters only; `loss` is a scalar."""


def sgd(learning_rate: float | Mapping[str, float | Tensor]) -> InnerRule:
    """Gradient descent as an inner rule: θ ↦ θ − α g.

    Args:
        learning_rate: α, one number for all parameters or one entry for each parameter's name.
            Learned rates must be part of the parameters and need a custom rule.

    Returns:
        A rule for `InnerLoop`. Parameters without a gradient stay as they are.

    Raises:
        ValueError: if a number is not finite or not above zero, or a tensor requires gradients.

    Source: Finn et al. 2017 (arXiv:1703.03400), eq. 1.
    """
    if isinstance(learning_rate, Mapping):
        rates = dict(learning_rate)
        for name, rate in rates.items():
            if isinstance(rate, Tensor):
                if rate.requires_grad:
                    raise ValueError(f"learning_rate of {name!r} must not require gradients")
            elif not (math.isfinite(rate) and rate > 0):
                raise ValueError(
                    f"learning_rate of {name!r} must be a finite number above 0, got {rate}"
                )
        return lambda params, grads: {
            k: p - rates[k] * grads[k] if k in grads else p for k, p in params.items()
        }
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate must be a finite number above 0, got {learning_rate}")
    return lambda params, grads: {
        k: torch.add(p, grads[k], alpha=-learning_rate) if k in grads else p
        for k, p in params.items()
    }
