"""Prototypical networks: the class whose mean embedding is nearest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metarl.bilevel import Params
from metarl.fewshot.batches import FewShotBatch, LabelledSet, ProtocolFacts
from metarl.fewshot.embedding import (
    SharedTasks,
    class_counts,
    class_means,
    embed,
    episode_statistics,
    membership,
    squared_distances,
)
from metarl.fewshot.learner import Moment, autograd_meta_gradient, norm_facts
from metarl.fewshot.problem import Problem, task_losses
from metarl.fewshot.settings import FewShotSettings, require_classes, require_shared_norm

__all__ = ["ProtoNet", "ProtoNetConfig", "prototype_logits"]


@dataclass(frozen=True)
class ProtoNetConfig(FewShotSettings):
    """Settings of prototypical networks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_shared_norm(self)


class ProtoNet:
    """Classes are the means of their embedded support; queries go to the nearest.

        p(c | x) ∝ exp(−‖f(x) − c̄‖²),   c̄ = mean of f over the support of c

    Source: Snell et al. 2017 (arXiv:1703.05175), eq. 1–2.
    """

    config_type: ClassVar[type[ProtoNetConfig]] = ProtoNetConfig
    has_steps: ClassVar[bool] = False

    def __init__(self, config: ProtoNetConfig, problem: Problem) -> None:
        """For a classification problem."""
        require_classes("protonet", problem)
        self.config, self.problem = config, problem
        self.backbone = config.make_backbone(problem, 0)

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters of the embedding."""
        return self.backbone.init(generator)

    def meta_loss(self, params: Params, batch: FewShotBatch) -> Tensor:
        """Cross-entropy of the query, [tasks]."""
        query = batch.query
        logits = self.predict(self.adapt(params, batch.support), query.inputs, query.mask)
        return task_losses("classification", logits, query.targets, query.mask)

    def meta_gradient(
        self, params: Params, batch: FewShotBatch, moment: Moment  # noqa: ARG002 - no schedule
    ) -> tuple[Tensor, Params]:
        """Losses [tasks] and the gradient of their mean."""
        return autograd_meta_gradient(self, params, batch)

    def adapt(self, params: Params, support: LabelledSet) -> SharedTasks:
        """The tasks' support; it is embedded with the query, as batch norm may need."""
        return SharedTasks(params, support)

    def trajectory(
        self, params: Params, support: LabelledSet, num_steps: int  # noqa: ARG002 - no steps
    ) -> Iterator[SharedTasks]:
        """The one adaptation there is."""
        yield self.adapt(params, support)

    def predict(self, adapted: SharedTasks, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Minus the squared distances to the prototypes, [tasks, points, classes]."""
        found = embed(self.backbone, adapted, inputs, mask, self.config.batch_norm)
        return prototype_logits(found.support, found.query, adapted.support)

    def statistics(self, params: Params, batch: FewShotBatch) -> Params:
        """Of support and query together."""
        return episode_statistics(self.backbone, params, batch, self.config.batch_norm)

    def facts(self) -> ProtocolFacts:
        """How it adapts, and what batch norm means."""
        return {"adaptation": "class means", **norm_facts(self.config, passes="together")}


def prototype_logits(support: Tensor, query: Tensor, labelled: LabelledSet) -> Tensor:
    """Minus the squared distance of each query embedding to each class's mean.

    Args:
        support: embeddings [tasks, shots, F].
        query: embeddings [tasks, queries, F].
        labelled: the support's targets, 0 … classes − 1, and mask.

    Returns:
        [tasks, queries, classes], classes one more than the largest target; the lowest number for
        classes that a task has no support of.
    """
    num_classes = int(labelled.targets.max()) + 1
    members = membership(labelled, num_classes, support.dtype)
    logits = -squared_distances(query, class_means(support, members))
    empty = (class_counts(members) == 0).unsqueeze(1)
    return logits.masked_fill(empty, torch.finfo(logits.dtype).min)
