"""Siamese nets: a contrastive loss on pairs, and nearest-neighbor classification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metarl.fewshot.contract.metric import MetricLearner, SharedTasks, membership, squared_distances
from metarl.fewshot.contract.problem import Problem, mean_over_points
from metarl.fewshot.contract.settings import FewShotSettings, require_classes, require_shared_norm
from metarl.fewshot.data.batches import FewShotBatch
from metarl.parameters import Params
from metarl.validation import Positive

__all__ = ["Siamese", "SiameseConfig", "contrastive_losses"]

_SMALLEST = 1e-12  # squared distance, so that the square root is differentiable


@dataclass(frozen=True)
class SiameseConfig(FewShotSettings):
    """Settings of siamese nets."""

    margin: Positive = 1.0
    """Distance beyond which the loss of a pair from different classes is zero."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        super().check_consistency()
        require_shared_norm(self)


class Siamese(MetricLearner):
    """One net embeds both points of a pair; a query gets the class of the nearest support point.

        L = d² for a pair of one class,   max(0, m − d)² for a pair of two,   d = ‖f(a) − f(b)‖

    All pairs of a support and a query point are used. Because pairs of two classes are more
    frequent, the two kinds are averaged separately.

    Source: the loss, Hadsell et al. 2006, eq. 4; one-shot use, Koch et al. 2015, whose loss is
    logistic on a weighted L1 distance. Differs from both: pairs come from episodes.
    """

    config_type: ClassVar[type[SiameseConfig]] = SiameseConfig
    adaptation_description: ClassVar[str] = "nearest support point"

    def __init__(self, config: SiameseConfig, problem: Problem) -> None:
        """A learner for a classification problem."""
        require_classes("siamese", problem)
        super().__init__(config, problem)
        self._margin = config.margin

    def meta_loss(self, params: Params, batch: FewShotBatch) -> Tensor:
        """Contrastive loss over all pairs of a support and a query point, [tasks]."""
        support, query = batch
        adapted = self.adapt(params, support)
        squared = self._squared(adapted, query.inputs, query.mask)
        same = query.targets.unsqueeze(-1) == support.targets.unsqueeze(-2)
        counts = torch.ones_like(same)
        if query.mask is not None:
            counts = counts & query.mask.unsqueeze(-1)
        if support.mask is not None:
            counts = counts & support.mask.unsqueeze(-2)
        return contrastive_losses(squared, same, counts, self._margin)

    def predict(self, adapted: SharedTasks, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Minus the squared distance to each class's nearest point, [tasks, points, classes]."""
        support = adapted.support
        squared = self._squared(adapted, inputs, mask)
        members = membership(support, int(support.targets.max()) + 1, torch.bool)
        far = torch.finfo(squared.dtype).max
        nearest = squared.unsqueeze(-1).masked_fill(~members.unsqueeze(1), far).amin(-2)
        return -nearest

    def _squared(self, adapted: SharedTasks, inputs: Tensor, mask: Tensor | None) -> Tensor:
        """Squared distances of query and support points, [tasks, queries, shots]."""
        found = self.embed(adapted, inputs, mask)
        return squared_distances(found.query, found.support)


def contrastive_losses(squared: Tensor, same: Tensor, counts: Tensor, margin: float) -> Tensor:
    """Mean loss of pairs of one class plus mean loss of pairs of two classes.

    Args:
        squared: squared distances [tasks, queries, shots].
        same: which pairs belong to one class, bool.
        counts: which pairs count, bool.
        margin: m.

    Returns:
        Shape [tasks].
    """
    distances = squared.clamp_min(_SMALLEST).sqrt()
    apart = (margin - distances).clamp_min(0).square()
    pulled = mean_over_points(squared.flatten(1), (same & counts).flatten(1))
    return pulled + mean_over_points(apart.flatten(1), (~same & counts).flatten(1))
