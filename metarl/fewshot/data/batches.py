"""Few-shot batches: the support and query sets of all tasks as tensors.

Data sets produce these batches and learners consume them; neither depends on the other. A set of
points is a pytree of tensors with leading axis tasks, which is all that
`metarl.bilevel.adaptation` needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from metarl.devices import require_memory
from metarl.evaluation.protocol import ProtocolFacts
from metarl.finite import require_finite_tasks
from metarl.validation import require_at_least

__all__ = [
    "EpisodeRanges",
    "EpisodeShape",
    "FewShotBatch",
    "FewShotTasks",
    "LabeledSet",
    "ProtocolFacts",
    "VariableTasks",
    "require_inputs",
    "require_labels",
    "small_parts",
    "some_tasks",
]

_BYTES_PER_NUMBER = 4
_NUMBERS_AT_ONCE = 784_000  # a thousand 28×28 images


class LabeledSet(NamedTuple):
    """Inputs and targets of all tasks."""

    inputs: Tensor
    """[tasks, points, *input_shape] float32."""
    targets: Tensor
    """[tasks, points] int64, the class within the episode; [tasks, points, D] for regression."""
    mask: Tensor | None = None
    """[tasks, points] bool, true = counts; None if all count, because `vmap` cannot map it."""


class FewShotBatch(NamedTuple):
    """Support and query of all tasks, both ordered by class: class 0's shots, class 1's shots …"""

    support: LabeledSet
    query: LabeledSet


def require_inputs(name: str, inputs: Tensor, input_shape: tuple[int, ...]) -> None:
    """Reject inputs whose shape differs from the learner's, or that are not finite.

    Args:
        name: name of the set, for the message.
        inputs: [tasks, points, *input_shape].
        input_shape: shape of one point.

    Raises:
        ValueError: naming both shapes; NonFiniteError if a value is not finite.
    """
    if inputs.ndim != 2 + len(input_shape) or inputs.shape[2:] != input_shape:
        wanted = ", ".join(map(str, ("tasks", "points", *input_shape)))
        raise ValueError(f"inputs of {name} must be [{wanted}], got {list(inputs.shape)}")
    require_finite_tasks(f"inputs of {name}", inputs)


def require_labels(name: str, points: LabeledSet, num_classes: int) -> None:
    """Reject labels that are not classes of their task.

    Raises:
        ValueError: naming the label, or the shape or type that was needed.
    """
    targets, lead = points.targets, points.inputs.shape[:2]
    if targets.dtype != torch.int64 or targets.shape != lead:
        raise ValueError(
            f"targets of {name} must be int64 {list(lead)}, got {targets.dtype} "
            f"{list(targets.shape)}"
        )
    outside = (targets < 0) | (targets >= num_classes)
    if bool(outside.any()):
        raise ValueError(
            f"targets of {name} must be classes 0 to {num_classes - 1} of their task, "
            f"got {int(targets[outside][0])}"
        )


def some_tasks(batch: FewShotBatch, rows: slice) -> FewShotBatch:
    """Some tasks of a batch, views of it."""
    support, query = (
        LabeledSet(inputs[rows], targets[rows], None if mask is None else mask[rows])
        for inputs, targets, mask in batch
    )
    return FewShotBatch(support, query)


def small_parts(batch: FewShotBatch) -> Iterator[FewShotBatch]:
    """Split a batch into groups of tasks, to limit the memory of a net's activations.

    Evaluation treats tasks separately, and fifty tasks of 80 photographs at once would take tens of
    gigabytes. A group holds as many inputs as a thousand 28×28 images, or a single task.
    """
    numbers = sum(points.inputs[0].numel() for points in batch)
    size = max(1, _NUMBERS_AT_ONCE // numbers)
    for start in range(0, len(batch.query.inputs), size):
        yield some_tasks(batch, slice(start, start + size))


@dataclass(frozen=True)
class EpisodeShape:
    """Size of an N-way K-shot episode with Q queries per class.

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

    def require_memory(self, num_tasks: int, input_shape: tuple[int, ...]) -> None:
        """Reject a batch of such episodes whose inputs alone exceed the machine's memory.

        Raises:
            ValueError: stating both sizes.
        """
        points = self.ways * (self.shots + self.queries)
        require_memory(
            f"{num_tasks:,} tasks of {points:,} points each",
            float(_BYTES_PER_NUMBER) * num_tasks * points * math.prod(input_shape),
            remedy="use fewer tasks, ways, shots or queries",
        )


@dataclass(frozen=True)
class EpisodeRanges:
    """Episodes whose ways and shots vary from task to task, each uniform over a range.

    Raises:
        ValueError: if a range is empty or a count is below 1.
    """

    ways: tuple[int, int]
    """Minimum and maximum number of classes."""
    shots: tuple[int, int]
    """Minimum and maximum number of support points per class."""
    queries: int
    """Query points per class, the same for all."""

    def __post_init__(self) -> None:
        for name in ("ways", "shots"):
            low, high = getattr(self, name)
            require_at_least(name, low, 1)
            if high < low:
                raise ValueError(f"{name} must be (minimum, maximum), got ({low}, {high})")
        require_at_least("queries", self.queries, 1)

    @property
    def largest(self) -> EpisodeShape:
        """The shape of the largest episode."""
        return EpisodeShape(self.ways[1], self.shots[1], self.queries)


class FewShotTasks(Protocol):
    """A distribution over few-shot tasks, with disjoint splits."""

    @property
    def name(self) -> str:
        """The name of the data set, as in the catalog."""

    @property
    def kind(self) -> Literal["classification", "regression"]:
        """Whether the targets are classes or numbers."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: (channels, height, width) or (features,)."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits; classification also accepts several joined by "+"."""

    @property
    def protocol(self) -> ProtocolFacts:
        """Facts that affect the scores: resizing, split, rotations …"""

    def sample(
        self, num_tasks: int, shape: EpisodeShape, *, split: str, generator: torch.Generator
    ) -> FewShotBatch:
        """Sample episodes; the same generator state gives the same episodes.

        Args:
            num_tasks: 1 or more.
            shape: ways, shots and queries of every episode.
            split: one of `splits`, or several joined by "+": "train+validation".
            generator: on the device of the data.

        Raises:
            ValueError: if the split is unknown, or has too few classes or points for the shape.
        """


@runtime_checkable
class VariableTasks(Protocol):
    """Tasks whose episodes may differ in size."""

    def sample_variable(
        self, num_tasks: int, ranges: EpisodeRanges, *, split: str, generator: torch.Generator
    ) -> FewShotBatch:
        """Sample episodes of varying ways and shots, padded to the largest and masked.

        A task with `w` ways has the classes 0 … w − 1. Inputs that do not count are zero.

        Raises:
            ValueError: as `FewShotTasks.sample`, for the largest shape.
        """
