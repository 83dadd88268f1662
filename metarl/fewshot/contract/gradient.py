"""Contract and shared work of the learners that adapt parameters by gradient steps.

`GradientLearner` owns the inner loop, the meta-gradient along its path, prediction and statistics.
A learner adds its settings and, if they differ, the inner rule, the start of the steps, the
parameters that they move, or the meta-gradient.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from metarl.bilevel.adaptation import adapt
from metarl.bilevel.inner_loop import Batch, InnerLoop, Loss
from metarl.bilevel.learned_rates import RateKind, Rates
from metarl.bilevel.meta_gradients import TaskPath, meta_gradient
from metarl.bilevel.rules import InnerRule, StatefulRule
from metarl.bilevel.steps import initial_task_state, stateful_step
from metarl.fewshot.contract.interface import (
    Parts,
    TrainingContext,
    autograd_meta_gradient,
    joined,
    norm_facts,
    parts_of,
)
from metarl.fewshot.contract.problem import Problem, task_losses
from metarl.fewshot.contract.settings import FewShotSettings, require_one_head
from metarl.fewshot.data.batches import FewShotBatch, LabeledSet, ProtocolFacts
from metarl.nn.backbones import Backbone
from metarl.parameters import Params
from metarl.validation import NumSteps, Positive

__all__ = [
    "AdaptedTasks",
    "Differentiation",
    "GradientLearner",
    "GradientSettings",
    "Layers",
    "QuerySlot",
    "StepWeights",
]

StepWeights: TypeAlias = list[tuple[int, float]]
"""Pairs: a number of inner steps, and the weight of the query loss after them."""
Layers = Literal["all", "body"]
QuerySlot = Literal["own", "next"]
Differentiation = Literal["unrolled", "recurrence", "first_order"]
_ORDER = {"unrolled": "second", "recurrence": "second", "first_order": "first"}


@dataclass(frozen=True)
class GradientSettings(FewShotSettings):
    """Settings of learners that take gradient steps; properties are fixed by the learner's name."""

    num_inner_steps: NumSteps = 1
    """Gradient steps of adaptation in training."""
    inner_lr: Positive = 0.01
    """Learning rate of adaptation, for the mean loss over all points."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        super().check_consistency()
        require_one_head(self)

    @property
    def differentiation(self) -> Differentiation:
        """The method of differentiation through the inner loop; see `InnerLoop.mode`."""
        return "unrolled"

    @property
    def rates(self) -> RateKind:
        """Whether the inner learning rates are fixed, or how they are learned."""
        return "fixed"

    @property
    def adapted(self) -> Layers | None:
        """The layers that adaptation changes; None: the learner decides."""
        return None

    @property
    def query_slot(self) -> QuerySlot:
        """The step whose scale and offset the query gets, with batch norm per step."""
        return "own"

    def step_weights(self, iteration: int) -> StepWeights:
        """Ascending numbers of inner steps after which the query loss counts, each with its weight.

        Args:
            iteration: number of previous training iterations.
        """
        del iteration
        return [(self.num_inner_steps, 1.0)]

    def differentiation_at(self, iteration: int) -> Differentiation:
        """The `differentiation` of a training iteration."""
        del iteration
        return self.differentiation


class AdaptedTasks(NamedTuple):
    """Parameters after adaptation."""

    params: Params
    """The parameters of each task by name, each [tasks, ...]."""
    shared: Params
    """Parameters that all tasks share, by name, without a task axis; {} if there are none."""
    support: LabeledSet
    """The support sets, which normalization may need in prediction."""


class GradientLearner(ABC):
    """A learner whose adaptation is a number of gradient steps on each task's support set."""

    config_type: ClassVar[type[Any]]
    has_steps: ClassVar[bool] = True
    can_compile: ClassVar[bool] = False
    """Whether the meta-gradient depends on parameters and batch only, by operations that
    `torch.compile` can trace."""
    needs_classes: ClassVar[bool] = False
    """Whether the learner supports classification only."""
    config: Any  # an instance of `config_type`

    def __init__(self, config: GradientSettings, problem: Problem) -> None:
        """A learner for a problem with as many outputs as the episodes have classes."""
        self.config, self.problem = config, problem
        self.backbone = self.make_backbone()
        self.adapted_names = self.choose_adapted_names()
        if not self.adapted_names:
            raise ValueError(
                f"choose_adapted_names of {type(self).__name__} must return the name of at least "
                "one parameter that adapts, got none"
            )
        slots = self.backbone.norm_names if config.batch_norm == "per-step" else ()
        self._rates = Rates(config.rates, config.inner_lr, config.num_inner_steps, slots)
        self._query_rows = slots if config.query_slot == "own" else ()

    # Members that a learner defines or replaces.

    @property
    def adaptation_description(self) -> str:
        """A description of adaptation, printed with results."""
        config = self.config
        return (
            f"gradient steps ({config.num_inner_steps} in training), rate {config.inner_lr:g} on "
            f"the mean loss, {config.rates}; {_ORDER[config.differentiation]} order"
        )

    @property
    def num_adapt_steps(self) -> int:
        """Inner steps of `adapt`."""
        return int(self.config.num_inner_steps)

    def make_backbone(self) -> Backbone:
        """The net; with batch norm per step it has a scale and an offset for each step."""
        config, num_slots = self.config, 1
        if config.batch_norm == "per-step":
            last = 0 if config.query_slot == "own" else 1
            num_slots = max(config.num_inner_steps + last, 1)
        outputs = self.problem.num_outputs
        is_first_order = config.differentiation == "first_order"
        backbone: Backbone = config.make_backbone(
            self.problem, outputs, num_slots=num_slots, is_first_order=is_first_order
        )
        return backbone

    def choose_adapted_names(self) -> tuple[str, ...]:
        """Names of the parameters that the inner steps change.

        Normalization is excluded, as in MAML's code, and so is the head if the settings say so.
        """
        fixed = self.backbone.norm_names
        if self.config.adapted == "body":
            fixed += self.backbone.head_names
        names = self.backbone.init(torch.Generator())
        return tuple(name for name in names if name not in fixed)

    def inner_rule(self) -> InnerRule | StatefulRule:
        """The inner rule."""
        return self._rates.rule

    def start(self, params: Params) -> Params:
        """Parameters and working values before the first step, without a task axis.

        With batch norm per step, the first row belongs to the query and the others to the steps.
        Each step drops the first row, so that the query has the row of the step before it.
        """
        rows = {name: torch.cat([params[name][:1], params[name]]) for name in self._query_rows}
        return params | rows | self._rates.initial_velocities(params, self.adapted_names)

    def shared_params(self, params: Params) -> Params:
        """Parameters that the inner loss reads and adaptation leaves unchanged."""
        del params
        return {}

    def inner_batch(self, params: Params, support: LabeledSet) -> Parts:
        """The data of an inner step, tensors [tasks, ...]; all tasks share `params`."""
        del params
        return parts_of(support)

    def inner_loss(self, shared: Params) -> Loss:
        """The inner loss [tasks] as a function of adapted parameters and data."""

        def loss(params: Params, parts: Parts) -> Tensor:
            inputs, targets, *mask = parts
            of_step = {name: params[name][..., 1:, :] for name in self._query_rows}
            outputs = self.backbone.logits({**shared, **params, **of_step}, inputs, *mask)
            return task_losses(self.problem.kind, outputs, targets, *mask)

        return loss

    # The contract of `FewShotLearner`.

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters of the net, and inner learning rates if they are learned."""
        params = self.backbone.init(generator)
        if self._rates.kind == "fixed":
            return params
        return params | self._rates.init(params, self.adapted_names)

    def meta_loss(self, params: Params, batch: FewShotBatch) -> Tensor:
        """Query loss after adaptation, [tasks], differentiable with respect to `params`."""
        return self.query_loss(self.adapt(params, batch.support), batch.query)

    def meta_gradient(
        self, params: Params, batch: FewShotBatch, context: TrainingContext
    ) -> tuple[Tensor, Params]:
        """Losses after the last step [tasks], and the gradient along the path of the inner loop.

        If the inner loss reads parameters that all tasks share, autograd differentiates the whole
        meta-loss, because the core differentiates with respect to adapted parameters only.
        """
        if self.shared_params(params):
            return autograd_meta_gradient(self.meta_loss, params, batch, self.config.chunk_size)
        mode = self.config.differentiation_at(context.iteration)
        inner = replace(self.inner_loop(params), mode=mode)
        weights = self.config.step_weights(context.iteration)
        data = self.inner_batch(params, batch.support), self._query_batch(batch)
        if len(weights) == 1:
            losses, grads = meta_gradient(
                self.start(params), *data, inner, query_loss=self._outer_loss
            )
        else:
            losses, grads = self._path_gradient(self.start(params), *data, inner, weights)
        for name in self._query_rows:  # the first row of `start` is a copy of the second
            first, rest = grads[name][:1], grads[name][1:]
            grads[name] = torch.cat([first + rest[:1], rest[1:]])
        return losses, {name: grads[name] for name in params}

    def adapt(self, params: Params, support: LabeledSet) -> AdaptedTasks:
        """Parameters of all tasks after the inner steps, differentiable through the steps."""
        inner = replace(self.inner_loop(params), num_steps=self.num_adapt_steps)
        found = adapt(self.start(params), self.inner_batch(params, support), inner)
        return AdaptedTasks(found, self.shared_params(params), support)

    def trajectory(
        self, params: Params, support: LabeledSet, num_steps: int
    ) -> Iterator[AdaptedTasks]:
        """Parameters of all tasks after 0 … num_steps steps, without a graph."""
        with torch.no_grad():
            inner, batch = self.inner_loop(params), self.inner_batch(params, support)
            state = initial_task_state(self.start(params), inner, len(support.inputs))
        shared = self.shared_params(params)
        yield AdaptedTasks(state.params, shared, support)
        for _ in range(num_steps):
            state = stateful_step(state, batch, inner)
            yield AdaptedTasks(state.params, shared, support)

    def predict(self, adapted: AdaptedTasks, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [tasks, points, ways] or predictions [tasks, points, D]."""
        params = {**adapted.shared, **adapted.params}
        if self.config.batch_norm != "support":
            return self.backbone.logits(params, inputs, mask)
        both, counts = joined(adapted.support, inputs, mask, "support")
        return self.backbone.logits(params, both, counts)[:, adapted.support.inputs.shape[1] :]

    def statistics(self, params: Params, batch: FewShotBatch) -> Params:
        """Statistics of the support before and the query after adaptation, averaged over tasks.

        {} unless batch norm keeps running statistics.
        """
        if self.config.batch_norm != "running" or not self.backbone.norm_names:
            return {}
        support, query = batch
        with torch.no_grad():
            first = self.backbone.statistics(params, support.inputs, support.mask)
            adapted = self.adapt(params, support).params
            then = self.backbone.statistics(adapted, query.inputs, query.mask)
        return {name: (first[name] + then[name]).mean(0) / 2 for name in then}

    def facts(self) -> ProtocolFacts:
        """The kind of adaptation, and the meaning of batch norm."""
        layers = self.config.adapted
        return {
            "adaptation": self.adaptation_description,
            **({} if layers is None else {"adapted": layers}),
            **norm_facts(self.config, passes="apart"),
        }

    # Shared work.

    def inner_loop(self, params: Params) -> InnerLoop:
        """The inner loop along an explicit task axis."""
        is_all = self.start(params).keys() == set(self.adapted_names)
        return InnerLoop(
            loss=self.inner_loss(self.shared_params(params)),
            rule=self.inner_rule(),
            num_steps=self.config.num_inner_steps,
            mode=self.config.differentiation,
            batching="explicit",
            chunk_size=self.config.chunk_size,
            adapted=None if is_all else self.adapted_names,
        )

    def query_loss(self, adapted: AdaptedTasks, query: LabeledSet) -> Tensor:
        """Loss of the query after adaptation, [tasks]."""
        outputs = self.predict(adapted, query.inputs, query.mask)
        return task_losses(self.problem.kind, outputs, query.targets, query.mask)

    def _path_gradient(
        self, start: Params, support: Parts, query: Parts, inner: InnerLoop, weights: StepWeights
    ) -> tuple[Tensor, Params]:
        """Losses after the last step, and the gradient of weighted losses along one path."""
        last: list[Tensor] = []  # last losses of each chunk of tasks

        def weighted(path: TaskPath) -> Tensor:
            losses = {step: self._outer_loss(path.params[step], path.query) for step, _ in weights}
            last.append(losses[inner.num_steps].detach())
            return torch.stack([weight * losses[step] for step, weight in weights]).sum(0)

        _, grads = meta_gradient(start, support, query, inner, outer_loss=weighted)
        return torch.cat(last), grads

    def _query_batch(self, batch: FewShotBatch) -> Parts:
        """The data of the outer loss; with batch norm by the support set, inputs of both sets."""
        if self.config.batch_norm != "support":
            return parts_of(batch.query)
        both, counts = joined(batch.support, batch.query.inputs, batch.query.mask, "support")
        assert counts is not None
        return both, counts, *parts_of(batch.query)[1:]

    def _outer_loss(self, params: Params, parts: Batch) -> Tensor:
        if self.config.batch_norm != "support":
            inputs, targets, *mask = parts
            outputs = self.backbone.logits(params, inputs, *mask)
        else:
            inputs, counts, targets, *mask = parts
            outputs = self.backbone.logits(params, inputs, counts)[:, -targets.shape[1] :]
        return task_losses(self.problem.kind, outputs, targets, *mask)
