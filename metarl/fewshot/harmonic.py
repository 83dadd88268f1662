"""Harmonic regression: two sines whose frequencies are one octave apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from metarl.fewshot.batches import EpisodeShape, FewShotBatch, LabelledSet, ProtocolFacts
from metarl.fewshot.sinusoid import require_curves, uniform
from metarl.ranges import require_between, require_pair

__all__ = ["HarmonicTasks"]


@dataclass(frozen=True)
class HarmonicTasks:
    """Tasks y = a₁ sin(ωx + b₁) + a₂ sin(2ωx + b₂) + ε, which have five parameters each.

    ω ~ U(5, 7), b ~ U(0, 2π), a ~ N(0, 1), inputs x ~ N(μ, 1) around the task's own μ ~ U(−4, 4),
    noise ε ~ N(0, σ²). All splits draw from the same distribution.

    Source: Lacoste et al. 2018 (arXiv:1806.07528), sec. 4.1.
    """

    name: ClassVar[str] = "harmonic"
    kind: ClassVar[Literal["regression"]] = "regression"
    input_shape: ClassVar[tuple[int, ...]] = (1,)
    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")

    frequency_range: tuple[float, float] = (5.0, 7.0)
    centre_range: tuple[float, float] = (-4.0, 4.0)
    """Of μ, the mean of a task's inputs."""
    noise: float = 0.1
    """σ, standard deviation of the noise on the targets."""

    def __post_init__(self) -> None:
        require_between("noise", self.noise, 0, math.inf)
        for name in ("frequency_range", "centre_range"):
            require_pair(name, getattr(self, name))

    @property
    def protocol(self) -> ProtocolFacts:
        """Ranges and noise, and that the splits do not differ."""
        low, high = self.frequency_range
        left, right = self.centre_range
        return {
            "frequency": f"uniform {low:g} … {high:g}",
            "centre": f"uniform {left:g} … {right:g}",
            "noise": self.noise,
            "split": "one distribution for all",
        }

    def sample(
        self, num_tasks: int, shape: EpisodeShape, *, split: str, generator: torch.Generator
    ) -> FewShotBatch:
        """Draw tasks and their points, as `SinusoidTasks.sample`."""
        require_curves(self.name, self.splits, num_tasks, shape, split)
        device = generator.device
        frequency = uniform((num_tasks, 1, 1), self.frequency_range, generator)
        centre = uniform((num_tasks, 1, 1), self.centre_range, generator)
        phases = uniform((num_tasks, 2, 1), (0.0, 2 * math.pi), generator)
        amplitudes = torch.randn((num_tasks, 2, 1), generator=generator, device=device)
        points = (num_tasks, shape.shots + shape.queries, 1)
        inputs = centre + torch.randn(points, generator=generator, device=device)
        noise = self.noise * torch.randn(points, generator=generator, device=device)
        targets = _curve(inputs, frequency, phases, amplitudes) + noise
        parts = [shape.shots, shape.queries]
        support, query = zip(inputs.split(parts, 1), targets.split(parts, 1), strict=True)
        return FewShotBatch(LabelledSet(*support), LabelledSet(*query))


def _curve(inputs: Tensor, frequency: Tensor, phases: Tensor, amplitudes: Tensor) -> Tensor:
    """Inputs [N, points, 1], frequency [N, 1, 1], phases and amplitudes [N, 2, 1]."""
    octaves = frequency * torch.tensor([1.0, 2.0], device=inputs.device)  # [N, 1, 2]
    waves = torch.sin(octaves * inputs + phases.mT)
    return waves @ amplitudes
