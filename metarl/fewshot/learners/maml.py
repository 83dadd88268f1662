"""MAML and its kin: gradient steps on the support set, from a start that is learned.

FOMAML, BOIL, Meta-SGD, MAML++ and learned momentum are the same algorithm with other settings:
which parameters move, at whose rates, and what of the path is differentiated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from metarl.bilevel.adaptation import adapt, inner_step, meta_gradient
from metarl.bilevel.inner_loop import InnerLoop
from metarl.bilevel.rules import RateKind, Rates
from metarl.fewshot.data.batches import FewShotBatch, LabelledSet, ProtocolFacts
from metarl.fewshot.learners.gradient import (
    AdaptedTasks,
    support_loss,
    task_outputs,
    task_statistics,
)
from metarl.fewshot.learners.interface import Moment, Parts, joined, norm_facts, parts_of
from metarl.fewshot.learners.problem import Problem, task_losses
from metarl.fewshot.learners.settings import FewShotSettings, require_one_head
from metarl.parameters import Params
from metarl.validation import require_at_least, require_between, require_choice

__all__ = ["MAML", "MAMLConfig"]


@dataclass(frozen=True)
class MAMLConfig(FewShotSettings):
    """Defaults are those of the sinusoid experiment of Finn et al. 2017 (arXiv:1703.03400)."""

    num_inner_steps: int = 1
    """Gradient steps of adaptation in training. 0 pre-trains one net on all tasks."""
    inner_lr: float = 0.01
    """Learning rate of adaptation, or where learned rates start; of the mean loss of all points."""
    mode: Literal["unrolled", "recurrence", "first_order"] = "unrolled"
    """How the meta-gradient is computed; first_order drops second derivatives."""
    adapted: Literal["all", "body"] = "all"
    """What adaptation moves: all layers, or all but the head (BOIL)."""
    rates: RateKind = "fixed"
    """Learning rates: fixed, or learned per-parameter, per-layer-per-step, or with momentum."""
    multi_step_iterations: int = 0
    """Iterations over which the query losses after every step count, ever less (MAML++)."""
    first_order_iterations: int = 0
    """Iterations at the start without second derivatives (MAML++)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_inner_steps", "multi_step_iterations", "first_order_iterations"):
            require_at_least(name, getattr(self, name), 0)
        require_between("inner_lr", self.inner_lr, 0, float("inf"), open_low=True)
        modes = ("unrolled", "recurrence", "first_order")
        if self.mode not in modes:
            raise ValueError(
                f"mode must be 'unrolled', 'recurrence' or 'first_order', got {self.mode!r}"
            )
        require_choice("adapted", self.adapted, ("all", "body"))
        kinds = ("fixed", "per-parameter", "per-layer-per-step", "momentum")
        require_choice("rates", self.rates, kinds)
        require_one_head(self)


_ORDER = {"unrolled": "second", "recurrence": "second", "first_order": "first"}


