"""A multilayer perceptron as two functions, evaluated for one task or for all tasks at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Activation", "activation_function", "init_mlp", "mlp"]

Activation = Literal["relu", "tanh"]

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh}


def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """The elementwise function of this name.

    Raises:
        ValueError: if there is none.
    """
    if name not in _FUNCTIONS:
        raise ValueError(f"activation must be one of {', '.join(_FUNCTIONS)}, got {name!r}")
    return _FUNCTIONS[name]


def init_mlp(
    sizes: Sequence[int], generator: torch.Generator, *, gain: float = 1.0
) -> dict[str, Tensor]:
    """Weights uniform after Glorot, biases zero, on the generator's device.

    Args:
        sizes: inputs, hidden sizes …, outputs.
        generator: source of randomness.
        gain: factor on the bound √(6 / (fan in + fan out)).

    Returns:
        `weight_k` [sizes[k + 1], sizes[k]] and `bias_k` [sizes[k + 1]] for k = 0, 1, …

    Source: Glorot & Bengio 2010, eq. 16.
    """
    params = {}
    for k, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        bound = gain * math.sqrt(6 / (fan_in + fan_out))
        uniform = torch.rand(fan_out, fan_in, generator=generator, device=generator.device)
        params[f"weight_{k}"] = bound * (2 * uniform - 1)
        params[f"bias_{k}"] = torch.zeros(fan_out, device=generator.device)
    return params


def mlp(
    params: dict[str, Tensor], inputs: Tensor, activation: Callable[[Tensor], Tensor]
) -> Tensor:
    """Outputs of the perceptron; with a task axis on the parameters, of all tasks in one call.

    Args:
        params: as `init_mlp` gives them, or each with a leading task axis.
        inputs: shape [B, sizes[0]], or [tasks, B, sizes[0]] with the parameters' task axis.
        activation: applied between layers, not after the last.

    Returns:
        Shape [B, sizes[-1]] or [tasks, B, sizes[-1]].
    """
    num_layers = sum(name.startswith("weight_") for name in params)
    for k in range(num_layers):
        weight, bias = params[f"weight_{k}"], params[f"bias_{k}"]
        if weight.dim() == 2:
            inputs = functional.linear(inputs, weight, bias)
        else:
            inputs = torch.baddbmm(bias.unsqueeze(-2), inputs, weight.mT)
        if k < num_layers - 1:
            inputs = activation(inputs)
    return inputs
