"""Sampling of classes and points for all tasks at once, as functions of tensors.

To sample without replacement, every candidate gets a random key, and the largest keys win.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metarl.fewshot.data.batches import EpisodeRanges, EpisodeShape, FewShotBatch, LabeledSet

__all__ = [
    "class_targets",
    "sample_classes",
    "sample_members",
    "sample_pairs",
    "require_classes_for",
    "split_episode",
    "varied",
]


def sample_classes(num_tasks: int, pool: int, ways: int, generator: torch.Generator) -> Tensor:
    """Sample `ways` distinct classes of 0 … pool − 1 for each task, in random order: [N, ways]."""
    keys = torch.rand(
        (num_tasks, pool), generator=generator, device=generator.device, dtype=torch.float32
    )
    return keys.topk(ways).indices


def sample_pairs(num_tasks: int, pool: int, generator: torch.Generator) -> Tensor:
    """Sample one pair of classes (2i, 2i + 1) for each task: int64 [N, 2]."""
    device = generator.device
    pairs = torch.randint(pool // 2, (num_tasks, 1), generator=generator, device=device)
    return 2 * pairs + torch.arange(2, device=device)


def sample_members(counts: Tensor, num_points: int, generator: torch.Generator) -> Tensor:
    """Sample distinct points of each class, in random order.

    Args:
        counts: number of points of each class, int64 [...], each at least `num_points`.
        num_points: number of points to sample per class.
        generator: on the device of `counts`.

    Returns:
        int64 [..., num_points], each in 0 … count − 1.
    """
    shape = (*counts.shape, int(counts.max()))
    keys = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float32)
    absent = torch.arange(shape[-1], device=generator.device) >= counts.unsqueeze(-1)
    return keys.masked_fill_(absent, -1).topk(num_points).indices


def require_classes_for(ways: int, num_classes: int, source: str) -> None:
    """Reject episodes with more classes than the split has.

    Args:
        ways: classes of an episode.
        num_classes: classes of the split.
        source: name of the split and the data set, for the message.

    Raises:
        ValueError: naming both numbers.
    """
    if ways > num_classes:
        raise ValueError(
            f"ways must be {num_classes} or less: {source} has {num_classes} classes, got {ways}"
        )


def split_episode(points: Tensor, shape: EpisodeShape) -> FewShotBatch:
    """The first `shots` points of each class as support, the rest as query, ordered by class.

    Args:
        points: [N, ways, shots + queries, *input_shape].
        shape: size of the episodes.
    """
    parts = points.split([shape.shots, shape.queries], dim=2)
    support, query = (
        LabeledSet(part.flatten(1, 2), class_targets(len(points), shape.ways, part.shape[2], part))
        for part in parts
    )
    return FewShotBatch(support, query)


def class_targets(num_tasks: int, ways: int, points: int, like: Tensor) -> Tensor:
    """Each class repeated `points` times, int64 [num_tasks, ways · points], on `like`'s device."""
    classes = torch.arange(ways, device=like.device).repeat_interleave(points)
    return classes.expand(num_tasks, -1)


def varied(batch: FewShotBatch, ranges: EpisodeRanges, generator: torch.Generator) -> FewShotBatch:
    """Mask episodes to varying ways and shots: a task keeps its first classes and first shots.

    Args:
        batch: episodes of the largest shape, ordered by class.
        ranges: possible sizes; ways and shots are sampled for each task.
        generator: on the device of the batch.

    Returns:
        The same points, masked; inputs that do not count are zero.
    """
    num_tasks, largest = len(batch.query.inputs), ranges.largest
    ways, shots = (_uniform(num_tasks, each, generator) for each in (ranges.ways, ranges.shots))
    has_class = torch.arange(largest.ways, device=generator.device) < ways.unsqueeze(-1)
    has_shot = torch.arange(largest.shots, device=generator.device) < shots.unsqueeze(-1)
    support = (has_class.unsqueeze(-1) & has_shot.unsqueeze(-2)).flatten(1)
    query = has_class.repeat_interleave(ranges.queries, dim=1)
    return FewShotBatch(_masked(batch.support, support), _masked(batch.query, query))


def _uniform(num_tasks: int, bounds: tuple[int, int], generator: torch.Generator) -> Tensor:
    low, high = bounds
    return torch.randint(low, high + 1, (num_tasks,), generator=generator, device=generator.device)


def _masked(points: LabeledSet, mask: Tensor) -> LabeledSet:
    absent = ~mask.view(*mask.shape, *[1] * (points.inputs.dim() - 2))
    return LabeledSet(points.inputs.masked_fill(absent, 0), points.targets, mask)
