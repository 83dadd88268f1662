"""Mean and variance of a stream, kept as a value: what observations are normalised by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["RunningMoments"]


@dataclass(frozen=True)
class RunningMoments:
    """Count, mean and variance of everything seen so far, in float64."""

    count: Tensor  # scalar
    mean: Tensor  # [O]
    variance: Tensor  # [O], the mean squared deviation

    def tensors(self) -> dict[str, Tensor]:
        """Its parts by name, for a checkpoint."""
        return {"count": self.count, "mean": self.mean, "variance": self.variance}

    @classmethod
    def empty(cls, size: int, device: torch.device) -> RunningMoments:
        """Nothing seen: mean 0 and variance 1, so that normalising only clips."""
        zeros = torch.zeros(size, dtype=torch.float64, device=device)
        return cls(zeros.new_zeros(()), zeros, zeros + 1)

    def updated(self, values: Tensor) -> RunningMoments:
        """The moments after more values [M, O] have been seen.

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
        """(values − mean) / standard deviation, within ±clip, in the dtype of `values`."""
        scale = (self.variance + 1e-8).rsqrt().to(values.dtype)
        return ((values - self.mean.to(values.dtype)) * scale).clamp(-clip, clip)
