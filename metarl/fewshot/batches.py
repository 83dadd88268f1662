"""What a few-shot learner sees: support and query of all tasks as one batch of tensors.

The data sets make such batches and the learners take them; neither knows the other. A set of
points is a pytree of tensors with leading axis tasks, which is all that `metarl.bilevel` asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from metarl.ranges import require_at_least

__all__ = [
    "EpisodeShape",
    "FewShotBatch",
    "FewShotTasks",
    "LabelledSet",
    "ProtocolFacts",
    "small_parts",
    "some_tasks",
]

_NUMBERS_AT_ONCE = 784_000  # a thousand pictures of 28×28
ProtocolFacts: TypeAlias = dict[str, str | int | float | bool]
"""What decides a benchmark's numbers, by name: printed and stored with every result."""


class LabelledSet(NamedTuple):
    """Points of all tasks and what they should be mapped to."""

    inputs: Tensor
    """[tasks, points, *input_shape] float32."""
    targets: Tensor
    """[tasks, points] int64, the class within the episode; [tasks, points, D] for regression."""
    mask: Tensor | None = None
    """[tasks, points] bool, true = counts; None where all count (no leaf `vmap` takes)."""


class FewShotBatch(NamedTuple):
    """Support and query of all tasks, both ordered by class: class 0's shots, class 1's shots …"""

    support: LabelledSet
    query: LabelledSet


def some_tasks(batch: FewShotBatch, rows: slice) -> FewShotBatch:
    """Some tasks of a batch, views of it."""
    support, query = (
        LabelledSet(inputs[rows], targets[rows], None if mask is None else mask[rows])
        for inputs, targets, mask in batch
    )
    return FewShotBatch(support, query)


def small_parts(batch: FewShotBatch) -> Iterator[FewShotBatch]:
    """The tasks of a batch by parts that keep what a net computes of them small.

    For a test, which needs no more than one task at a time: fifty tasks of 80 photographs would
    take tens of gigabytes. A part holds inputs of a thousand 28×28 pictures, or one task.
    """
    numbers = sum(points.inputs[0].numel() for points in batch)
    size = max(1, _NUMBERS_AT_ONCE // numbers)
    for start in range(0, len(batch.query.inputs), size):
        yield some_tasks(batch, slice(start, start + size))


@dataclass(frozen=True)
class EpisodeShape:
    """How many points an episode has; the usual N-way K-shot with Q queries per class.

    Raises:
        ValueError: if a count is below 1.
    """

    ways: int
    """Classes of an episode; 1 for regression."""
    shots: int
    """Support points per class."""
    queries: int
    """Query points per class."""

    def __post_init__(self) -> None:
        for name in ("ways", "shots", "queries"):
            require_at_least(name, getattr(self, name), 1)


class FewShotTasks(Protocol):
    """A distribution over few-shot tasks, with splits that share none."""

    @property
    def name(self) -> str:
        """As the catalog names it."""

    @property
    def kind(self) -> Literal["classification", "regression"]:
        """What the targets are."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: (channels, height, width) or (features,)."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names that `sample` takes; one of classes also takes several, joined by "+"."""

    @property
    def protocol(self) -> ProtocolFacts:
        """What decides the numbers: resize, split, rotations …"""

    def sample(
        self, num_tasks: int, shape: EpisodeShape, *, split: str, generator: torch.Generator
    ) -> FewShotBatch:
        """Draw episodes; the same generator state draws the same.

        Args:
            num_tasks: 1 or more.
            shape: ways, shots and queries of every episode.
            split: one of `splits`, or several of them, as "train+validation".
            generator: on the device of the data.

        Raises:
            ValueError: if the split is unknown, or has too few classes or points for the shape.
        """
