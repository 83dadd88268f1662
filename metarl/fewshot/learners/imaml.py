"""iMAML: the meta-gradient at the end of a regularised descent, whatever path led there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from metarl.bilevel.adaptation import adapt, inner_step
from metarl.bilevel.inner_loop import InnerLoop
from metarl.fewshot.data.batches import FewShotBatch, LabelledSet, ProtocolFacts
from metarl.fewshot.learners.gradient import (
    AdaptedTasks,
    support_loss,
    task_outputs,
    task_statistics,
)
from metarl.fewshot.learners.interface import Moment, by_chunks, norm_facts, parts_of
from metarl.fewshot.learners.problem import Problem, task_losses
from metarl.fewshot.learners.settings import FewShotSettings, require_one_head, require_shared_norm
from metarl.optim.trust_region import conjugate_gradient
from metarl.parameters import Params, flatten, unflatten
from metarl.validation import require_at_least, require_between

__all__ = ["IMAML", "IMAMLConfig", "implicit_gradient"]

_ANCHOR = "anchor/"
_CG_TOLERANCE = 1e-20  # the iterations decide


@dataclass(frozen=True)
class IMAMLConfig(FewShotSettings):
    """Settings of implicit MAML."""

    num_inner_steps: int = 16
    """Gradient steps of adaptation; memory does not grow with them."""
    inner_lr: float = 0.01
    """Learning rate of adaptation, of the mean loss of all points."""
    regularization: float = 1.0
    """λ: adaptation descends the loss plus λ/2 times the squared distance from the start."""
    cg_iterations: int = 5
    """Conjugate-gradient iterations for the implicit gradient."""
    cg_damping: float = 0.0
    """Added to λ in the implicit gradient, not in adaptation: the more, the less of the curvature
    it trusts where adaptation ends before its minimum."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("num_inner_steps", self.num_inner_steps, 0)
        require_at_least("cg_iterations", self.cg_iterations, 1)
        for name in ("inner_lr", "regularization"):
            require_between(name, getattr(self, name), 0, float("inf"), open_low=True)
        require_between("cg_damping", self.cg_damping, 0, float("inf"))
        require_shared_norm(self)
        require_one_head(self)


