"""Reptile: train on a task for some steps, and move the start towards the trained parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from metarl.bilevel.adaptation import adapt
from metarl.bilevel.inner_loop import PerStep
from metarl.bilevel.rules import InnerRule, RuleState, StatefulRule, sgd
from metarl.fewshot.contract.gradient import (
    AdaptedTasks,
    Differentiation,
    GradientLearner,
    GradientSettings,
)
from metarl.fewshot.contract.interface import TrainingContext, parts_of
from metarl.fewshot.contract.problem import Problem
from metarl.fewshot.contract.settings import require_shared_norm
from metarl.fewshot.data.batches import EpisodeRanges, EpisodeShape, FewShotBatch, LabeledSet
from metarl.parameters import Params
from metarl.validation import Count, Positive, SmallCount

__all__ = ["Reptile", "ReptileConfig", "minibatches"]

_DECAYED = "decayed"
_DECAY, _EPSILON = 0.999, 1e-8  # Adam's β₂ and ε


@dataclass(frozen=True)
class ReptileConfig(GradientSettings):
    """Settings of Reptile; the inner settings are from its Omniglot experiments."""

    num_inner_steps: SmallCount = 5
    """Inner steps in training, each on a minibatch of the support set."""
    inner_batch: Count = 10
    """Points of a minibatch."""
    inner_lr: Positive = 1e-3
    """Learning rate of the inner optimizer."""
    inner_optimizer: Literal["adam", "sgd"] = "adam"
    """Inner optimizer; adam, as in the paper, has no momentum (β₁ = 0) and restarts for every
    task."""
    num_test_steps: SmallCount = 50
    """Inner steps at test time, each on the whole support set."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        super().check_consistency()
        require_shared_norm(self)

    @property
    def differentiation(self) -> Differentiation:
        """Nothing is differentiated along the path."""
        return "first_order"

    def train_episodes(self, problem: Problem) -> EpisodeShape | EpisodeRanges:
        """Sizes of training episodes.

        Raises:
            ValueError: as for all learners; and if support sets vary in size and a minibatch is
                smaller than the largest, because it could contain points that do not count.
        """
        episodes = super().train_episodes(problem)
        shape = self.train_shape(problem)
        whole = shape.ways * shape.shots
        if isinstance(episodes, EpisodeRanges) and self.inner_batch < whole:
            raise ValueError(
                f"inner_batch must be {whole} or more, the whole support set, if ways or shots "
                f"vary, got {self.inner_batch}"
            )
        return episodes


class Reptile(GradientLearner):
    """θ ← θ + ε mean over tasks of (φ − θ), φ from inner steps on minibatches of the task.

    The outer optimizer takes θ − φ as the gradient; SGD with rate ε is the paper's algorithm. Query
    points of training episodes are used for metrics only. All parameters are adapted, including
    batch norm.

    Source: Nichol et al. 2018 (arXiv:1803.02999), alg. 2. Differs: Adam's second moments restart
    for each task (the paper's code carries them from task to task), and the head of the net with
    pooling stride takes the spatial mean of the last maps, as MAML's (theirs takes all of them).
    """

    config_type: ClassVar[type[ReptileConfig]] = ReptileConfig

    @property
    def adaptation_description(self) -> str:
        """Optimizer, rate and minibatches."""
        config = self.config
        return (
            f"steps of {config.inner_optimizer}, rate {config.inner_lr:g} "
            f"({config.num_inner_steps} on minibatches of {config.inner_batch} in training)"
        )

    @property
    def num_adapt_steps(self) -> int:
        """Inner steps in the test, each on the whole support set."""
        return int(self.config.num_test_steps)

    def choose_adapted_names(self) -> tuple[str, ...]:
        """All parameters, including normalization."""
        return tuple(self.backbone.init(torch.Generator()))

    def inner_rule(self) -> InnerRule | StatefulRule:
        """Gradient descent, or Adam without momentum."""
        rate = self.config.inner_lr
        return sgd(rate) if self.config.inner_optimizer == "sgd" else adam(rate)

    def meta_gradient(
        self, params: Params, batch: FewShotBatch, context: TrainingContext
    ) -> tuple[Tensor, Params]:
        """Query losses after the inner steps [tasks], and θ − φ, mean over tasks."""
        config = self.config
        steps = minibatches(
            batch.support, config.num_inner_steps, config.inner_batch, context.generator
        )
        with torch.no_grad():
            found = adapt(params, steps, self.inner_loop(params))
            losses = self.query_loss(AdaptedTasks(found, {}, batch.support), batch.query)
            return losses, {name: p - found[name].mean(0) for name, p in params.items()}


def adam(learning_rate: float) -> StatefulRule:
    """Adam without momentum as an inner rule, with a new state for each task.

    v ← β v + (1 − β) g²;   φ ← φ − α g / (√(v / (1 − βᵗ)) + ε);   "decayed" is βᵗ⁻¹
    """

    def init(params: Params) -> RuleState:
        moments = {name: torch.zeros_like(p) for name, p in params.items()}
        return {**moments, _DECAYED: next(iter(params.values())).new_ones(())}

    def step(
        params: Params, grads: Params, state: RuleState, loss: Tensor
    ) -> tuple[Params, RuleState]:
        del loss
        decayed = state[_DECAYED] * _DECAY
        moved, after = dict(params), {**state, _DECAYED: decayed}
        for name, grad in grads.items():
            after[name] = state[name].lerp(grad.square(), 1 - _DECAY)
            length = (after[name] / (1 - decayed)).sqrt() + _EPSILON
            moved[name] = params[name] - learning_rate * grad / length
        return moved, after

    return StatefulRule(init, step)


def minibatches(
    support: LabeledSet, num_steps: int, size: int, generator: torch.Generator
) -> PerStep:
    """Split shuffled passes over the support set into minibatches, separately for each task.

    A minibatch may span two passes, so it can contain a point twice.

    Args:
        support: [tasks, points, ...].
        num_steps: number of minibatches.
        size: points per minibatch, at most the size of the support set.
        generator: on the device of the data.
    """
    num_tasks, num_points = support.inputs.shape[:2]
    size = min(size, num_points)
    num_passes = -(-num_steps * size // num_points)
    keys = torch.rand(
        (num_tasks, num_passes, num_points),
        generator=generator,
        device=generator.device,
        dtype=torch.float32,
    )
    order = keys.argsort(-1).flatten(1)[:, : num_steps * size].unflatten(1, (num_steps, size))
    tasks = torch.arange(num_tasks, device=order.device).unsqueeze(-1)
    parts = parts_of(support)
    return PerStep([tuple(p[tasks, order[:, k]] for p in parts) for k in range(num_steps)])
