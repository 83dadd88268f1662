"""Action distributions from the outputs of a network, for every action space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.rl.distributions import (
    Categorical,
    DiagonalGaussian,
    Distribution,
    JointDistribution,
    MultiCategorical,
)
from metarl.tasks.actions import ActionLayout, BoxColumns, ChoiceColumns
from metarl.validation import require_between

__all__ = ["ActionHead"]


@dataclass(frozen=True)
class ActionHead:
    """Normal distributions for boxes, categorical ones for choices, independent of each other.

    The standard deviation is learned and does not depend on the state. If `action_divisor` is None,
    the outputs are in units of the box: 0 is its center and ±1 are its bounds. A dimension without
    both bounds has unit 1, with the origin at its bound or at 0. If `action_divisor` is a number,
    the actions are the outputs divided by it; published code often implements this by rescaling
    the environment. Likelihood ratios and their gradients do not depend on the units.
    """

    action_space: gymnasium.Space[Any]
    initial_std: float = 1.0
    min_std: float = 1e-6
    action_divisor: float | None = None

    def __post_init__(self) -> None:
        for name in ("initial_std", "min_std", "action_divisor"):
            value = getattr(self, name)
            if value is not None:
                require_between(name, value, 0, math.inf, open_low=True)
        self.layout  # noqa: B018 - raises for spaces that have no layout

    @cached_property
    def layout(self) -> ActionLayout:
        """The layout of actions in rows of numbers."""
        return ActionLayout(self.action_space)

    @property
    def size(self) -> int:
        """Number of outputs of the network."""
        return self.layout.encoded_size

    def init(self, device: torch.device) -> dict[str, Tensor]:
        """Parameters of the head: `log_std` [numbers of the boxes], or none without boxes."""
        count = sum(part.size for part in self.layout.parts if isinstance(part, BoxColumns))
        if not count:
            return {}
        return {
            "log_std": torch.full(
                (count,), math.log(self.initial_std), device=device, dtype=torch.float32
            )
        }

    def distribution(self, outputs: Tensor, log_std: Tensor | None = None) -> Distribution:
        """The distribution of actions.

        Args:
            outputs: outputs of the network, [..., size].
            log_std: the parameter `log_std`, if there are boxes. Shape [numbers], or with leading
                axes that broadcast with the leading axes of `outputs`.
        """
        parts = self.layout.parts
        if isinstance(self.action_space, spaces.Discrete):
            return Categorical(outputs, int(self.action_space.start))
        if len(parts) == 1:
            return self._part(parts[0], outputs, log_std)
        pieces = outputs.split([part.size for part in parts], -1)
        made: list[DiagonalGaussian | MultiCategorical] = []
        first = 0
        for part, piece in zip(parts, pieces, strict=True):
            used = None
            if isinstance(part, BoxColumns):
                assert log_std is not None
                used = log_std[..., first : first + part.size]
                first += part.size
            made.append(self._part(part, piece, used))
        widths = [len(p.sizes) if isinstance(p, ChoiceColumns) else p.size for p in parts]
        return JointDistribution(tuple(made), tuple(widths))

    def _part(
        self, part: BoxColumns | ChoiceColumns, outputs: Tensor, log_std: Tensor | None
    ) -> DiagonalGaussian | MultiCategorical:
        if isinstance(part, ChoiceColumns):
            return MultiCategorical(outputs, part.sizes, part.starts)
        assert log_std is not None
        mean, log_std = self._in_env_units(part, outputs, log_std.clamp(min=math.log(self.min_std)))
        return DiagonalGaussian(mean, log_std if log_std.dim() > 1 else log_std.expand_as(mean))

    def _in_env_units(
        self, part: BoxColumns, outputs: Tensor, log_std: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.action_divisor == 1:
            return outputs, log_std
        if self.action_divisor is not None:
            return outputs / self.action_divisor, log_std - math.log(self.action_divisor)
        center, half_width = part.center, part.half_width
        if not center.any() and (half_width == 1).all():
            return outputs, log_std
        numbers = np.stack([center, half_width, np.log(half_width)])
        shift, scale, log_scale = torch.as_tensor(
            numbers, dtype=outputs.dtype, device=outputs.device
        )
        return shift + scale * outputs, log_std + log_scale
