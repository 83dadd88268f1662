"""Reptile: train on a task for a while, and move the start towards where that ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from metarl.bilevel.adaptation import adapt, inner_step
from metarl.bilevel.inner_loop import InnerLoop, PerStep
from metarl.bilevel.rules import sgd
from metarl.fewshot.data.batches import (
    EpisodeRanges,
    EpisodeShape,
    FewShotBatch,
    LabelledSet,
    ProtocolFacts,
)
from metarl.fewshot.learners.gradient import (
    AdaptedTasks,
    support_loss,
    task_outputs,
    task_statistics,
)
from metarl.fewshot.learners.interface import Moment, norm_facts, parts_of
from metarl.fewshot.learners.problem import Problem, task_losses
from metarl.fewshot.learners.settings import FewShotSettings, require_one_head, require_shared_norm
from metarl.parameters import Params
from metarl.validation import require_at_least, require_between, require_choice

__all__ = ["Reptile", "ReptileConfig", "minibatches"]

_SECOND, _DECAYED = "second_moment/", "decayed"
_DECAY, _EPSILON = 0.999, 1e-8  # of Adam


@dataclass(frozen=True)
class ReptileConfig(FewShotSettings):
    """Settings of Reptile; the inner ones are those of its Omniglot runs."""

    num_inner_steps: int = 5
    """Inner steps in training, each on a minibatch of the support set."""
    inner_batch: int = 10
    """Points of a minibatch."""
    inner_lr: float = 1e-3
    """Learning rate of the inner optimiser."""
    inner_optimizer: Literal["adam", "sgd"] = "adam"
    """Adam is the paper's, without momentum (β₁ = 0), new for every task."""
    num_test_steps: int = 50
    """Steps of `adapt`, each on the whole support set."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_inner_steps", "inner_batch", "num_test_steps"):
            require_at_least(name, getattr(self, name), 1)
        require_between("inner_lr", self.inner_lr, 0, float("inf"), open_low=True)
        require_choice("inner_optimizer", self.inner_optimizer, ("adam", "sgd"))
        require_shared_norm(self)
        require_one_head(self)

    def train_episodes(self, problem: Problem) -> EpisodeShape | EpisodeRanges:
        """Episodes of training as they are drawn.

        Raises:
            ValueError: as for all learners; and if support sets vary in size and a minibatch is
                smaller than the largest, as it would draw points that do not count.
        """
        episodes = super().train_episodes(problem)
        shape = self.train_shape(problem)
        whole = shape.ways * shape.shots
        if isinstance(episodes, EpisodeRanges) and self.inner_batch < whole:
            raise ValueError(
                f"inner_batch must be {whole} or more, the whole support set, where ways or shots "
                f"vary, got {self.inner_batch}"
            )
        return episodes


class Reptile:
    """θ ← θ + ε mean over tasks of (φ − θ), φ from inner steps on minibatches of the task.

    The outer optimiser descends θ − φ: plain descent at rate ε is the paper's. Query points of a
    training episode only measure. All parameters are adapted, batch norm's too.

    Source: Nichol et al. 2018 (arXiv:1803.02999), alg. 2. Differs: Adam's second moments start
    anew for each task (the paper's code carries them from task to task).
    """

    config_type: ClassVar[type[ReptileConfig]] = ReptileConfig
    has_steps: ClassVar[bool] = True

    def __init__(self, config: ReptileConfig, problem: Problem) -> None:
        """For a problem with as many outputs as the episodes have classes."""
        self.config, self.problem = config, problem
        self.backbone = config.make_backbone(problem, problem.num_outputs)
        self._names = tuple(self.backbone.init(torch.Generator()))
        is_adam = config.inner_optimizer == "adam"
        self._inner = InnerLoop(
            loss=support_loss(self.backbone, problem.kind),
            rule=self._adam_step if is_adam else sgd(config.inner_lr),
            num_steps=config.num_inner_steps,
            mode="first_order",
            batching="explicit",
            chunk_size=config.chunk_size,
            adapted=self._names,
        )

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters of the net."""
        return self.backbone.init(generator)

    def meta_loss(self, params: Params, batch: FewShotBatch) -> Tensor:
        """Query loss after the test's steps, [tasks]; Reptile does not descend it."""
        query = batch.query
        outputs = self.predict(self.adapt(params, batch.support), query.inputs, query.mask)
        return task_losses(self.problem.kind, outputs, query.targets, query.mask)

    def meta_gradient(
        self, params: Params, batch: FewShotBatch, moment: Moment
    ) -> tuple[Tensor, Params]:
        """Query losses after the inner steps [tasks], and θ − φ, mean over tasks."""
        config, query = self.config, batch.query
        steps = minibatches(
            batch.support, config.num_inner_steps, config.inner_batch, moment.generator
        )
        with torch.no_grad():
            found = adapt(self._start(params), steps, self._inner)
            adapted = AdaptedTasks(found, batch.support)
            outputs = self.predict(adapted, query.inputs, query.mask)
            losses = task_losses(self.problem.kind, outputs, query.targets, query.mask)
            return losses, {name: p - found[name].mean(0) for name, p in params.items()}

    def adapt(self, params: Params, support: LabelledSet) -> AdaptedTasks:
        """Parameters of all tasks after the test's steps on the whole support set."""
        inner = replace(self._inner, num_steps=self.config.num_test_steps)
        return AdaptedTasks(adapt(self._start(params), parts_of(support), inner), support)

    def trajectory(
        self, params: Params, support: LabelledSet, num_steps: int
    ) -> Iterator[AdaptedTasks]:
        """Parameters of all tasks after 0 … num_steps steps, without a graph."""
        parts = parts_of(support)
        with torch.no_grad():
            current = adapt(self._start(params), parts, replace(self._inner, num_steps=0))
        yield AdaptedTasks(current, support)
        for _ in range(num_steps):
            current = inner_step(current, parts, self._inner)
            yield AdaptedTasks(current, support)

    def predict(self, adapted: AdaptedTasks, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [tasks, points, ways] or predictions [tasks, points, D]."""
        return task_outputs(self.backbone, adapted, inputs, mask, self.config.batch_norm)

    def statistics(self, params: Params, batch: FewShotBatch) -> Params:
        """Means over tasks, and over the support set before and the query set after adaptation."""
        return task_statistics(
            self.backbone,
            params,
            batch,
            self.config.batch_norm,
            lambda: self.adapt(params, batch.support),
        )

    def facts(self) -> ProtocolFacts:
        """How it adapts, and what batch norm means."""
        config = self.config
        return {
            "adaptation": f"steps of {config.inner_optimizer}, rate {config.inner_lr:g} "
            f"({config.num_inner_steps} on minibatches of {config.inner_batch} in training)",
            **norm_facts(config, passes="apart"),
        }

    def _start(self, params: Params) -> Params:
        """Parameters with what Adam keeps of a task."""
        if self.config.inner_optimizer == "sgd":
            return params
        moments = {_SECOND + name: torch.zeros_like(params[name]) for name in self._names}
        one = next(iter(params.values())).new_ones(())
        return {**params, **moments, _DECAYED: one}

    def _adam_step(self, params: Params, grads: Params) -> Params:
        """v ← β v + (1 − β) g²;  φ − α g / (√(v / (1 − βᵗ)) + ε);  `decayed` is βᵗ⁻¹."""
        decayed = params[_DECAYED] * _DECAY
        moved = {**params, _DECAYED: decayed}
        for name, grad in grads.items():
            second = params[_SECOND + name].lerp(grad.square(), 1 - _DECAY)
            share = (1 - decayed).reshape(*decayed.shape, *[1] * (grad.dim() - decayed.dim()))
            length = (second / share).sqrt() + _EPSILON
            moved[_SECOND + name] = second
            moved[name] = params[name] - self.config.inner_lr * grad / length
        return moved


def minibatches(
    support: LabelledSet, num_steps: int, size: int, generator: torch.Generator
) -> PerStep:
    """The support set in shuffled passes, cut into minibatches, for each task its own.

    A minibatch may span two passes, so a point can come up twice in it.

    Args:
        support: [tasks, points, ...].
        num_steps: minibatches.
        size: points of each; no more than there are.
        generator: on the device of the data.
    """
    num_tasks, num_points = support.inputs.shape[:2]
    size = min(size, num_points)
    num_passes = -(-num_steps * size // num_points)
    keys = torch.rand(
        (num_tasks, num_passes, num_points), generator=generator, device=generator.device
    )
    order = keys.argsort(-1).flatten(1)[:, : num_steps * size].unflatten(1, (num_steps, size))
    tasks = torch.arange(num_tasks, device=order.device).unsqueeze(-1)
    parts = parts_of(support)
    return PerStep([tuple(p[tasks, order[:, k]] for p in parts) for k in range(num_steps)])
