"""Few-shot episodes from packed classes: N-way K-shot, fixed or with ways and shots that vary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from metarl.fewshot.data.batches import EpisodeRanges, EpisodeShape, FewShotBatch, ProtocolFacts
from metarl.fewshot.data.episodes import (
    require_classes_for,
    sample_classes,
    sample_members,
    sample_pairs,
    split_episode,
    varied,
)
from metarl.fewshot.data.packed import ClassData, decode, joined, quarter_turns
from metarl.validation import lookup, require_at_least, unknown_name

__all__ = ["ClassTasks", "Rotations", "require_same_device"]

Rotations = Literal["none", "drawn", "classes"]
"""none: images are not rotated. drawn: each class of an episode is rotated by a random multiple of
90°, resampled for every episode (MAML). classes: each rotation is a separate class (Vinyals)."""

_AND = "+"  # joins the names of splits


class ClassTasks:
    """Classification tasks made of the classes of a split.

    Args:
        name: name of the data set, as in the catalog.
        splits: function that loads the classes of each split, called at its first use.
        input_shape: shape of one point.
        protocol: facts that affect the scores; the rotations are added.
        rotations: how images are rotated.
        pairs: whether a task is one pair of classes (2i, 2i + 1), negative and positive.
        sizes: number of classes of splits that are slow to load; None: splits are loaded to count.
    """

    kind: Literal["classification"] = "classification"

    def __init__(
        self,
        name: str,
        splits: Mapping[str, Callable[[], ClassData]],
        *,
        input_shape: tuple[int, ...],
        protocol: ProtocolFacts,
        rotations: Rotations = "none",
        pairs: bool = False,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        if rotations not in ("none", "drawn", "classes"):
            raise ValueError(unknown_name("rotations", rotations, ("none", "drawn", "classes")))
        self.name, self.input_shape = name, input_shape
        self.splits = tuple(splits)
        self.protocol: ProtocolFacts = {**protocol, "rotations": rotations}
        self._load, self._loaded = dict(splits), dict[str, ClassData]()
        self._rotations, self._pairs, self._sizes = rotations, pairs, dict(sizes or {})
        if rotations != "none":
            quarter_turns(input_shape, "cpu")  # rejects inputs that cannot be rotated

    def data(self, split: str) -> ClassData:
        """The classes of a split or of several ("train+validation"), loaded at the first use.

        Raises:
            ValueError: if there is no such split.
        """
        if split not in self._loaded:
            parts = split.split(_AND)
            self._loaded[split] = (
                joined([self.data(part) for part in parts])
                if len(parts) > 1
                else lookup("split", split, self._load)()
            )
        return self._loaded[split]

    def sample(
        self, num_tasks: int, shape: EpisodeShape, *, split: str, generator: torch.Generator
    ) -> FewShotBatch:
        """Sample episodes: distinct classes per task, distinct points per class, in random order.

        Raises:
            ValueError: if the split is unknown, has too few classes or points, or the generator is
                on another device than the data.
        """
        require_at_least("num_tasks", num_tasks, 1)
        return split_episode(self._sample_episodes(num_tasks, shape, split, generator), shape)

    def sample_variable(
        self, num_tasks: int, ranges: EpisodeRanges, *, split: str, generator: torch.Generator
    ) -> FewShotBatch:
        """Sample episodes of varying ways and shots, padded to the largest and masked.

        A task with `w` ways has the classes 0 … w − 1. Inputs that do not count are zero.

        Raises:
            ValueError: as `sample`, for the largest shape.
        """
        self._require_both_of_pairs(ranges.ways[0])
        batch = self.sample(num_tasks, ranges.largest, split=split, generator=generator)
        return varied(batch, ranges, generator)

    def num_classes(self, split: str) -> int:
        """Number of classes of a split; rotations count if each is a separate class."""
        size = sum(
            self._sizes[part] if part in self._sizes else len(self.data(part).counts)
            for part in split.split(_AND)
        )
        return size * (4 if self._rotations == "classes" else 1)

    def sample_points(
        self, num_points: int, *, split: str, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Sample labeled points without episodes, for a classifier of all classes of a split.

        Returns:
            Inputs [points, *input_shape] of uniformly sampled classes, and labels, int64 [points].
        """
        data, device = self.data(split), generator.device
        require_same_device(generator, data.points.device)
        shape = (num_points,)
        labels = torch.randint(self.num_classes(split), shape, generator=generator, device=device)
        classes, turns = labels, None
        if self._rotations == "classes":
            classes, turns = labels // 4, labels % 4
        elif self._rotations == "drawn":
            turns = torch.randint(4, shape, generator=generator, device=device)
        shares = torch.rand(shape, generator=generator, device=device, dtype=torch.float32)
        members = (shares * data.counts[classes]).long().clamp(max=data.counts[classes] - 1)
        rows = data.members[data.starts[classes] + members]
        sources = None if turns is None else quarter_turns(self.input_shape, device)[turns]
        points = decode(data.points[rows], data.encoding, sources)
        return points.view(num_points, *self.input_shape), labels

    def _sample_episodes(
        self, num_tasks: int, shape: EpisodeShape, split: str, generator: torch.Generator
    ) -> Tensor:
        """Points of all episodes, [N, ways, shots + queries, *input_shape] float32."""
        data = self.data(split)
        num_points = shape.shots + shape.queries
        self._require_enough(data, split, shape)
        require_same_device(generator, data.points.device)
        classes, turns = self._sample_classes(num_tasks, len(data.counts), shape.ways, generator)
        members = sample_members(data.counts[classes], num_points, generator)
        rows = data.members[data.starts[classes].unsqueeze(-1) + members]
        sources = None
        if turns is not None:
            table = quarter_turns(self.input_shape, data.points.device)
            sources = table[turns].unsqueeze(2)
        points = decode(data.points[rows], data.encoding, sources)
        return points.view(*rows.shape, *self.input_shape)

    def _sample_classes(
        self, num_tasks: int, num_classes: int, ways: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Classes [N, ways] and their quarter turns, None if nothing is rotated."""
        if self._pairs:
            return sample_pairs(num_tasks, num_classes, generator), None
        if self._rotations == "classes":
            drawn = sample_classes(num_tasks, 4 * num_classes, ways, generator)
            return drawn // 4, drawn % 4
        classes = sample_classes(num_tasks, num_classes, ways, generator)
        if self._rotations == "none":
            return classes, None
        turns = torch.randint(4, classes.shape, generator=generator, device=generator.device)
        return classes, turns

    def _require_both_of_pairs(self, ways: int) -> None:
        if self._pairs and ways != 2:
            raise ValueError(
                f"ways must be 2 for {self.name}, whose tasks are negative or positive, got {ways}"
            )

    def _require_enough(self, data: ClassData, split: str, shape: EpisodeShape) -> None:
        self._require_both_of_pairs(shape.ways)
        source = f"split {split!r} of {self.name}"
        require_classes_for(shape.ways, self.num_classes(split), source)
        fewest = int(data.counts.argmin())
        count, needed = int(data.counts[fewest]), shape.shots + shape.queries
        if count < needed:
            raise ValueError(
                f"class {data.class_names[fewest]!r} of {source} has {count} points and an episode "
                f"needs {needed} ({shape.shots} shots + {shape.queries} queries); reduce them "
                "or remove the class"
            )


def require_same_device(generator: torch.Generator, device: torch.device) -> None:
    """Reject a generator on another type of device than the data.

    Raises:
        ValueError: naming both.
    """
    if generator.device.type != device.type:
        raise ValueError(
            f"generator must be on the device of the data, {device}, got one on {generator.device}"
        )
