"""ANIL: MAML whose inner loop adapts the head only, so the net runs once per episode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from metarl.bilevel.adaptation import adapt, inner_step
from metarl.bilevel.inner_loop import InnerLoop
from metarl.bilevel.rules import sgd
from metarl.fewshot.data.batches import FewShotBatch, LabelledSet, ProtocolFacts
from metarl.fewshot.learners.interface import Moment, Parts, autograd_meta_gradient, norm_facts
from metarl.fewshot.learners.metric import SharedTasks, embed, embed_alone, episode_statistics
from metarl.fewshot.learners.problem import Problem, task_losses
from metarl.fewshot.learners.settings import FewShotSettings, require_one_head, require_shared_norm
from metarl.parameters import Params
from metarl.validation import require_at_least, require_between, require_choice

__all__ = ["ANIL", "ANILConfig", "HeadTasks", "head_logits"]


@dataclass(frozen=True)
class ANILConfig(FewShotSettings):
    """Settings of ANIL."""

    num_inner_steps: int = 1
    """Gradient steps of the head in training."""
    inner_lr: float = 0.01
    """Learning rate of adaptation, of the mean loss of all points."""
    mode: Literal["unrolled", "first_order"] = "unrolled"
    """How the meta-gradient is computed; first_order drops second derivatives."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("num_inner_steps", self.num_inner_steps, 0)
        require_between("inner_lr", self.inner_lr, 0, float("inf"), open_low=True)
        require_choice("mode", self.mode, ("unrolled", "first_order"))
        require_shared_norm(self)
        require_one_head(self)


class HeadTasks(NamedTuple):
    """A head for each task over a net that all share."""

    head: Params
    """weight [tasks, outputs, F] and bias [tasks, outputs]."""
    shared: SharedTasks


class ANIL:
    """Almost no inner loop: features are learned outside, heads are adapted inside.

    The gradient is MAML's for an inner loop over the head alone; here support and query are
    embedded once, not at every step.

    Source: Raghu et al. 2020 (arXiv:1909.09157), sec. 4.
    """

    config_type: ClassVar[type[ANILConfig]] = ANILConfig
    has_steps: ClassVar[bool] = True

    def __init__(self, config: ANILConfig, problem: Problem) -> None:
        """For a problem with as many outputs as the episodes have classes."""
        self.config, self.problem = config, problem
        self.backbone = config.make_backbone(problem, problem.num_outputs)
        self._inner = InnerLoop(
            loss=self._head_loss,
            rule=sgd(config.inner_lr),
            num_steps=config.num_inner_steps,
            mode=config.mode,
            batching="explicit",
        )

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters of net and head."""
        return self.backbone.init(generator)

    def meta_loss(self, params: Params, batch: FewShotBatch) -> Tensor:
        """Query loss after the head's steps, [tasks]."""
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

    def adapt(self, params: Params, support: LabelledSet) -> HeadTasks:
        """Heads of all tasks after the inner steps, differentiable by `params`."""
        head = adapt(self._head(params), self._parts(params, support), self._inner)
        return HeadTasks(head, SharedTasks(params, support))

    def trajectory(
        self, params: Params, support: LabelledSet, num_steps: int
    ) -> Iterator[HeadTasks]:
        """Heads of all tasks after 0 … num_steps steps, without a graph."""
        with torch.no_grad():
            parts = self._parts(params, support)
            head = adapt(self._head(params), parts, replace(self._inner, num_steps=0))
        shared = SharedTasks(params, support)
        yield HeadTasks(head, shared)
        for _ in range(num_steps):
            head = inner_step(head, parts, self._inner)
            yield HeadTasks(head, shared)

    def predict(self, adapted: HeadTasks, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [tasks, points, ways] or predictions [tasks, points, D]."""
        norm = self.config.batch_norm
        if norm == "support":
            features = embed(self.backbone, adapted.shared, inputs, mask, norm).query
        else:
            features = embed_alone(self.backbone, adapted.shared.params, inputs, mask)
        return head_logits(adapted.head, features)

    def statistics(self, params: Params, batch: FewShotBatch) -> Params:
        """Of support and query together."""
        return episode_statistics(self.backbone, params, batch, self.config.batch_norm)

    def facts(self) -> ProtocolFacts:
        """How it adapts, and what batch norm means."""
        config = self.config
        return {
            "adaptation": f"gradient steps of the head ({config.num_inner_steps} in training), "
            f"rate {config.inner_lr:g} on the mean loss",
            **norm_facts(config, passes="apart"),
        }

    def _head(self, params: Params) -> Params:
        weight, bias = self.backbone.head_names
        return {"weight": params[weight], "bias": params[bias]}

    def _parts(self, params: Params, support: LabelledSet) -> Parts:
        """Embedded support, targets and, where there is one, mask."""
        features = embed_alone(self.backbone, params, support.inputs, support.mask)
        if support.mask is None:
            return features, support.targets
        return features, support.targets, support.mask

    def _head_loss(self, head: Params, parts: Parts) -> Tensor:
        features, targets, *mask = parts
        return task_losses(self.problem.kind, head_logits(head, features), targets, *mask)


def head_logits(head: Params, features: Tensor) -> Tensor:
    """x Wᵀ + b of each task: features [tasks, points, F] to [tasks, points, outputs]."""
    return torch.baddbmm(head["bias"].unsqueeze(-2), features, head["weight"].mT)
