"""Running mean and variance, for normalizing observations and returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["RunningMoments"]


@dataclass(frozen=True)
class RunningMoments:
    """Count, mean and variance of all values so far, in float64; immutable."""

    count: Tensor  # scalar
    mean: Tensor  # [O]
    variance: Tensor  # [O], the mean squared deviation

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, for a checkpoint."""
        return {"count": self.count, "mean": self.mean, "variance": self.variance}

    @classmethod
    def empty(cls, size: int, device: torch.device) -> RunningMoments:
        """Moments before any value: mean 0 and variance 1, so that normalizing only clips."""
        zeros = torch.zeros(size, dtype=torch.float64, device=device)
        return cls(zeros.new_zeros(()), zeros, zeros + 1)

    def updated(self, values: Tensor) -> RunningMoments:
        """The moments after M more values [M, O].

        Source: Chan, Golub & LeVeque 1979, eq. 2.1 (the parallel update).
        """
        new = values.double()
        count = float(len(new))
        if not count:
            return self
        mean, variance = new.mean(0), new.var(0, correction=0)
        total = self.count + count
        shift = mean - self.mean
        squares = self.variance * self.count + variance * count
        squares = squares + shift.square() * self.count * count / total
        return RunningMoments(total, self.mean + shift * count / total, squares / total)

    def normalized(self, values: Tensor, *, clip: float = 10.0) -> Tensor:
        """(values − mean) / standard deviation, clipped to ±clip, in the dtype of `values`."""
        scale = (self.variance + 1e-8).rsqrt().to(values.dtype)
        return ((values - self.mean.to(values.dtype)) * scale).clamp(-clip, clip)
