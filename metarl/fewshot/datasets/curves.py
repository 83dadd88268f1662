"""Regression tasks: sinusoids, and sums of two sines whose frequencies are one octave apart.

Sinusoid regression is the smallest benchmark that shows adaptation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from metarl.fewshot.data.batches import EpisodeShape, FewShotBatch, LabeledSet, ProtocolFacts
from metarl.validation import require_at_least, require_between, require_pair, unknown_name

__all__ = ["SinusoidTasks", "require_curves", "uniform", "HarmonicTasks"]


@dataclass(frozen=True)
class SinusoidTasks:
    """Tasks y = A sin(x − φ) with amplitude A ~ U(.1, 5), phase φ ~ U(0, π), x ~ U(−5, 5).

    All splits sample from the same distribution and differ in the generator's seed only.

    Source: Finn et al. 2017 (arXiv:1703.03400), sec. 5.1.
    """

    name: ClassVar[str] = "sinusoid"
    kind: ClassVar[Literal["regression"]] = "regression"
    input_shape: ClassVar[tuple[int, ...]] = (1,)
    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")

    amplitude_range: tuple[float, float] = (0.1, 5.0)
    phase_range: tuple[float, float] = (0.0, math.pi)
    input_range: tuple[float, float] = (-5.0, 5.0)

    def __post_init__(self) -> None:
        for name in ("amplitude_range", "phase_range", "input_range"):
            require_pair(name, getattr(self, name))

    @property
    def protocol(self) -> ProtocolFacts:
        """The three ranges and the split."""
        ranges = {
            "amplitude": self.amplitude_range,
            "phase": self.phase_range,
            "input": self.input_range,
        }
        facts = {name: f"uniform {low:g} … {high:g}" for name, (low, high) in ranges.items()}
        return {**facts, "split": "one distribution for all"}

    def sample(
        self, num_tasks: int, shape: EpisodeShape, *, split: str, generator: torch.Generator
    ) -> FewShotBatch:
        """Sample tasks and their points.

        Args:
            num_tasks: number of tasks.
            shape: ways must be 1; shots and queries are per task.
            split: one of `splits`.
            generator: determines the device of the batch.

        Raises:
            ValueError: if the split is unknown or the shape has more than one way.
        """
        require_curves(self.name, self.splits, num_tasks, shape, split)
        amplitude, phase = self._sample_tasks(num_tasks, generator)
        support = uniform((num_tasks, shape.shots, 1), self.input_range, generator)
        query = uniform((num_tasks, shape.queries, 1), self.input_range, generator)
        return FewShotBatch(
            LabeledSet(support, amplitude * torch.sin(support - phase)),
            LabeledSet(query, amplitude * torch.sin(query - phase)),
        )

    def sample_for_test(
        self, num_tasks: int, shots: int, generator: torch.Generator, *, grid_points: int = 100
    ) -> FewShotBatch:
        """Sample tasks whose query is an even grid over the inputs, to measure the whole curve."""
        amplitude, phase = self._sample_tasks(num_tasks, generator)
        support = uniform((num_tasks, shots, 1), self.input_range, generator)
        grid = torch.linspace(
            *self.input_range, grid_points, device=generator.device, dtype=torch.float32
        )
        query = grid.view(1, -1, 1).expand(num_tasks, -1, -1)
        return FewShotBatch(
            LabeledSet(support, amplitude * torch.sin(support - phase)),
            LabeledSet(query, amplitude * torch.sin(query - phase)),
        )

    def _sample_tasks(self, num_tasks: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        shape = (num_tasks, 1, 1)
        return (
            uniform(shape, self.amplitude_range, generator),
            uniform(shape, self.phase_range, generator),
        )


def uniform(
    shape: tuple[int, ...], bounds: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Sample uniformly between two bounds, on the generator's device."""
    low, high = bounds
    return low + (high - low) * torch.rand(
        shape, generator=generator, device=generator.device, dtype=torch.float32
    )


