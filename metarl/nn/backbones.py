"""Networks of the few-shot learners, as pure functions of named parameters.

`init` samples parameters, `features` embeds points, `logits` adds a linear head. Data have a task
axis; a parameter has one too, or is shared by all tasks. A backbone holds sizes but no tensors.
Values that a learner adds to a task's parameters are read by name:
"context" (CAVIA), "running_mean_k" and "running_variance_k" (batch norm in evaluation).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from metarl.nn.mlp import Activation, activation_function, init_mlp, mlp
from metarl.parameters import Params

__all__ = ["Backbone", "Perceptron"]


class Backbone(Protocol):
    """An embedding with a linear head."""

    @property
    def num_features(self) -> int:
        """Length of an embedding."""

    @property
    def norm_names(self) -> tuple[str, ...]:
        """Names of the scales and offsets of normalization."""

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the head's weight and bias; () without a head."""

    def init(self, generator: torch.Generator) -> Params:
        """Initial parameters on the generator's device."""

    def features(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Tensor:
        """Embeddings [tasks, points, num_features] of inputs [tasks, points, *input_shape].

        `counts` (bool [tasks, points]) marks the points that enter the statistics of normalization.
        """

    def logits(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Tensor:
        """Outputs of the head, [tasks, points, num_outputs]."""

    def statistics(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Params:
        """Statistics of normalization by the names that evaluation reads, [tasks, C]; or {}."""


@dataclass(frozen=True)
class Perceptron:
    """A multilayer perceptron; its features are the last hidden layer."""

    input_shape: tuple[int, ...]
    num_outputs: int
    """Outputs of the head; 0: no head."""
    hidden_sizes: tuple[int, ...] = (40, 40)
    activation: Activation = "relu"
    num_context: int = 0
    """Number of additional inputs, taken from params["context"]."""

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
        """Weights and biases U(±1/√fan in), as in `torch.nn.Linear`."""
        sizes = (self._num_inputs, *self.hidden_sizes)
        outputs = (self.num_outputs,) if self.num_outputs else ()
        return init_mlp((*sizes, *outputs), generator, scheme="fan_in")

    def features(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Tensor:  # noqa: ARG002 - nothing is normalized
        """Embeddings [..., points, num_features]; parameters may carry a task axis."""
        points = self._points(params, inputs)
        if not self.hidden_sizes:
            return points
        hidden = {name: p for name, p in params.items() if name not in self.head_names}
        activation = activation_function(self.activation)
        return activation(mlp(hidden, points, activation))

    def logits(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Tensor:  # noqa: ARG002 - nothing is normalized
        """Outputs [..., points, num_outputs]; parameters may carry a task axis."""
        return mlp(params, self._points(params, inputs), activation_function(self.activation))

    def statistics(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Params:  # noqa: ARG002 - nothing is normalized
        return {}

    def _points(self, params: Params, inputs: Tensor) -> Tensor:
        points = inputs.flatten(-len(self.input_shape))
        if "context" not in params:
            return points
        context = params["context"].unsqueeze(-2)
        return torch.cat([points, context.expand(*points.shape[:-1], -1)], -1)
