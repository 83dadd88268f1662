"""Tasks whose parameters have been adapted, and what every learner of that kind does with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.bilevel.inner_loop import Loss
from metarl.fewshot.data.batches import FewShotBatch, LabelledSet
from metarl.fewshot.learners.interface import Parts, joined
from metarl.fewshot.learners.problem import Kind, task_losses
from metarl.nn.backbones import Backbone
from metarl.nn.batch_norm import BatchNorm
from metarl.parameters import Params

__all__ = ["AdaptedTasks", "support_loss", "task_outputs", "task_statistics"]


class AdaptedTasks(NamedTuple):
    """Parameters of each task, and the data that normalisation may need."""

    params: Params
    """By name, each [tasks, ...]."""
    support: LabelledSet
    """Of all tasks."""


def support_loss(backbone: Backbone, kind: Kind) -> Loss:
    """The inner loss of each task, [tasks]."""

    def loss(params: Params, parts: Parts) -> Tensor:
        inputs, targets, *mask = parts
        return task_losses(kind, backbone.logits(params, inputs, *mask), targets, *mask)

    return loss


def task_outputs(
    backbone: Backbone,
    adapted: AdaptedTasks,
    inputs: Tensor,
    mask: Tensor | None,
    norm: BatchNorm,
) -> Tensor:
    """Outputs [tasks, points, ...] of each task's own parameters on inputs [tasks, points, ...]."""
    if norm != "support":
        return backbone.logits(adapted.params, inputs, mask)
    both, counts = joined(adapted.support, inputs, mask, norm)
    return backbone.logits(adapted.params, both, counts)[:, adapted.support.inputs.shape[1] :]


def task_statistics(
    backbone: Backbone,
    params: Params,
    batch: FewShotBatch,
    norm: BatchNorm,
    last: Callable[[], AdaptedTasks],
) -> Params:
    """Means over tasks, and over the support before and the query after adaptation.

    Args:
        backbone: the net.
        params: before adaptation, shared.
        batch: episodes.
        norm: {} unless this is "running".
        last: what gives the adapted tasks.
    """
    if norm != "running" or not backbone.norm_names:
        return {}
    support, query = batch
    with torch.no_grad():
        first = backbone.statistics(params, support.inputs, support.mask)
        then = backbone.statistics(last().params, query.inputs, query.mask)
    return {name: (first[name] + then[name]).mean(0) / 2 for name in then}