class IMAML:
    """MAML whose inner problem is a regularised minimum, differentiated implicitly.

        φ = argmin L_support(φ) + λ/2 ‖φ − θ‖²,   dL_query/dθ = (I + H/λ)⁻¹ ∇L_query(φ)

    H is the support loss's Hessian at φ. All parameters are adapted, batch norm's too.

    Source: Rajeswaran et al. 2019 (arXiv:1909.04630), eq. 3 and 6, alg. 1–2. Differs: adaptation
    descends the regularised loss at every step, where the authors' code descends the loss alone
    and pulls back once at the end; a task's system is solved as far as its curvature is positive,
    as it is near a minimum. The authors' code solves (2I + H/(λ + 10)) x = g, which a
    `cg_damping` of 10 is but for the 2; 0 is the paper's.
    """

    config_type: ClassVar[type[IMAMLConfig]] = IMAMLConfig
    has_steps: ClassVar[bool] = True

    def __init__(self, config: IMAMLConfig, problem: Problem) -> None:
        """For a problem with as many outputs as the episodes have classes."""
        self.config, self.problem = config, problem
        self.backbone = config.make_backbone(problem, problem.num_outputs)
        self._names = tuple(self.backbone.init(torch.Generator()))
        self._inner = InnerLoop(
            loss=support_loss(self.backbone, problem.kind),
            rule=self._proximal_step,
            num_steps=config.num_inner_steps,
            batching="explicit",
            chunk_size=config.chunk_size,
            adapted=self._names,
        )

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters of the net."""
        return self.backbone.init(generator)

    def meta_loss(self, params: Params, batch: FewShotBatch) -> Tensor:
        """Query loss after the inner steps, [tasks]; autograd differentiates the path itself."""
        query = batch.query
        outputs = self.predict(self.adapt(params, batch.support), query.inputs, query.mask)
        return task_losses(self.problem.kind, outputs, query.targets, query.mask)

    def meta_gradient(
        self,
        params: Params,
        batch: FewShotBatch,
        moment: Moment,  # noqa: ARG002 - no schedule
    ) -> tuple[Tensor, Params]:
        """Losses [tasks] and the implicit gradient of their mean."""
        return by_chunks(partial(self._implicit, params), batch, self.config.chunk_size)

    def _implicit(self, params: Params, batch: FewShotBatch) -> tuple[Tensor, Params]:
        with torch.no_grad():
            adapted = self.adapt(params, batch.support)
        leaves = {name: p.detach().requires_grad_() for name, p in adapted.params.items()}
        found = AdaptedTasks(leaves, batch.support)
        with torch.enable_grad():
            query = batch.query
            outputs = self.predict(found, query.inputs, query.mask)
            losses = task_losses(self.problem.kind, outputs, query.targets, query.mask)
            moved = {name: leaves[name] for name in self._names}
            target = _gradients(losses.sum(), moved, create_graph=False)
            parts = parts_of(batch.support)
            support = self._inner.loss(leaves, parts)
            slope = _gradients(support.sum(), moved, create_graph=True)
        solved = implicit_gradient(slope, moved, target, self.config)
        return losses.detach(), {name: g.mean(0) for name, g in solved.items()}

    def adapt(self, params: Params, support: LabelledSet) -> AdaptedTasks:
        """Parameters of all tasks after the inner steps."""
        adapted = adapt(self._anchored(params), parts_of(support), self._inner)
        return AdaptedTasks(_without_anchors(adapted), support)

    def trajectory(
        self, params: Params, support: LabelledSet, num_steps: int
    ) -> Iterator[AdaptedTasks]:
        """Parameters of all tasks after 0 … num_steps steps, without a graph."""
        parts = parts_of(support)
        with torch.no_grad():
            current = adapt(self._anchored(params), parts, replace(self._inner, num_steps=0))
        yield AdaptedTasks(_without_anchors(current), support)
        for _ in range(num_steps):
            current = inner_step(current, parts, self._inner)
            yield AdaptedTasks(_without_anchors(current), support)

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
            "adaptation": f"gradient steps ({config.num_inner_steps} in training) towards a "
            f"minimum regularised by {config.regularization:g}, rate {config.inner_lr:g} on the "
            f"mean loss; {config.cg_iterations} steps of conjugate gradient, "
            f"damping {config.cg_damping:g}",
            **norm_facts(config, passes="apart"),
        }

    def _anchored(self, params: Params) -> Params:
        """Parameters, and where they start once more."""
        return params | {_ANCHOR + name: params[name] for name in self._names}

    def _proximal_step(self, params: Params, grads: Params) -> Params:
        """φ − α (g + λ (φ − θ))."""
        rate, pull = self.config.inner_lr, self.config.regularization
        return params | {
            name: params[name] - rate * (grad + pull * (params[name] - params[_ANCHOR + name]))
            for name, grad in grads.items()
        }


def implicit_gradient(slope: Params, params: Params, target: Params, config: IMAMLConfig) -> Params:
    """Solve (I + H/(λ + damping)) x = g for each task, H by products on a graph built once.

    Args:
        slope: gradient of the support losses at `params`, with a graph, each [tasks, ...].
        params: leaves of that graph, each [tasks, ...].
        target: g, the query losses' gradient, each [tasks, ...].
        config: λ, damping and the number of conjugate-gradient iterations.

    Returns:
        x by the names of `params`, each [tasks, ...].
    """

    def product(vector: Tensor) -> Tensor:
        along = list(unflatten(vector, params, batch_dims=1).values())
        curved = torch.autograd.grad(
            list(slope.values()), list(params.values()), along,
            retain_graph=True, allow_unused=True, materialize_grads=True,
        )  # fmt: skip
        hessian_product = flatten(dict(zip(params, curved, strict=True)), batch_dims=1)
        return vector + hessian_product / (config.regularization + config.cg_damping)

    solved = conjugate_gradient(
        product,
        flatten(target, batch_dims=1),
        num_iterations=config.cg_iterations,
        tolerance=_CG_TOLERANCE,
    )
    return unflatten(solved, params, batch_dims=1)


def _gradients(loss: Tensor, params: Params, *, create_graph: bool) -> Params:
    grads = torch.autograd.grad(
        loss,
        list(params.values()),
        create_graph=create_graph,
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(params, grads, strict=True))


def _without_anchors(params: Params) -> Params:
    return {name: p for name, p in params.items() if not name.startswith(_ANCHOR)}
