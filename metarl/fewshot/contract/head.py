"""Per-task linear heads on a net that all tasks share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metarl.fewshot.contract.gradient import AdaptedTasks
from metarl.fewshot.contract.metric import SharedTasks, embed, embed_alone
from metarl.nn.backbones import Backbone
from metarl.nn.batch_norm import BatchNorm
from metarl.parameters import Params

__all__ = ["head_logits", "head_outputs"]


def head_logits(head: Params, features: Tensor) -> Tensor:
    """Apply each task's head: x Wᵀ + b.

    Args:
        head: "weight" [tasks, outputs, F] and "bias" [tasks, outputs].
        features: x, [tasks, points, F].

    Returns:
        [tasks, points, outputs].
    """
    return torch.baddbmm(head["bias"].unsqueeze(-2), features, head["weight"].mT)


def head_outputs(
    backbone: Backbone,
    adapted: AdaptedTasks,
    inputs: Tensor,
    mask: Tensor | None,
    norm: BatchNorm,
    *,
    scaled: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Outputs [tasks, points, outputs] of adapted heads on the embeddings of inputs.

    Args:
        backbone: the embedding.
        adapted: the heads in `params`, the net in `shared`.
        inputs: [tasks, points, ...].
        mask: which points count, bool [tasks, points], or None.
        norm: with "support", points are normalized by the statistics of the support set.
        scaled: function applied to embeddings before the head; None: the identity.
    """
    if norm == "support":
        tasks = SharedTasks(adapted.shared, adapted.support)
        features = embed(backbone, tasks, inputs, mask, norm).query
    else:
        features = embed_alone(backbone, adapted.shared, inputs, mask)
    return head_logits(adapted.params, features if scaled is None else scaled(features))