class MAML:
    """Model-agnostic meta-learning: a start from which a few gradient steps go far.

    The head has an output for each class of the largest episode. A task of w classes, where they
    vary, has the labels 0 … w − 1; the other outputs stay in its softmax and learn to be low.

    Source: Finn et al. 2017 (arXiv:1703.03400), alg. 2; with other settings Raghu et al. 2020,
    Oh et al. 2021 (arXiv:2008.08882, BOIL), Li et al. 2017 (arXiv:1707.03141, Meta-SGD), Antoniou
    et al. 2019 (arXiv:1810.09502, MAML++). Batch norm's scale and offset are meta-learned and not
    adapted, as in MAML's code. Differs from MAML++: one weight falls linearly for every step but
    the last, from 1/S to 0, and batch norm's running statistics are not kept (see `batch_norm`).
    """

    config_type: ClassVar[type[MAMLConfig]] = MAMLConfig
    has_steps: ClassVar[bool] = True

    def __init__(self, config: MAMLConfig, problem: Problem) -> None:
        """For a problem with as many outputs as the episodes have classes."""
        self.config, self.problem = config, problem
        per_step = config.batch_norm == "per-step"
        self._slots = config.num_inner_steps + 1 if per_step else 1
        self.backbone = config.make_backbone(problem, problem.num_outputs, num_slots=self._slots)
        fixed = self.backbone.norm_names
        if config.adapted == "body":
            fixed += self.backbone.head_names
        names = self.backbone.init(torch.Generator())
        self._adapted = tuple(name for name in names if name not in fixed)
        self._rates = Rates(
            config.rates,
            config.inner_lr,
            config.num_inner_steps,
            self.backbone.norm_names if per_step else (),
        )
        everything = set(self._adapted) == set(names) and config.rates == "fixed"
        self._inner = InnerLoop(
            loss=support_loss(self.backbone, problem.kind),
            rule=self._rates.rule,
            num_steps=config.num_inner_steps,
            mode=config.mode,
            batching="explicit",
            chunk_size=config.chunk_size,
            adapted=None if everything else self._adapted,
        )

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters of the net, and rates if they are learned."""
        params = self.backbone.init(generator)
        return params | self._rates.init(params, self._adapted)

    def meta_loss(self, params: Params, batch: FewShotBatch) -> Tensor:
        """Query loss after the inner steps, [tasks]."""
        query = batch.query
        outputs = self.predict(self.adapt(params, batch.support), query.inputs, query.mask)
        return task_losses(self.problem.kind, outputs, query.targets, query.mask)

    def meta_gradient(
        self, params: Params, batch: FewShotBatch, moment: Moment
    ) -> tuple[Tensor, Params]:
        """Losses after the last step [tasks]; the gradient by the core, in chunks of tasks."""
        inner = self._inner
        if moment.iteration < self.config.first_order_iterations:
            inner = replace(inner, mode="first_order")
        start = params | self._rates.working(params, self._adapted)
        support, query = parts_of(batch.support), self._query_parts(batch)
        total: Params = {}
        for num_steps, weight in self._step_weights(moment.iteration):
            losses, grads = meta_gradient(
                start,
                support,
                query,
                replace(inner, num_steps=num_steps),
                query_loss=self._query_loss,
            )
            if weight != 1:
                grads = {name: weight * g for name, g in grads.items()}
            total = {name: total[name] + grads[name] if total else grads[name] for name in params}
        return losses, total

    def adapt(self, params: Params, support: LabelledSet) -> AdaptedTasks:
        """Parameters of all tasks after the inner steps, differentiable by `params`."""
        start = params | self._rates.working(params, self._adapted)
        return AdaptedTasks(adapt(start, parts_of(support), self._inner), support)

    def trajectory(
        self, params: Params, support: LabelledSet, num_steps: int
    ) -> Iterator[AdaptedTasks]:
        """Parameters of all tasks after 0 … num_steps steps, without a graph."""
        parts = parts_of(support)
        start = params | self._rates.working(params, self._adapted)
        with torch.no_grad():
            current = adapt(start, parts, replace(self._inner, num_steps=0))
        yield AdaptedTasks(current, support)
        for _ in range(num_steps):
            current = inner_step(current, parts, self._inner)
            yield AdaptedTasks(current, support)

    def predict(self, adapted: AdaptedTasks, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [tasks, points, ways] or predictions [tasks, points, D]."""
        return task_outputs(self.backbone, adapted, inputs, mask, self.config.batch_norm)

    def statistics(self, params: Params, batch: FewShotBatch) -> Params:
        """Means over tasks, and over the support set before and the query set after adaptation."""

        def last() -> AdaptedTasks:
            return list(self.trajectory(params, batch.support, self.config.num_inner_steps))[-1]

        return task_statistics(self.backbone, params, batch, self.config.batch_norm, last)

    def facts(self) -> ProtocolFacts:
        """How it adapts, and what batch norm means."""
        config = self.config
        return {
            "adaptation": f"gradient steps ({config.num_inner_steps} in training), "
            f"rate {config.inner_lr:g} on the mean loss, {config.rates}; "
            f"{_ORDER[config.mode]} order",
            "adapted": config.adapted,
            **norm_facts(config, passes="apart"),
        }

    def _step_weights(self, iteration: int) -> list[tuple[int, float]]:
        """After how many steps query losses count, and how much; the last step comes last."""
        last, horizon = self.config.num_inner_steps, self.config.multi_step_iterations
        if last == 0 or iteration >= horizon:
            return [(last, 1.0)]
        early = (1 - iteration / horizon) / last
        return [*((step, early) for step in range(1, last)), (last, 1 - early * (last - 1))]

    def _query_parts(self, batch: FewShotBatch) -> Parts:
        """What the query loss needs: under "support" the inputs of both sets."""
        if self.config.batch_norm != "support":
            return parts_of(batch.query)
        both, counts = joined(batch.support, batch.query.inputs, batch.query.mask, "support")
        assert counts is not None
        return both, counts, *parts_of(batch.query)[1:]

    def _query_loss(self, params: Params, parts: Parts) -> Tensor:
        if self.config.batch_norm != "support":
            return self._inner.loss(params, parts)
        both, counts, targets, *mask = parts
        outputs = self.backbone.logits(params, both, counts)[:, -targets.shape[1] :]
        return task_losses(self.problem.kind, outputs, targets, *mask)
