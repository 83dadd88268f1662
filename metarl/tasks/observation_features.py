"""Observations as numbers for networks and baselines: scaling by bounds, and random projection."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.tasks.observations import ImageColumns

__all__ = ["ObservationScaling", "RandomProjection"]

_LARGE, _PRACTICALLY_UNBOUNDED = 10.0, 1e6
_SEED = 0
_CHUNK_NUMBERS = 2**25
"""Numbers that are scaled and projected at a time."""


class ObservationScaling:
    """Float observations [..., O] with images and bounded numbers in a small range.

    Images are divided by their `scale`. Another number is mapped from its bounds to [−1, 1] if both
    are finite, one lies beyond ±10, and they are less than 10⁶ apart; wider bounds contain little
    information about the values. All other numbers are unchanged.
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


class RandomProjection:
    """Observations [..., O] mapped to a few numbers [..., size], which nearly keep their distances.

        z = P s / √O,   P_ij ~ N(0, 1), the same in every run

    A linear fit on z is a fit in a random subspace of all linear functions of the observation. Its
    cost does not depend on the resolution of images.

    Source: Ghavamzadeh et al. 2010 (LSTD with random projections, NeurIPS), sec. 3.
    """

    def __init__(
        self,
        observation_size: int,
        scaling: Callable[[Tensor], Tensor] | None = None,
        *,
        size: int = 64,
    ) -> None:
        """
        Args:
            observation_size: O.
            scaling: s, applied to observations first, such as `ObservationScaling`; None: s is the
                observation.
            size: numbers of a projection.
        """
        generator = torch.Generator().manual_seed(_SEED)
        matrix = torch.randn(observation_size, size, generator=generator, dtype=torch.float32)
        self._matrix, self._scaling = matrix / math.sqrt(observation_size), scaling

    def __call__(self, observations: Tensor) -> Tensor:
        """The projections, float32, on the device of the observations."""
        self._matrix = self._matrix.to(observations.device)
        rows = observations.flatten(0, -2)
        parts = rows.split(max(1, _CHUNK_NUMBERS // rows.shape[-1]))
        projected = torch.cat([self._projected(part) for part in parts])
        return torch.unflatten(projected, 0, observations.shape[:-1])

    def _projected(self, rows: Tensor) -> Tensor:
        scaled = rows if self._scaling is None else self._scaling(rows)
        return scaled.to(self._matrix.dtype) @ self._matrix
