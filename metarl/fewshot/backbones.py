"""The nets that learners share, as pure functions of named parameters.

One interface: `init` draws parameters, `features` embeds points, `logits` adds a linear head. A
backbone holds sizes and no tensors. What a learner adds to a task's parameters is read by name:
"context" (CAVIA), "running_mean_k" and "running_variance_k" (batch norm in evaluation).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from metarl.bilevel import Params
from metarl.fewshot.batch_norm import Moments, batch_moments, normalize
from metarl.mlp import Activation, activation_function, init_mlp, mlp

__all__ = ["Backbone", "ConvNet", "Perceptron", "Pooling"]

Pooling = Literal["max", "stride"]
"""max: convolutions of stride 1, each followed by 2×2 max-pooling; features are the last maps,
flattened. stride: convolutions of stride 2; features are the means of the last maps."""

_FILM_LAYER = 2  # counted from 0


class Backbone(Protocol):
    """An embedding with a linear head."""

    @property
    def num_features(self) -> int:
        """Length of an embedding."""

    @property
    def batching(self) -> Literal["vmap", "explicit"]:
        """Whether the functions take one task, or tasks along leading axes of their own."""

    @property
    def norm_names(self) -> tuple[str, ...]:
        """Names of normalisation's scales and offsets."""

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the head's weight and bias; none without a head."""

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters on the generator's device."""

    def features(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Tensor:
        """Embeddings [points, num_features] of inputs [points, *input_shape].

        `counts` (bool [points]) says which points enter the statistics of normalisation.
        """

    def logits(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Tensor:
        """Outputs of the head, [points, num_outputs]."""

    def statistics(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Params:
        """Statistics of normalisation under the names that evaluation reads; {} without."""


@dataclass(frozen=True)
class Perceptron:
    """A multilayer perceptron; its features are the last hidden layer."""

    input_shape: tuple[int, ...]
    num_outputs: int
    """0: no head."""
    hidden_sizes: tuple[int, ...] = (40, 40)
    activation: Activation = "relu"
    num_context: int = 0
    """Inputs to be taken from params["context"], beside the point."""

    batching: Literal["vmap", "explicit"] = "explicit"

    @property
    def num_features(self) -> int:
        return (self._num_inputs, *self.hidden_sizes)[-1]

    @property
    def norm_names(self) -> tuple[str, ...]:
        return ()

    @property
    def head_names(self) -> tuple[str, ...]:
        last = len(self.hidden_sizes)
        return (f"weight_{last}", f"bias_{last}") if self.num_outputs else ()

    @property
    def _num_inputs(self) -> int:
        return math.prod(self.input_shape) + self.num_context

    def init(self, generator: torch.Generator) -> Params:
        """Weights and biases U(±1/√fan in), as torch draws them."""
        sizes = (self._num_inputs, *self.hidden_sizes)
        outputs = (self.num_outputs,) if self.num_outputs else ()
        return init_mlp((*sizes, *outputs), generator, scheme="fan_in")

    def features(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Tensor:  # noqa: ARG002 - nothing is normalised
        """Embeddings [..., points, num_features]; parameters may carry a task axis."""
        points = self._points(params, inputs)
        if not self.hidden_sizes:
            return points
        hidden = {name: p for name, p in params.items() if name not in self.head_names}
        activation = activation_function(self.activation)
        return activation(mlp(hidden, points, activation))

    def logits(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Tensor:  # noqa: ARG002 - nothing is normalised
        """Outputs [..., points, num_outputs]; parameters may carry a task axis."""
        return mlp(params, self._points(params, inputs), activation_function(self.activation))

    def statistics(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Params:  # noqa: ARG002 - nothing is normalised
        return {}

    def _points(self, params: Params, inputs: Tensor) -> Tensor:
        points = inputs.flatten(-len(self.input_shape))
        if "context" not in params:
            return points
        context = params["context"].unsqueeze(-2)
        return torch.cat([points, context.expand(*points.shape[:-1], -1)], -1)


class _Maps(NamedTuple):
    maps: Tensor  # [points, C, H, W]
    statistics: Params


@dataclass(frozen=True)
class ConvNet:
    """Blocks of 3×3 convolution, batch norm, ReLU and down-sampling; the "Conv-4" of the papers.

    Convolutions carry no bias: batch norm would take it away, and its offset stands for it.

    Source: Vinyals et al. 2016 (arXiv:1606.04080), sec. 4.1; the stride form: Finn et al. 2017.
    """

    input_shape: tuple[int, int, int]
    num_outputs: int
    """0: no head."""
    filters: tuple[int, ...] = (64, 64, 64, 64)
    pooling: Pooling = "max"
    num_pooled: int | None = None
    """How many of the first blocks down-sample; None: all."""
    num_slots: int = 1
    """Scales and offsets of batch norm, [num_slots, C]; the first is used, see `per-step`."""
    num_context: int = 0
    """Length of params["context"], which scales and shifts the maps of the third block."""

    batching: Literal["vmap", "explicit"] = "vmap"

    def __post_init__(self) -> None:
        if min(self.map_shape[1:]) < 1:
            raise ValueError(
                f"filters must be fewer than {len(self.filters)} for pictures of "
                f"{self.input_shape[1]}×{self.input_shape[2]}: nothing is left after pooling"
            )

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the last maps."""
        _, height, width = self.input_shape
        for k in range(len(self.filters)):
            if self._is_pooled(k):
                rest = 1 if self.pooling == "stride" else 0
                height, width = (height + rest) // 2, (width + rest) // 2
        return self.filters[-1], height, width

    @property
    def num_features(self) -> int:
        return self.filters[-1] if self.pooling == "stride" else math.prod(self.map_shape)

    @property
    def norm_names(self) -> tuple[str, ...]:
        return tuple(
            f"{kind}_{k}" for k in range(len(self.filters)) for kind in ("scale", "offset")
        )

    @property
    def head_names(self) -> tuple[str, ...]:
        return ("head_weight", "head_bias") if self.num_outputs else ()

    def init(self, generator: torch.Generator) -> Params:
        """Weights U(±√(6 / (fan in + fan out))) (Glorot), scales one, the rest zero."""
        params: Params = {}
        channels = (self.input_shape[0], *self.filters)
        for k, count in enumerate(self.filters):
            block = _init_block(channels[k], count, generator, num_slots=self.num_slots)
            params |= {f"{name}_{k}": p for name, p in block.items()}
        if self.num_outputs:
            head = init_mlp((self.num_features, self.num_outputs), generator)
            params |= {"head_weight": head["weight_0"], "head_bias": head["bias_0"]}
        if self.num_context:
            layer = min(_FILM_LAYER, len(self.filters) - 1)
            film = init_mlp((self.num_context, 2 * self.filters[layer]), generator)
            params |= {"film_weight": film["weight_0"], "film_bias": film["bias_0"]}
        return params

    def maps(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Tensor:
        """The last maps [points, C, H, W] of one task's inputs [points, *input_shape]."""
        return self._forward(params, inputs, counts).maps

    def features(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Tensor:
        """Embeddings [points, num_features] of one task."""
        maps = self.maps(params, inputs, counts)
        return maps.mean((-2, -1)) if self.pooling == "stride" else maps.flatten(1)

    def logits(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Tensor:
        """Outputs [points, num_outputs] of one task."""
        features = self.features(params, inputs, counts)
        return functional.linear(features, params["head_weight"], params["head_bias"])

    def statistics(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Params:
        """`running_mean_k` and `running_variance_k` [C] of one task."""
        return self._forward(params, inputs, counts).statistics

    def _forward(self, params: Params, maps: Tensor, counts: Tensor | None) -> _Maps:
        statistics: Params = {}
        for k in range(len(self.filters)):
            weight = params[f"weight_{k}"]
            maps = functional.conv2d(maps, weight, stride=self._stride(k), padding=1)
            moments = _moments(params, k, maps, counts)
            statistics[f"running_mean_{k}"], statistics[f"running_variance_{k}"] = moments
            maps = normalize(maps, moments, params[f"scale_{k}"][0], params[f"offset_{k}"][0])
            if "context" in params and k == min(_FILM_LAYER, len(self.filters) - 1):
                maps = _modulated(params, maps)
            maps = torch.relu(maps)
            if self.pooling == "max" and self._is_pooled(k):
                maps = functional.max_pool2d(maps, 2)
        return _Maps(maps, statistics)

    def _stride(self, block: int) -> int:
        return 2 if self.pooling == "stride" and self._is_pooled(block) else 1

    def _is_pooled(self, block: int) -> bool:
        return self.num_pooled is None or block < self.num_pooled


def _init_block(
    num_inputs: int, num_outputs: int, generator: torch.Generator, *, num_slots: int = 1
) -> Params:
    """Parameters of a 3×3 convolution and its batch norm: weight, scale, offset."""
    bound = math.sqrt(6 / (9 * (num_inputs + num_outputs)))
    shape = (num_outputs, num_inputs, 3, 3)
    uniform = torch.rand(shape, generator=generator, device=generator.device)
    slots = (num_slots, num_outputs)
    return {
        "weight": bound * (2 * uniform - 1),
        "scale": torch.ones(slots, device=generator.device),
        "offset": torch.zeros(slots, device=generator.device),
    }


def _moments(params: Params, k: int, maps: Tensor, counts: Tensor | None) -> Moments:
    if f"running_mean_{k}" in params:
        return Moments(params[f"running_mean_{k}"], params[f"running_variance_{k}"])
    return batch_moments(maps, counts)


def _modulated(params: Params, maps: Tensor) -> Tensor:
    """Maps scaled by 1 + γ and shifted by β, both linear in the context (FiLM)."""
    film = functional.linear(params["context"], params["film_weight"], params["film_bias"])
    scale, shift = film.chunk(2)
    return maps * (1 + scale).view(-1, 1, 1) + shift.view(-1, 1, 1)
