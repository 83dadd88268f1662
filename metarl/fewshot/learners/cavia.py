"""CAVIA: adaptation moves a small context that modulates the net; all tasks share the net."""

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
from metarl.fewshot.learners.interface import (
    Moment,
    Parts,
    autograd_meta_gradient,
    joined,
    norm_facts,
    parts_of,
)
from metarl.fewshot.learners.metric import SharedTasks, episode_statistics
from metarl.fewshot.learners.problem import Problem, task_losses
from metarl.fewshot.learners.settings import FewShotSettings, require_one_head, require_shared_norm
from metarl.parameters import Params
from metarl.validation import require_at_least, require_between, require_choice

__all__ = ["CAVIA", "CAVIAConfig", "ContextTasks"]


@dataclass(frozen=True)
class CAVIAConfig(FewShotSettings):
    """Settings of CAVIA; the defaults are those of its sinusoid experiment."""

    num_context: int = 5
    """Numbers of the context, zero before adaptation."""
    num_inner_steps: int = 1
    """Gradient steps of the context in training."""
    inner_lr: float = 1.0
    """Learning rate of the context, of the mean loss of all points."""
    mode: Literal["unrolled", "first_order"] = "unrolled"
    """How the meta-gradient is computed; first_order drops second derivatives."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("num_context", self.num_context, 1)
        require_at_least("num_inner_steps", self.num_inner_steps, 0)
        require_between("inner_lr", self.inner_lr, 0, float("inf"), open_low=True)
        require_choice("mode", self.mode, ("unrolled", "first_order"))
        require_shared_norm(self)
        require_one_head(self)


class ContextTasks(NamedTuple):
    """A context for each task, and the net that all share."""

    context: Tensor
    """[tasks, num_context]."""
    shared: SharedTasks


class CAVIA:
    """Fast context adaptation: φ ← φ − α ∇_φ L(φ, θ) from φ = 0; θ learns outside only.

    Source: Zintgraf et al. 2019 (arXiv:1810.03642), eq. 4–5. Perceptrons take the context as
    further inputs. Differs: the third block of a convolutional net is scaled by 1 + γ, not γ, so
    that the context starts near the identity.
    """

    config_type: ClassVar[type[CAVIAConfig]] = CAVIAConfig
    has_steps: ClassVar[bool] = True

    def __init__(self, config: CAVIAConfig, problem: Problem) -> None:
        """For a problem with as many outputs as the episodes have classes."""
        self.config, self.problem = config, problem
        self.backbone = config.make_backbone(
            problem, problem.num_outputs, num_context=config.num_context
        )

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters of the net; the context is not among them."""
        return self.backbone.init(generator)

    def meta_loss(self, params: Params, batch: FewShotBatch) -> Tensor:
        """Query loss after the context's steps, [tasks]."""
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

    def adapt(self, params: Params, support: LabelledSet) -> ContextTasks:
        """Contexts of all tasks after the inner steps, differentiable by `params`."""
        adapted = adapt(self._start(params), parts_of(support), self._inner(params))
        return ContextTasks(adapted["context"], SharedTasks(params, support))

    def trajectory(
        self, params: Params, support: LabelledSet, num_steps: int
    ) -> Iterator[ContextTasks]:
        """Contexts of all tasks after 0 … num_steps steps, without a graph."""
        inner, parts = self._inner(params), parts_of(support)
        with torch.no_grad():
            current = adapt(self._start(params), parts, replace(inner, num_steps=0))
        shared = SharedTasks(params, support)
        yield ContextTasks(current["context"], shared)
        for _ in range(num_steps):
            current = inner_step(current, parts, inner)
            yield ContextTasks(current["context"], shared)

    def predict(self, adapted: ContextTasks, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [tasks, points, ways] or predictions [tasks, points, D]."""
        shared = adapted.shared
        if self.config.batch_norm != "support":
            return self._outputs(shared.params, adapted.context, inputs, mask)
        both, counts = joined(shared.support, inputs, mask, "support")
        outputs = self._outputs(shared.params, adapted.context, both, counts)
        return outputs[:, shared.support.inputs.shape[1] :]

    def statistics(self, params: Params, batch: FewShotBatch) -> Params:
        """Of support and query together, at a context of zero."""
        points = batch.query.inputs
        context = points.new_zeros(len(points), self.config.num_context)
        at_start = {**params, "context": context}
        return episode_statistics(self.backbone, at_start, batch, self.config.batch_norm)

    def facts(self) -> ProtocolFacts:
        """How it adapts, and what batch norm means."""
        config = self.config
        return {
            "adaptation": f"gradient steps of {config.num_context} context numbers "
            f"({config.num_inner_steps} in training), rate {config.inner_lr:g} on the mean loss",
            **norm_facts(config, passes="apart"),
        }

    def _inner(self, params: Params) -> InnerLoop:
        """The inner loop over contexts, along an explicit task axis; autograd sees the net."""

        def loss(context: Params, parts: Parts) -> Tensor:
            inputs, targets, *mask = parts
            outputs = self._outputs(params, context["context"], inputs, *mask)
            return task_losses(self.problem.kind, outputs, targets, *mask)

        return InnerLoop(
            loss=loss,
            rule=sgd(self.config.inner_lr),
            num_steps=self.config.num_inner_steps,
            mode=self.config.mode,
            batching="explicit",
        )

    def _start(self, params: Params) -> Params:
        """A context of zero; it asks for gradients, so that the path to it is recorded."""
        like = next(iter(params.values()))
        zero = like.new_zeros(self.config.num_context)
        return {"context": zero.requires_grad_(torch.is_grad_enabled())}

    def _outputs(
        self, params: Params, context: Tensor, inputs: Tensor, counts: Tensor | None = None
    ) -> Tensor:
        return self.backbone.logits({**params, "context": context}, inputs, counts)
