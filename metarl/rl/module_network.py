"""A policy's network from a factory of the user, as a pure function of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from metarl.nn.functional import functional_module
from metarl.parameters import Params
from metarl.registry import import_module
from metarl.rl.networks import (
    Scaling,
    apply_in_chunks,
    apply_scaling,
    apply_to_points,
    non_image_columns,
)
from metarl.tasks.observations import ImageColumns
from metarl.validation import short_repr

__all__ = ["Factory", "ModuleNetwork", "find_factory"]

Factory: TypeAlias = Callable[[spaces.Space[Any], int], nn.Module]
"""(observation_space, num_outputs) ↦ a module.

`observation_space` describes the inputs of the module's `forward`, without the leading axis of B
points:

- a Box [O] if observations contain no images;
- a Box [C, H, W] if they are one image;
- else a Dict of a Box [C, H, W] for each image, by its name, and a Box "numbers" [V].

Observations are float32 and scaled as by `ObservationScaling`. `forward` returns [B, num_outputs].
All parameters of the module are meta-learned; in MAML all of them adapt to each task. Buffers are
constant. The module must be one that `metarl.nn.functional.functional_module` accepts: without
dropout, running batch statistics, fused recurrent layers and fused attention.
"""

_PREFIX = "module:"  # so that names differ from all other parameters of the policy


class ModuleNetwork:
    """A network whose outputs are computed by a module; see `Factory`."""

    def __init__(
        self,
        factory: Factory,
        size: int,
        images: Sequence[ImageColumns],
        num_outputs: int,
        *,
        scaling: Scaling | None = None,
    ) -> None:
        """
        Args:
            factory: makes the module.
            size: O, size of an observation.
            images: the columns of observations that are images.
            num_outputs: numbers that the module must return for each observation.
            scaling: applied to observations first, such as `ObservationScaling`.

        Raises:
            ValueError: if the factory fails, or the module does not fit.
        """
        self._factory, self._images, self._num_outputs = factory, tuple(images), num_outputs
        self._scaling = scaling
        self._others = non_image_columns(images, size)
        self.input_space = self._input_space()
        self._apply, params = self._built(seed=0)
        self._first_name, self._first_dim = next((k, p.dim()) for k, p in params.items())
        self._require_outputs(params, torch.zeros(2, size, dtype=torch.float32))

    def init(self, generator: torch.Generator) -> Params:
        """Parameters of a new module, whose own initialization is seeded by the generator."""
        seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        _, params = self._built(seed=seed)
        return {name: p.to(generator.device) for name, p in params.items()}

    def outputs(self, params: Params, observations: Tensor) -> Tensor:
        task_axes = params[self._first_name].dim() - self._first_dim
        apply = self._outputs if not task_axes else torch.func.vmap(self._outputs)
        return apply_to_points(
            lambda flat: apply_in_chunks(lambda points: apply(params, points), flat),
            observations,
            task_axes,
        )

    def _outputs(self, params: Params, points: Tensor) -> Tensor:
        points = apply_scaling(self._scaling, points)
        inputs: Any = points
        if self._images:
            inputs = {image.name: image.image(points) for image in self._images}
            if self._others:
                inputs["numbers"] = points[..., self._others]
            elif len(self._images) == 1:
                inputs = inputs[self._images[0].name]
        outputs: Tensor = self._apply(_dotted(params), inputs)
        return outputs

    def _built(self, *, seed: int) -> tuple[Callable[..., Any], Params]:
        name = getattr(self._factory, "__name__", type(self._factory).__name__)
        with torch.random.fork_rng(devices=[]):  # modules draw from the global generator
            torch.manual_seed(seed)
            try:
                module = self._factory(self.input_space, self._num_outputs)
            except Exception as error:  # the user's own code may fail in any way
                raise ValueError(
                    f"policy_net failed: {name}(observation_space, num_outputs) raised "
                    f"{type(error).__name__}: {error}"
                ) from error
        if not isinstance(module, nn.Module):
            raise ValueError(f"policy_net must make a torch.nn.Module, got {short_repr(module)}")
        try:
            apply, params = functional_module(module)
        except ValueError as error:
            raise ValueError(f"policy_net must make a module that can adapt: {error}") from error
        return apply, {_PREFIX + k.replace(".", ":"): p for k, p in params.items()}

    def _require_outputs(self, params: Params, observations: Tensor) -> None:
        wanted = (len(observations), self._num_outputs)
        try:
            with torch.no_grad():
                found = self._outputs(params, observations)
        except Exception as error:  # the user's own code may fail in any way
            raise ValueError(
                f"policy_net failed on inputs of {self.input_space}: "
                f"{type(error).__name__}: {error}"
            ) from error
        shape = tuple(found.shape) if isinstance(found, Tensor) else short_repr(found)
        if shape != wanted:
            raise ValueError(
                f"policy_net must return outputs of shape {wanted} for {wanted[0]} observations, "
                f"got {shape}"
            )

    def _input_space(self) -> spaces.Space[Any]:
        images = {
            image.name: _unbounded(image.channels, image.height, image.width)
            for image in self._images
        }
        if not images:
            return _unbounded(len(self._others))
        if len(images) == 1 and not self._others:
            return next(iter(images.values()))
        numbers = {"numbers": _unbounded(len(self._others))} if self._others else {}
        return spaces.Dict(list((images | numbers).items()))


def find_factory(name: str) -> Factory:
    """The factory of a setting "module:attribute".

    Raises:
        ValueError: if it does not exist or cannot be called.
    """
    module_name, _, attribute = name.partition(":")
    module = import_module(module_name, option="policy_net")
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise ValueError(
            f"policy_net must name a function or class that module {module_name!r} defines, "
            f"got {attribute!r}"
        )
    found: Factory = factory
    return found


def _unbounded(*shape: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, shape, np.float32)


def _dotted(params: Params) -> Params:
    """Parameters by the names of the module; in an agent, names of parts contain no dots."""
    return {k.removeprefix(_PREFIX).replace(":", "."): p for k, p in params.items()}
