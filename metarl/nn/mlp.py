"""A multilayer perceptron as two functions, evaluated for one task or for all tasks at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from metarl.devices import require_memory

__all__ = ["Activation", "activation_function", "init_mlp", "layers_after_first", "mlp"]

Activation = Literal["relu", "tanh"]

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh}


def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """The elementwise function of this name.

    Raises:
        ValueError: if the name is unknown.
    """
    if name not in _FUNCTIONS:
        raise ValueError(f"activation must be one of {', '.join(_FUNCTIONS)}, got {name!r}")
    return _FUNCTIONS[name]


def init_mlp(
    sizes: Sequence[int],
    generator: torch.Generator,
    *,
    scheme: Literal["glorot", "fan_in"] = "glorot",
) -> dict[str, Tensor]:
    """Fresh parameters on the generator's device.

    Args:
        sizes: inputs, hidden sizes …, outputs.
        generator: source of randomness.
        scheme: "glorot": weights U(±√(6 / (fan in + fan out))), biases zero (Glorot & Bengio 2010,
            eq. 16). "fan_in": weights and biases U(±1 / √fan in), as `torch.nn.Linear` does.

    Returns:
        `weight_k` [sizes[k + 1], sizes[k]] and `bias_k` [sizes[k + 1]] for k = 0, 1, …

    Raises:
        ValueError: if the scheme is unknown.
    """

    if scheme not in ("glorot", "fan_in"):
        raise ValueError(f"scheme must be 'glorot' or 'fan_in', got {scheme!r}")

    def uniform(bound: float, *shape: int) -> Tensor:
        return bound * (
            2 * torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float32)
            - 1
        )

    num_weights = sum(fan_in * fan_out for fan_in, fan_out in pairwise(sizes))
    require_memory(  # for the weights and their gradients
        f"a net with {num_weights:,} weights", 8.0 * num_weights, remedy="use smaller layers"
    )
    params = {}
    for k, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        if scheme == "glorot":
            params[f"weight_{k}"] = uniform(math.sqrt(6 / (fan_in + fan_out)), fan_out, fan_in)
            params[f"bias_{k}"] = torch.zeros(fan_out, device=generator.device, dtype=torch.float32)
        else:
            params[f"weight_{k}"] = uniform(1 / math.sqrt(fan_in), fan_out, fan_in)
            params[f"bias_{k}"] = uniform(1 / math.sqrt(fan_in), fan_out)
    return params


def mlp(
    params: dict[str, Tensor], inputs: Tensor, activation: Callable[[Tensor], Tensor]
) -> Tensor:
    """Outputs of the perceptron, for all tasks in one call if the parameters have a task axis.

    Args:
        params: as from `init_mlp`, or each with a leading task axis.
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


def layers_after_first(params: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of the perceptron without its first layer.

    >>> sorted(layers_after_first(init_mlp((3, 4, 2), torch.Generator())))
    ['bias_0', 'weight_0']
    """
    later = range(1, len(params) // 2)
    return {f"{kind}_{k - 1}": params[f"{kind}_{k}"] for k in later for kind in ("weight", "bias")}
