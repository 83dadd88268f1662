"""What the metric learners share: support and query in one embedding, and classes in it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metarl.bilevel import Params
from metarl.fewshot.backbones import Backbone
from metarl.fewshot.batch_norm import BatchNorm
from metarl.fewshot.batches import FewShotBatch, LabelledSet
from metarl.fewshot.learner import joined

__all__ = [
    "Embedded",
    "SharedTasks",
    "class_counts",
    "class_means",
    "embed",
    "embed_alone",
    "episode_statistics",
    "membership",
    "squared_distances",
    "without_absent",
]


class SharedTasks(NamedTuple):
    """Tasks known by their support sets, with parameters that all share."""

    params: Params
    """By name, no task axis."""
    support: LabelledSet
    """Of all tasks."""


class Embedded(NamedTuple):
    """Embeddings of both sets."""

    support: Tensor
    """[tasks, shots, F]."""
    query: Tensor
    """[tasks, queries, F]."""


def embed(
    backbone: Backbone,
    adapted: SharedTasks,
    inputs: Tensor,
    mask: Tensor | None,
    norm: BatchNorm,
) -> Embedded:
    """Both sets in one pass, so that batch norm means the same for both.

    Args:
        backbone: the embedding.
        adapted: parameters and support of all tasks.
        inputs: of the query, [tasks, queries, ...].
        mask: which query points count, bool [tasks, queries], or None.
        norm: whose statistics normalise.
    """
    both, counts = joined(adapted.support, inputs, mask, norm)
    features = backbone.features(adapted.params, both, counts)
    num_support = adapted.support.inputs.shape[1]
    return Embedded(features[:, :num_support], features[:, num_support:])


def embed_alone(backbone: Backbone, params: Params, inputs: Tensor, mask: Tensor | None) -> Tensor:
    """Embeddings [tasks, points, F] of one set of all tasks by itself, `params` shared."""
    return backbone.features(params, inputs, mask)


def episode_statistics(
    backbone: Backbone, params: Params, batch: FewShotBatch, norm: BatchNorm
) -> Params:
    """Statistics of support and query together, mean over tasks; {} unless `norm` is "running"."""
    if norm != "running":
        return {}
    both, counts = joined(batch.support, batch.query.inputs, batch.query.mask, norm)
    with torch.no_grad():
        found = backbone.statistics(params, both, counts)
    return {name: values.mean(0) for name, values in found.items()}


def membership(support: LabelledSet, num_classes: int, dtype: torch.dtype) -> Tensor:
    """1 where a support point counts and is of a class, else 0; [tasks, shots, classes]."""
    classes = torch.arange(num_classes, device=support.targets.device)
    members = support.targets.unsqueeze(-1) == classes
    if support.mask is not None:
        members = members & support.mask.unsqueeze(-1)
    return members.to(dtype)


def class_counts(members: Tensor) -> Tensor:
    """Support points of each class, [tasks, classes]."""
    return members.sum(1)


def without_absent(logits: Tensor, members: Tensor) -> Tensor:
    """Logits [tasks, queries, classes] with the lowest number for classes without support."""
    absent = (class_counts(members) == 0).unsqueeze(1)
    return logits.masked_fill(absent, torch.finfo(logits.dtype).min)


def class_means(features: Tensor, members: Tensor) -> Tensor:
    """Mean embedding of each class, [tasks, classes, F]; zero where a class has no point."""
    sums = members.mT @ features
    return sums / class_counts(members).clamp_min(1).unsqueeze(-1)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """‖a_i − b_j‖² of a [..., m, F] and b [..., n, F]; [..., m, n].

    As ‖a‖² + ‖b‖² − 2 a·b, one matrix product; what cancels is about 10⁻⁷ of ‖a‖² in float32.
    """
    lengths = a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1).unsqueeze(-2)
    return lengths - 2 * (a @ b.mT)
