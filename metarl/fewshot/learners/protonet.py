"""Prototypical networks: the class whose mean embedding is nearest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metarl.fewshot.contract.metric import (
    MetricLearner,
    SharedTasks,
    class_means,
    membership,
    squared_distances,
    without_absent,
)
from metarl.fewshot.contract.problem import Problem
from metarl.fewshot.contract.settings import FewShotSettings, require_classes, require_shared_norm
from metarl.fewshot.data.batches import LabeledSet
from metarl.parameters import Params

__all__ = ["ProtoNet", "ProtoNetConfig", "prototype_logits"]

_USUAL_FEATURES = 64  # features of four blocks on 28×28 images


@dataclass(frozen=True)
class ProtoNetConfig(FewShotSettings):
    """Settings of prototypical networks."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        super().check_consistency()
        require_shared_norm(self)


class ProtoNet(MetricLearner):
    """A class is represented by its mean embedding; a query gets the nearest class.

        p(c | x) ∝ exp(−‖f(x) − c̄‖²),   c̄ = mean of f over the support of c

    Source: Snell et al. 2017 (arXiv:1703.05175), eq. 1–2. Differs: if a convolutional net has
    F > 64 features, the scale of its last batch norm starts at √(64/F), so that initial distances
    are as for 28×28 characters. Distances grow with F (1600 for photographs), and with few classes
    per episode the net then only learned to shrink them, until all embeddings were equal.
    """

    config_type: ClassVar[type[ProtoNetConfig]] = ProtoNetConfig
    adaptation_description: ClassVar[str] = "class means"

    def __init__(self, config: ProtoNetConfig, problem: Problem) -> None:
        """A learner for a classification problem."""
        require_classes("protonet", problem)
        super().__init__(config, problem)

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters of the embedding."""
        params, num_features = super().init(generator), self.backbone.num_features
        scales = [name for name in params if name.startswith("scale_")]
        if scales and num_features > _USUAL_FEATURES:
            params[scales[-1]] *= math.sqrt(_USUAL_FEATURES / num_features)
        return params

    def predict(self, adapted: SharedTasks, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Minus the squared distances to the prototypes, [tasks, points, classes]."""
        found = self.embed(adapted, inputs, mask)
        return prototype_logits(found.support, found.query, adapted.support)


def prototype_logits(support: Tensor, query: Tensor, labeled: LabeledSet) -> Tensor:
    """Minus the squared distance of each query embedding to each class's mean.

    Args:
        support: embeddings [tasks, shots, F].
        query: embeddings [tasks, queries, F].
        labeled: the support's targets, 0 … classes − 1, and mask.

    Returns:
        [tasks, queries, classes], classes one more than the largest target; the lowest number for
        classes without support in a task.
    """
    num_classes = int(labeled.targets.max()) + 1
    members = membership(labeled, num_classes, support.dtype)
    logits = -squared_distances(query, class_means(support, members))
    return without_absent(logits, members)
