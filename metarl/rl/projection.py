"""A fixed random projection, for baselines on images and other long observations."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["RandomProjection"]

_SEED = 0
_CHUNK_NUMBERS = 2**25
"""Numbers that are scaled and projected at a time."""


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
        matrix = torch.randn(observation_size, size, generator=generator)
        self._matrix, self._scaling = matrix / math.sqrt(observation_size), scaling

    def __call__(self, observations: Tensor) -> Tensor:
        """The projections, float32, on the device of the observations."""
        self._matrix = self._matrix.to(observations.device)
        rows = observations.flatten(0, -2)
        parts = rows.split(max(1, _CHUNK_NUMBERS // rows.shape[-1]))
        projected = torch.cat([self._projected(part) for part in parts])
        return projected.unflatten(0, observations.shape[:-1])

    def _projected(self, rows: Tensor) -> Tensor:
        scaled = rows if self._scaling is None else self._scaling(rows)
        return scaled.to(self._matrix.dtype) @ self._matrix
