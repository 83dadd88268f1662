"""The transfer baseline: one classifier of all training classes, then a new head for each task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol, runtime_checkable

import torch
from annotated_types import Interval
from torch import Tensor
from torch.nn import functional

from metarl.bilevel.adaptation import adapt
from metarl.bilevel.inner_loop import InnerLoop
from metarl.bilevel.rules import sgd
from metarl.fewshot.contract.gradient import AdaptedTasks
from metarl.fewshot.contract.head import head_logits, head_outputs
from metarl.fewshot.contract.interface import Parts, norm_facts
from metarl.fewshot.contract.metric import (
    MetricLearner,
    embed_alone,
    membership,
    without_absent,
)
from metarl.fewshot.contract.problem import Problem, task_losses
from metarl.fewshot.contract.settings import FewShotSettings, require_classes, require_shared_norm
from metarl.fewshot.data.batches import FewShotBatch, LabeledSet, ProtocolFacts
from metarl.nn.mlp import init_mlp
from metarl.parameters import Params
from metarl.validation import Count, SmallCount

__all__ = ["PointTasks", "Transfer", "TransferConfig"]

_CLASSIFIER = "classifier/"
_EPISODE_SETTINGS = ("train_ways", "train_shots", "min_ways", "min_shots", "chunk_size")
_MAX_DECAY = 0.5  # the head's steps overshoot with more
_HEAD_LR = 2.0  # logistic regression on vectors of length 1 is 1-smooth with its bias


@runtime_checkable
class PointTasks(Protocol):
    """Tasks with countable classes whose points can be sampled without episodes."""

    def num_classes(self, split: str) -> int:
        """Number of classes of a split."""

    def sample_points(
        self, num_points: int, *, split: str, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Inputs [points, *input_shape] of uniformly sampled classes, and int64 labels [points]."""


@dataclass(frozen=True)
class TransferConfig(FewShotSettings):
    """Settings of the transfer baseline."""

    batch_points: Count = 64
    """Labeled points per iteration; training does not use meta_batch_size."""
    head_steps: SmallCount = 100
    """Gradient steps of a new head, which starts at zero."""
    head_decay: Annotated[float, Interval(ge=0, le=_MAX_DECAY)] = 0.001
    """Weight decay of a head: coefficient of ½‖weights‖² in its loss."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        super().check_consistency()
        require_shared_norm(self)
        for name in _EPISODE_SETTINGS:
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name} must be left out for transfer, which trains on batch_points labeled "
                    f"points at a time, without episodes, got {getattr(self, name)}"
                )


class Transfer(MetricLearner):
    """A classifier of all training classes; tasks use logistic regression on its embeddings.

    The new heads take embeddings normalized to length 1, and ignore classes without support.

    Source: the baseline of Chen et al. 2019 (arXiv:1904.04232); unit length as in Tian et al. 2020
    (arXiv:2003.11539).
    """

    config_type: ClassVar[type[TransferConfig]] = TransferConfig
    config: TransferConfig

    def __init__(self, config: TransferConfig, problem: Problem) -> None:
        """A learner for a classification problem whose training classes can be counted."""
        require_classes("transfer", problem)
        if not problem.num_train_classes:
            raise ValueError(
                "learner transfer needs a data set with num_classes and sample_points, to sample "
                "labeled points without episodes; this one samples episodes only"
            )
        super().__init__(config, problem)
        self._inner = InnerLoop(
            loss=self._head_loss,
            rule=sgd(_HEAD_LR),
            num_steps=config.head_steps,
            mode="first_order",
            batching="explicit",
        )

    @property
    def adaptation_description(self) -> str:
        """The new head and its steps."""
        return f"logistic regression on the support ({self.config.head_steps} steps)"

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters of the embedding and of the classifier of all training classes."""
        sizes = (self.backbone.num_features, self.problem.num_train_classes)
        classifier = init_mlp(sizes, generator)
        params = super().init(generator)
        return params | {_CLASSIFIER + name: p for name, p in classifier.items()}

    def sample_batch(self, tasks: PointTasks, generator: torch.Generator) -> FewShotBatch:
        """Sample labeled points of the training classes, as both sets of one task."""
        inputs, labels = tasks.sample_points(
            self.config.batch_points, split=self.config.train_split, generator=generator
        )
        points = LabeledSet(inputs.unsqueeze(0), labels.unsqueeze(0))
        return FewShotBatch(points, points)

    def meta_loss(self, params: Params, batch: FewShotBatch) -> Tensor:
        """Cross-entropy of the classifier of all training classes on the query, [tasks]."""
        query = batch.query
        features = embed_alone(self.backbone, params, query.inputs, query.mask)
        weight, bias = (params[_CLASSIFIER + name] for name in ("weight_0", "bias_0"))
        logits = functional.linear(features, weight, bias)
        return task_losses("classification", logits, query.targets, query.mask)

    def adapt(self, params: Params, support: LabeledSet) -> AdaptedTasks:
        """A head for each task, fitted to its embedded support; no gradient reaches `params`."""
        with torch.no_grad():
            found = embed_alone(self.backbone, params, support.inputs, support.mask)
            features = _unit_length(found)
            mask = () if support.mask is None else (support.mask,)
            num_classes = int(support.targets.max()) + 1
            members = membership(support, num_classes, features.dtype)
            zero = {
                "weight": features.new_zeros(num_classes, features.shape[-1]),
                "bias": features.new_zeros(num_classes),
            }
            head = adapt(zero, (features, members, support.targets, *mask), self._inner)
        return AdaptedTasks(head, params, support)

    def predict(self, adapted: AdaptedTasks, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [tasks, points, classes]; the lowest number for classes without support."""
        norm = self.config.batch_norm
        logits = head_outputs(self.backbone, adapted, inputs, mask, norm, scaled=_unit_length)
        return without_absent(logits, membership(adapted.support, logits.shape[-1], logits.dtype))

    def facts(self) -> ProtocolFacts:
        """The kind of adaptation, and the meaning of batch norm."""
        return super().facts() | norm_facts(self.config, passes="apart")

    def _head_loss(self, head: Params, parts: Parts) -> Tensor:
        features, members, targets, *mask = parts
        logits = without_absent(head_logits(head, features), members)
        loss = task_losses("classification", logits, targets, *mask)
        return loss + self.config.head_decay / 2 * head["weight"].square().sum((-2, -1))


def _unit_length(features: Tensor) -> Tensor:
    return functional.normalize(features, dim=-1)
