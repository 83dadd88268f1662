"""A small policy network whose weights another network generates at each time step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from metarl.nn.mlp import init_mlp

__all__ = ["Hypernetwork"]


@dataclass(frozen=True)
class Hypernetwork:
    """A perceptron on the observation whose weights are a linear function of memory features.

        θ = W φ + b,   outputs = MLP_θ(observation)

    W starts at zero and b as the weights of an ordinary perceptron ("Bias-HyperInit"), so that the
    initial generated network is the same for all tasks; without this, training fails.

    Source: Beck et al. 2022 (arXiv:2210.11348), sec. 4; Beck et al. 2023 (arXiv:2309.14970).
    """

    feature_size: int
    sizes: tuple[int, ...]
    """Inputs, hidden sizes and outputs of the generated network."""

    def init(self, generator: torch.Generator, *, last_factor: float = 1.0) -> dict[str, Tensor]:
        """W [P, features] and b [P], P the number of weights of the generated network.

        Args:
            generator: random generator of the base network's weights.
            last_factor: factor of the initial weights of the last layer.
        """
        base = init_mlp(self.sizes, generator)
        base[f"weight_{len(self.sizes) - 2}"] *= last_factor
        bias = torch.cat([base[name].flatten() for name in self._shapes()])
        return {"weight": bias.new_zeros(len(bias), self.feature_size), "bias": bias}

    def outputs(
        self,
        params: dict[str, Tensor],
        features: Tensor,
        observations: Tensor,
        activation: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Outputs [..., sizes[-1]] from features [..., features] and observations [..., O]."""
        batch_shape = features.shape[:-1]
        generated = functional.linear(features.reshape(-1, self.feature_size), params["weight"])
        generated = generated + params["bias"]
        x = observations.reshape(-1, 1, self.sizes[0])
        shapes = self._shapes()
        parts = generated.split([math.prod(shape) for shape in shapes.values()], dim=-1)
        layers = dict(zip(shapes, parts, strict=True))
        for k in range(len(self.sizes) - 1):
            weight = layers[f"weight_{k}"].unflatten(-1, shapes[f"weight_{k}"])
            x = torch.baddbmm(layers[f"bias_{k}"].unsqueeze(-2), x, weight.mT)
            if k < len(self.sizes) - 2:
                x = activation(x)
        return x.reshape(*batch_shape, self.sizes[-1])

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for k, (fan_in, fan_out) in enumerate(pairwise(self.sizes)):
            shapes[f"weight_{k}"], shapes[f"bias_{k}"] = (fan_out, fan_in), (fan_out,)
        return shapes
