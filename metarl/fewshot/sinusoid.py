"""Sinusoid regression: the smallest benchmark on which adaptation can be seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["FewShotBatch", "SinusoidTasks"]


class FewShotBatch(NamedTuple):
    """Support and query of all tasks, each a pair (inputs, targets)."""

    support: tuple[Tensor, Tensor]  # [tasks, shots, 1] both
    query: tuple[Tensor, Tensor]  # [tasks, queries, 1] both


@dataclass(frozen=True)
class SinusoidTasks:
    """Tasks y = A sin(x − φ) with amplitude A ~ U(.1, 5), phase φ ~ U(0, π), x ~ U(−5, 5).

    Source: Finn et al. 2017 (arXiv:1703.03400), sec. 5.1.
    """

    amplitude_range: tuple[float, float] = (0.1, 5.0)
    phase_range: tuple[float, float] = (0.0, math.pi)
    input_range: tuple[float, float] = (-5.0, 5.0)

    def sample(
        self, num_tasks: int, shots: int, queries: int, generator: torch.Generator
    ) -> FewShotBatch:
        """Draw tasks and their points.

        Args:
            num_tasks: N.
            shots: support points per task, drawn at random.
            queries: query points per task, drawn at random.
            generator: its device is the batch's.
        """
        amplitude, phase = self._draw_tasks(num_tasks, generator)
        support = _uniform((num_tasks, shots, 1), self.input_range, generator)
        query = _uniform((num_tasks, queries, 1), self.input_range, generator)
        return FewShotBatch(
            (support, amplitude * torch.sin(support - phase)),
            (query, amplitude * torch.sin(query - phase)),
        )

    def sample_for_test(
        self, num_tasks: int, shots: int, generator: torch.Generator, *, grid_points: int = 100
    ) -> FewShotBatch:
        """Tasks whose query is an even grid over the inputs: the error of the whole curve."""
        amplitude, phase = self._draw_tasks(num_tasks, generator)
        support = _uniform((num_tasks, shots, 1), self.input_range, generator)
        grid = torch.linspace(*self.input_range, grid_points, device=generator.device)
        query = grid.view(1, -1, 1).expand(num_tasks, -1, -1)
        return FewShotBatch(
            (support, amplitude * torch.sin(support - phase)),
            (query, amplitude * torch.sin(query - phase)),
        )

    def _draw_tasks(self, num_tasks: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        shape = (num_tasks, 1, 1)
        return (
            _uniform(shape, self.amplitude_range, generator),
            _uniform(shape, self.phase_range, generator),
        )


def _uniform(
    shape: tuple[int, ...], bounds: tuple[float, float], generator: torch.Generator
) -> Tensor:
    low, high = bounds
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)