def require_curves(
    name: str, splits: tuple[str, ...], num_tasks: int, shape: EpisodeShape, split: str
) -> None:
    """Reject arguments that do not fit regression tasks.

    Raises:
        ValueError: if the split is unknown, or the shape has more than one way.
    """
    if split not in splits:
        raise ValueError(unknown_name("split", split, splits))
    require_at_least("num_tasks", num_tasks, 1)
    if shape.ways != 1:
        raise ValueError(f"ways must be 1 for {name}, which is regression, got {shape.ways}")


@dataclass(frozen=True)
class HarmonicTasks:
    """Tasks y = a₁ sin(ωx + b₁) + a₂ sin(2ωx + b₂) + ε, with five parameters each.

    ω ~ U(5, 7), b ~ U(0, 2π), a ~ N(0, 1), inputs x ~ N(μ, 1) with a separate μ ~ U(−4, 4) for each
    task, noise ε ~ N(0, σ²). All splits sample from the same distribution.

    Source: Lacoste et al. 2018 (arXiv:1806.07528), sec. 4.1.
    """

    name: ClassVar[str] = "harmonic"
    kind: ClassVar[Literal["regression"]] = "regression"
    input_shape: ClassVar[tuple[int, ...]] = (1,)
    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")

    frequency_range: tuple[float, float] = (5.0, 7.0)
    center_range: tuple[float, float] = (-4.0, 4.0)
    """Range of μ, the mean of a task's inputs."""
    noise: float = 0.1
    """σ, standard deviation of the noise on the targets."""

    def __post_init__(self) -> None:
        require_between("noise", self.noise, 0, math.inf)
        for name in ("frequency_range", "center_range"):
            require_pair(name, getattr(self, name))

    @property
    def protocol(self) -> ProtocolFacts:
        """Ranges, noise and the split."""
        low, high = self.frequency_range
        left, right = self.center_range
        return {
            "frequency": f"uniform {low:g} … {high:g}",
            "center": f"uniform {left:g} … {right:g}",
            "noise": self.noise,
            "split": "one distribution for all",
        }

    def sample(
        self, num_tasks: int, shape: EpisodeShape, *, split: str, generator: torch.Generator
    ) -> FewShotBatch:
        """Sample tasks and their points; see `SinusoidTasks.sample`."""
        require_curves(self.name, self.splits, num_tasks, shape, split)
        device = generator.device
        frequency = uniform((num_tasks, 1, 1), self.frequency_range, generator)
        center = uniform((num_tasks, 1, 1), self.center_range, generator)
        phases = uniform((num_tasks, 2, 1), (0.0, 2 * math.pi), generator)
        amplitudes = torch.randn(
            (num_tasks, 2, 1), generator=generator, device=device, dtype=torch.float32
        )
        points = (num_tasks, shape.shots + shape.queries, 1)
        inputs = center + torch.randn(
            points, generator=generator, device=device, dtype=torch.float32
        )
        noise = self.noise * torch.randn(
            points, generator=generator, device=device, dtype=torch.float32
        )
        targets = _curve(inputs, frequency, phases, amplitudes) + noise
        parts = [shape.shots, shape.queries]
        support, query = zip(inputs.split(parts, 1), targets.split(parts, 1), strict=True)
        return FewShotBatch(LabeledSet(*support), LabeledSet(*query))


def _curve(inputs: Tensor, frequency: Tensor, phases: Tensor, amplitudes: Tensor) -> Tensor:
    """Noiseless targets for inputs [N, points, 1]; frequency [N, 1, 1], the others [N, 2, 1]."""
    octaves = frequency * torch.tensor(
        [1.0, 2.0], dtype=torch.float32, device=inputs.device
    )  # [N, 1, 2]
    waves = torch.sin(octaves * inputs + phases.mT)
    return waves @ amplitudes
