"""What learners have in common that compare a query with the embedded support, in one go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from metarl.bilevel import Params
from metarl.fewshot.backbones import Backbone
from metarl.fewshot.batches import FewShotBatch, LabelledSet, ProtocolFacts
from metarl.fewshot.embedding import Embedded, SharedTasks, embed, episode_statistics
from metarl.fewshot.learner import Moment, autograd_meta_gradient, norm_facts
from metarl.fewshot.problem import Problem, task_losses
from metarl.fewshot.settings import FewShotSettings

__all__ = ["MetricLearner"]


class MetricLearner(ABC):
    """A learner whose adaptation is to know the support set, with parameters that tasks share.

    Support and query are embedded together when the query is there, as batch norm may need.
    """

    has_steps: ClassVar[bool] = False
    adaptation_in_words: ClassVar[str]

    def __init__(self, config: FewShotSettings, problem: Problem) -> None:
        """For a problem that the learner can do; the final class checks that."""
        self.config, self.problem = config, problem
        self.backbone = self.make_backbone()

    @abstractmethod
    def predict(self, adapted: SharedTasks, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [tasks, points, classes] or predictions [tasks, points, D]."""

    def make_backbone(self) -> Backbone:
        """The net of the embedding."""
        return self.config.make_backbone(self.problem, 0)

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
        moment: Moment,  # noqa: ARG002 - no schedule
    ) -> tuple[Tensor, Params]:
        """Losses [tasks] and the gradient of their mean."""
        return autograd_meta_gradient(self.meta_loss, params, batch, self.config.chunk_size)

    def adapt(self, params: Params, support: LabelledSet) -> SharedTasks:
        """The tasks' support beside the shared parameters."""
        return SharedTasks(params, support)

    def trajectory(
        self,
        params: Params,
        support: LabelledSet,
        num_steps: int,  # noqa: ARG002 - no steps
    ) -> Iterator[SharedTasks]:
        """The one adaptation there is."""
        yield self.adapt(params, support)

    def statistics(self, params: Params, batch: FewShotBatch) -> Params:
        """Of support and query together."""
        return episode_statistics(self.backbone, params, batch, self.config.batch_norm)

    def facts(self) -> ProtocolFacts:
        """How it adapts, and what batch norm means."""
        facts = norm_facts(self.config, passes="together")
        return {"adaptation": self.adaptation_in_words, **facts}

    def embed(self, adapted: SharedTasks, inputs: Tensor, mask: Tensor | None) -> Embedded:
        """Both sets in one pass."""
        return embed(self.backbone, adapted, inputs, mask, self.config.batch_norm)
