"""Networks of policies as pure functions: perceptrons, convolutional nets, and nets of the user.

A network maps observations [..., O] to outputs [..., num_outputs]. With `scaling`, such as
`ObservationScaling`, it scales them first; bytes become floats for a few observations at a time.
Its parameters are shared by all tasks, or all have a leading task axis; then observations have one
too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from metarl.nn.mlp import Activation, activation_function, init_mlp, mlp
from metarl.nn.pixel_net import PixelNet
from metarl.parameters import Params
from metarl.tasks.observations import ImageColumns

__all__ = [
    "Network",
    "PerceptronNetwork",
    "PixelNetwork",
    "Scaling",
    "apply_in_chunks",
    "apply_to_points",
    "non_image_columns",
    "apply_scaling",
]

_CHUNK = 2048
"""Observations that a large network processes at a time if no gradients are needed."""


Scaling: TypeAlias = Callable[[Tensor], Tensor]
"""Observations [..., O] ↦ floats [..., O]."""


class Network(Protocol):
    """A function of observations with named parameters."""

    def init(self, generator: torch.Generator) -> Params:
        """Initial parameters on the generator's device, without a task axis."""

    def outputs(self, params: Params, observations: Tensor) -> Tensor:
        """Outputs [..., num_outputs] of observations [..., O], or [tasks, ..., O]."""


@dataclass(frozen=True)
class PerceptronNetwork:
    """A multilayer perceptron."""

    sizes: tuple[int, ...]
    """Numbers of inputs, hidden units … and outputs."""
    activation: Activation = "relu"
    scaling: Scaling | None = field(default=None, compare=False)

    def init(self, generator: torch.Generator) -> Params:
        return init_mlp(self.sizes, generator)

    def outputs(self, params: Params, observations: Tensor) -> Tensor:
        observations = apply_scaling(self.scaling, observations)
        activation = activation_function(self.activation)
        task_axes = params["bias_0"].dim() - 1
        return apply_to_points(lambda flat: mlp(params, flat, activation), observations, task_axes)


@dataclass(frozen=True)
class PixelNetwork:
    """A convolutional net for each image, and a perceptron on their features and other numbers."""

    images: tuple[ImageColumns, ...]
    observation_size: int
    num_outputs: int
    hidden_sizes: tuple[int, ...] = ()
    activation: Activation = "relu"
    scaling: Scaling | None = field(default=None, compare=False)

    def init(self, generator: torch.Generator) -> Params:
        params: Params = {}
        for k, net in enumerate(self._nets):
            params |= {f"image_{k}_{name}": p for name, p in net.init(generator).items()}
        features = sum(net.num_features for net in self._nets)
        num_inputs = features + len(non_image_columns(self.images, self.observation_size))
        sizes = (num_inputs, *self.hidden_sizes, self.num_outputs)
        return params | init_mlp(sizes, generator)

    def outputs(self, params: Params, observations: Tensor) -> Tensor:
        task_axes = params["bias_0"].dim() - 1
        return apply_to_points(
            lambda flat: apply_in_chunks(lambda points: self._outputs(params, points), flat),
            observations,
            task_axes,
        )

    def _outputs(self, params: Params, observations: Tensor) -> Tensor:
        """Outputs [(tasks,) points, num_outputs] of observations [(tasks,) points, O]."""
        points = observations if observations.dim() == 3 else observations.unsqueeze(0)
        points = apply_scaling(self.scaling, points)
        parts = []
        for k, (net, image) in enumerate(zip(self._nets, self.images, strict=True)):
            filters = _without_prefix(params, f"image_{k}_")
            parts.append(net.features(filters, image.image(points)))
        others = non_image_columns(self.images, self.observation_size)
        if others:
            parts.append(points[..., others])
        features = torch.cat(parts, -1).view(*observations.shape[:-1], -1)
        perceptron = {k: p for k, p in params.items() if not k.startswith("image_")}
        return mlp(perceptron, features, activation_function(self.activation))

    @property
    def _nets(self) -> list[PixelNet]:
        return [PixelNet((image.channels, image.height, image.width)) for image in self.images]


def apply_scaling(scaling: Scaling | None, observations: Tensor) -> Tensor:
    """Observations after optional scaling."""
    return observations if scaling is None else scaling(observations)


def non_image_columns(images: Sequence[ImageColumns], size: int) -> list[int]:
    """The columns of observations [O = size] that do not belong to an image."""
    taken = {k for image in images for k in range(image.first, image.first + image.size)}
    return [k for k in range(size) if k not in taken]


def apply_to_points(
    function: Callable[[Tensor], Tensor], observations: Tensor, task_axes: int
) -> Tensor:
    """Apply a function of [(tasks,) points, O] to observations with any number of axes between."""
    middle = observations.shape[task_axes:-1]
    flat = observations.flatten(task_axes, -2) if middle else observations.unsqueeze(-2)
    outputs = function(flat)
    return outputs.unflatten(task_axes, middle) if middle else outputs.squeeze(-2)


def apply_in_chunks(function: Callable[[Tensor], Tensor], flat: Tensor) -> Tensor:
    """Apply a function of [(tasks,) points, O] to some points at a time, if without gradients.

    Hidden layers of all steps of all episodes can need much more memory than the episodes.
    """
    num_tasks = len(flat) if flat.dim() == 3 else 1
    if torch.is_grad_enabled() or num_tasks * flat.shape[-2] <= _CHUNK:
        return function(flat)
    size = max(1, _CHUNK // num_tasks)
    return torch.cat([function(points) for points in flat.split(size, -2)], -2)


def _without_prefix(params: Params, prefix: str) -> Params:
    return {k.removeprefix(prefix): p for k, p in params.items() if k.startswith(prefix)}
