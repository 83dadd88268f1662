"""Contract and shared work of the learners that compare embeddings.

They embed support and query together, and compare each query with the embedded support.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from metarl.fewshot.contract.interface import (
    Adapted,
    TrainingContext,
    autograd_meta_gradient,
    joined,
    norm_facts,
)
from metarl.fewshot.contract.problem import Problem, task_losses
from metarl.fewshot.contract.settings import FewShotSettings
from metarl.fewshot.data.batches import FewShotBatch, LabeledSet, ProtocolFacts
from metarl.nn.backbones import Backbone
from metarl.nn.batch_norm import BatchNorm
from metarl.parameters import Params

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
    "MetricLearner",
]


class SharedTasks(NamedTuple):
    """Tasks given by their support sets, with parameters that all tasks share."""

    params: Params
    """By name, without a task axis."""
    support: LabeledSet
    """The support sets of all tasks."""


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
    """Embed both sets in one pass, so that batch norm treats them identically.

    Args:
        backbone: the embedding.
        adapted: parameters and support of all tasks.
        inputs: query inputs, [tasks, queries, ...].
        mask: false for query points that are padding, bool [tasks, queries], or None.
        norm: statistics used for normalization.
    """
    both, counts = joined(adapted.support, inputs, mask, norm)
    features = backbone.features(adapted.params, both, counts)
    num_support = adapted.support.inputs.shape[1]
    return Embedded(features[:, :num_support], features[:, num_support:])


def embed_alone(backbone: Backbone, params: Params, inputs: Tensor, mask: Tensor | None) -> Tensor:
    """Embeddings [tasks, points, F] of one set; all tasks share `params`."""
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


def membership(support: LabeledSet, num_classes: int, dtype: torch.dtype) -> Tensor:
    """1 if a support point is unmasked and belongs to a class, else 0; [tasks, shots, classes]."""
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
    """Mean embedding of each class, [tasks, classes, F]; zero for a class without points."""
    sums = members.mT @ features
    return sums / class_counts(members).clamp_min(1).unsqueeze(-1)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """‖a_i − b_j‖² of a [..., m, F] and b [..., n, F]; [..., m, n].

    Computed as ‖a‖² + ‖b‖² − 2 a·b, with one matrix product; in float32 the cancellation error is
    about 10⁻⁷ ‖a‖².
    """
    lengths = a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1).unsqueeze(-2)
    return lengths - 2 * (a @ b.mT)


class MetricLearner(ABC):
    """A learner that adapts by keeping the support set; all tasks share the parameters.

    Most subclasses embed support and query together in `predict`, as batch norm may use both.
    """

    needs_classes: ClassVar[bool] = True
    """Whether the learner supports classification only."""
    config_type: ClassVar[type[Any]]
    has_steps: ClassVar[bool] = False
    can_compile: ClassVar[bool] = False
    config: Any  # an instance of `config_type`

    def __init__(self, config: FewShotSettings, problem: Problem) -> None:
        """Build the net; subclasses check that they support the problem."""
        self.config, self.problem = config, problem
        self.backbone = self.make_backbone()

    @property
    @abstractmethod
    def adaptation_description(self) -> str:
        """A description of adaptation, printed with results; usually a class attribute."""

    @abstractmethod
    def predict(self, adapted: Adapted, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [tasks, points, classes] or predictions [tasks, points, D]."""

    def make_backbone(self) -> Backbone:
        """The net of the embedding."""
        backbone: Backbone = self.config.make_backbone(self.problem, 0)
        return backbone

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters of the embedding."""
        return self.backbone.init(generator)

    def meta_loss(self, params: Params, batch: FewShotBatch) -> Tensor:
        """Query loss, [tasks]."""
        query = batch.query
        outputs = self.predict(self.adapt(params, batch.support), query.inputs, query.mask)
        return task_losses(self.problem.kind, outputs, query.targets, query.mask)

    def meta_gradient(
        self,
        params: Params,
        batch: FewShotBatch,
        context: TrainingContext,  # noqa: ARG002 - no schedule
    ) -> tuple[Tensor, Params]:
        """Losses [tasks] and the gradient of their mean."""
        return autograd_meta_gradient(self.meta_loss, params, batch, self.config.chunk_size)

    def adapt(self, params: Params, support: LabeledSet) -> Adapted:
        """The support set of each task with the shared parameters, as `SharedTasks`."""
        return SharedTasks(params, support)

    def trajectory(
        self,
        params: Params,
        support: LabeledSet,
        num_steps: int,  # noqa: ARG002 - no steps
    ) -> Iterator[Adapted]:
        """Yield the adapted state once, since there are no steps."""
        yield self.adapt(params, support)

    def statistics(self, params: Params, batch: FewShotBatch) -> Params:
        """Statistics of support and query together."""
        return episode_statistics(self.backbone, params, batch, self.config.batch_norm)

    def facts(self) -> ProtocolFacts:
        """The kind of adaptation, and the meaning of batch norm."""
        facts = norm_facts(self.config, passes="together")
        return {"adaptation": self.adaptation_description, **facts}

    def embed(self, adapted: SharedTasks, inputs: Tensor, mask: Tensor | None) -> Embedded:
        """Embeddings of both sets, computed in one pass."""
        return embed(self.backbone, adapted, inputs, mask, self.config.batch_norm)
