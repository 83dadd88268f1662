"""Scaling of observations for networks and baselines, from the bounds of their space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.tasks.observations import ImageColumns

__all__ = ["ObservationScaling"]

_LARGE, _PRACTICALLY_UNBOUNDED = 10.0, 1e6


class ObservationScaling:
    """Float observations [..., O] with images and bounded numbers in a small range.

    Images are divided by their `scale`. Another number is mapped from its bounds to [−1, 1] if both
    are finite, one lies beyond ±10, and they are less than 10⁶ apart; wider bounds say little about
    the values. All other numbers are unchanged.
    """

    def __init__(
        self, space: spaces.Box, images: Sequence[ImageColumns] = (), *, enabled: bool = True
    ) -> None:
        """
        Args:
            space: flat space of the observations.
            images: the columns that are images.
            enabled: False leaves all numbers unchanged, as floats.
        """
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):  # infinite bounds
            width, center = high - low, (low + high) / 2
            is_large = np.maximum(np.abs(low), np.abs(high)) > _LARGE
            is_scaled = is_large & (width > 0) & (width < _PRACTICALLY_UNBOUNDED)
        offset, divisor = np.where(is_scaled, center, 0.0), np.where(is_scaled, width / 2, 1.0)
        for image in images:
            columns = slice(image.first, image.first + image.size)
            offset[columns], divisor[columns] = 0.0, image.scale
        self._is_identity = not enabled or not (offset.any() or (divisor != 1).any())
        same = (offset == offset[0]).all() and (divisor == divisor[0]).all()
        kept = slice(0, 1) if same else slice(None)  # one number for images only
        self._offset = torch.as_tensor(offset[kept], dtype=torch.float32)
        self._factor = torch.as_tensor(1 / divisor[kept], dtype=torch.float32)

    def __call__(self, observations: Tensor) -> Tensor:
        """Scaled observations; the same tensor if nothing is scaled."""
        if not observations.is_floating_point():
            observations = observations.to(torch.float32)
        if self._is_identity:
            return observations
        offset, factor = (t.to(observations) for t in (self._offset, self._factor))
        return (observations - offset) * factor
