"""Glyphs of random strokes: few-shot image classification that needs no download.

A class is a few random curved strokes. Its examples are these strokes with jittered control points,
rotated, sheared, scaled and shifted a little. Images are rendered when they are sampled, so all
examples differ and a class has any number of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from metarl.fewshot.data.batches import EpisodeRanges, EpisodeShape, FewShotBatch, ProtocolFacts
from metarl.fewshot.data.class_tasks import require_same_device
from metarl.fewshot.data.episodes import require_classes_for, sample_classes, split_episode, varied
from metarl.seeding import torch_generator
from metarl.validation import lookup, require_at_least, require_between

__all__ = ["GlyphTasks", "render_strokes"]

_SPLITS = {"train": (0, 1000), "validation": (1000, 1100), "test": (1100, 1500)}
_NUM_GLYPHS = 1500
_MAX_STROKES = 4
_POINTS_PER_STROKE = 32
_PEN = torch.tensor([[0.1, 0.3, 0.1], [0.3, 1.0, 0.3], [0.1, 0.3, 0.1]], dtype=torch.float32)


@dataclass(frozen=True)
class GlyphTasks:
    """Classification of glyphs: 1,000 training, 100 validation and 400 test classes.

    Not from a paper; it replaces Omniglot in demonstrations and tests.
    """

    name: ClassVar[str] = "glyphs"
    kind: ClassVar[Literal["classification"]] = "classification"
    input_shape: ClassVar[tuple[int, ...]] = (1, 28, 28)
    splits: ClassVar[tuple[str, ...]] = tuple(_SPLITS)

    glyph_seed: int = 0
    """Seed of the classes."""
    shake: float = 0.04
    """Standard deviation of a stroke's control points between examples, in image sides."""
    distortion: float = 0.12
    """Standard deviation of rotation (radians), shear and scaling between examples."""
    device: torch.device | str = "cpu"
    """Device of the images."""
    _strokes: Tensor = field(init=False, repr=False, compare=False)
    _inked: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("shake", "distortion"):
            require_between(name, getattr(self, name), 0, 1)
        generator = torch_generator(self.glyph_seed, "glyphs")
        controls = torch.rand(
            (_NUM_GLYPHS, _MAX_STROKES, 3, 2), generator=generator, dtype=torch.float32
        )
        strokes = torch.randint(2, _MAX_STROKES + 1, (_NUM_GLYPHS, 1), generator=generator)
        object.__setattr__(self, "_strokes", (0.1 + 0.8 * controls).to(self.device))
        inked = torch.arange(_MAX_STROKES) < strokes
        object.__setattr__(self, "_inked", inked.to(self.device))

    @property
    def protocol(self) -> ProtocolFacts:
        """Seed, amount of variation, and split."""
        return {
            "glyph_seed": self.glyph_seed,
            "shake": self.shake,
            "distortion": self.distortion,
            "split": ", ".join(f"{high - low} {name}" for name, (low, high) in _SPLITS.items()),
        }

    def sample(
        self, num_tasks: int, shape: EpisodeShape, *, split: str, generator: torch.Generator
    ) -> FewShotBatch:
        """Sample episodes and render their images, ink 1 on background 0.

        Raises:
            ValueError: if the split is unknown or has too few classes, or the generator is on
                another device.
        """
        numbers = self._numbers(split)
        require_at_least("num_tasks", num_tasks, 1)
        require_classes_for(shape.ways, len(numbers), f"split {split!r} of {self.name}")
        require_same_device(generator, self._strokes.device)
        classes = numbers[sample_classes(num_tasks, len(numbers), shape.ways, generator)]
        examples = classes.unsqueeze(-1).expand(-1, -1, shape.shots + shape.queries)
        return split_episode(self._render(examples, generator), shape)

    def sample_variable(
        self, num_tasks: int, ranges: EpisodeRanges, *, split: str, generator: torch.Generator
    ) -> FewShotBatch:
        """Sample episodes of varying ways and shots, padded to the largest and masked.

        A task with `w` ways has the classes 0 … w − 1. Inputs that do not count are zero.

        Raises:
            ValueError: as `sample`, for the largest shape.
        """
        batch = self.sample(num_tasks, ranges.largest, split=split, generator=generator)
        return varied(batch, ranges, generator)

    def num_classes(self, split: str) -> int:
        """Number of classes of a split."""
        return len(self._numbers(split))

    def sample_points(
        self, num_points: int, *, split: str, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Sample labeled images without episodes, for a classifier of all classes of a split.

        Returns:
            Inputs [points, 1, 28, 28] of uniformly sampled classes, and labels, int64 [points].
        """
        require_same_device(generator, self._strokes.device)
        numbers = self._numbers(split)
        labels = torch.randint(
            len(numbers), (num_points,), generator=generator, device=generator.device
        )
        return self._render(numbers[labels], generator), labels

    def _numbers(self, split: str) -> Tensor:
        """Indices of the classes of a split, or of several joined by "+", int64."""
        ranges = [lookup("split", part, _SPLITS) for part in split.split("+")]
        numbers = [torch.arange(*bounds, device=self._strokes.device) for bounds in ranges]
        return torch.cat(numbers)

    def _render(self, classes: Tensor, generator: torch.Generator) -> Tensor:
        """Render one example of each class [...]: images [..., *input_shape]."""
        flat = classes.flatten()
        strokes = self._distorted(self._strokes[flat], generator)
        images = render_strokes(strokes, self._inked[flat], self.input_shape[1])
        return images.view(*classes.shape, *self.input_shape)

    def _distorted(self, strokes: Tensor, generator: torch.Generator) -> Tensor:
        """Control points of one example of each glyph, [..., strokes, 3, 2]."""

        def normal(*shape: int) -> Tensor:
            return torch.randn(
                shape, generator=generator, device=generator.device, dtype=torch.float32
            )

        lead = strokes.shape[:-3]
        jittered = strokes + self.shake * normal(*strokes.shape)
        linear = torch.eye(
            2, device=strokes.device, dtype=torch.float32
        ) + self.distortion * normal(*lead, 1, 2, 2)
        center = 0.5 + self.shake * normal(*lead, 1, 1, 2)
        return (jittered - 0.5) @ linear + center


def render_strokes(controls: Tensor, inked: Tensor, side: int) -> Tensor:
    """Render quadratic Bézier strokes: ink is placed along each and spread by a 3×3 kernel.

        p(t) = (1 − t)² c₀ + 2t(1 − t) c₁ + t² c₂,   t in [0, 1]

    The ink of each point is divided among the four nearest pixels. Ink outside the image is lost.

    Args:
        controls: c, (x, y) in units of the image side, [images, strokes, 3, 2].
        inked: which strokes are drawn, bool [images, strokes].
        side: height and width in pixels.

    Returns:
        [images, side, side] float32 in 0 … 1.
    """
    t = torch.linspace(0, 1, _POINTS_PER_STROKE, device=controls.device, dtype=torch.float32)
    weights = torch.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], -1)
    places = (weights @ controls).flatten(1, 2) * side - 0.5  # [images, points, 2]
    ink = inked.repeat_interleave(_POINTS_PER_STROKE, 1).to(places.dtype)
    corner = places.floor()
    share = places - corner
    images = places.new_zeros(len(places), side * side)
    for right in (0, 1):
        for down in (0, 1):
            column, row = (corner + corner.new_tensor([right, down])).long().unbind(-1)
            inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
            across = share[..., 0] if right else 1 - share[..., 0]
            along = share[..., 1] if down else 1 - share[..., 1]
            pixel = (row * side + column).where(inside, 0)
            images.scatter_add_(1, pixel, ink * across * along * inside)
    pen = _PEN.to(images).view(1, 1, 3, 3)
    spread = functional.conv2d(images.view(-1, 1, side, side), pen, padding=1)
    return spread.squeeze(1).clamp_(max=1)
