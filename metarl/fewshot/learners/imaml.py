"""iMAML: implicit meta-gradient at the minimum of a regularized loss, for any path to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from metarl.bilevel.rules import RuleState, StatefulRule
from metarl.fewshot.contract.gradient import AdaptedTasks, GradientLearner, GradientSettings
from metarl.fewshot.contract.interface import TrainingContext, by_chunks
from metarl.fewshot.contract.settings import require_shared_norm
from metarl.fewshot.data.batches import FewShotBatch
from metarl.optim.trust_region import conjugate_gradient
from metarl.parameters import Params, flatten, unflatten
from metarl.validation import NonNegative, NumSteps, Positive, SmallCount

__all__ = ["IMAML", "IMAMLConfig", "implicit_gradient"]

_CG_TOLERANCE = 1e-20  # stop by cg_iterations only


@dataclass(frozen=True)
class IMAMLConfig(GradientSettings):
    """Settings of implicit MAML."""

    num_inner_steps: NumSteps = 16
    """Gradient steps of adaptation; memory does not grow with them."""
    inner_lr: Positive = 0.01
    """Learning rate of adaptation, for the mean loss over all points."""
    regularization: Positive = 1.0
    """λ: adaptation minimizes the loss plus λ/2 times the squared distance from the start."""
    cg_iterations: SmallCount = 5
    """Conjugate-gradient iterations for the implicit gradient."""
    cg_damping: NonNegative = 0.0
    """Added to λ in the implicit gradient, not in adaptation: larger values reduce the influence of
    the curvature, which is unreliable if adaptation ends before its minimum."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        super().check_consistency()
        require_shared_norm(self)


class IMAML(GradientLearner):
    """MAML whose inner problem is a regularized minimum, differentiated implicitly.

        φ = argmin L_support(φ) + λ/2 ‖φ − θ‖²,   dL_query/dθ = (I + H/λ)⁻¹ ∇L_query(φ)

    H is the support loss's Hessian at φ. All parameters are adapted, including batch norm.

    Source: Rajeswaran et al. 2019 (arXiv:1909.04630), eq. 3 and 6, alg. 1–2. Differs: adaptation
    minimizes the regularized loss at every step, whereas the authors' code minimizes the loss alone
    and regularizes once at the end; conjugate gradient stops at a direction of negative curvature,
    which does not occur at a minimum; the head of the net with pooling stride takes the spatial
    mean of the last maps, as MAML's (theirs takes all of them). The authors' code solves
    (2I + H/(λ + 10)) x = g, which corresponds to a `cg_damping` of 10 except for the factor 2; the
    paper uses 0.
    """

    config_type: ClassVar[type[IMAMLConfig]] = IMAMLConfig

    @property
    def adaptation_description(self) -> str:
        """Steps, rate, regularization and the solver of the implicit gradient."""
        config = self.config
        return (
            f"gradient steps ({config.num_inner_steps} in training) towards a minimum regularized "
            f"by {config.regularization:g}, rate {config.inner_lr:g} on the mean loss; "
            f"{config.cg_iterations} steps of conjugate gradient, damping {config.cg_damping:g}"
        )

    def choose_adapted_names(self) -> tuple[str, ...]:
        """All parameters, including normalization."""
        return tuple(self.backbone.init(torch.Generator()))

    def inner_rule(self) -> StatefulRule:
        """φ − α (g + λ (φ − θ)); the state of the rule is θ, the anchor of the regularization."""
        rate, pull = self.config.inner_lr, self.config.regularization

        def proximal_step(
            params: Params, grads: Params, anchor: RuleState, loss: Tensor
        ) -> tuple[Params, RuleState]:
            del loss
            moved = {
                name: params[name] - rate * (grad + pull * (params[name] - anchor[name]))
                for name, grad in grads.items()
            }
            return params | moved, anchor

        return StatefulRule(dict, proximal_step)

    def meta_gradient(
        self,
        params: Params,
        batch: FewShotBatch,
        context: TrainingContext,  # noqa: ARG002 - no schedule
    ) -> tuple[Tensor, Params]:
        """Losses [tasks] and the implicit gradient of their mean."""
        return by_chunks(partial(self._implicit, params), batch, self.config.chunk_size)

    def _implicit(self, params: Params, batch: FewShotBatch) -> tuple[Tensor, Params]:
        with torch.no_grad():
            adapted = self.adapt(params, batch.support)
        leaves = {name: p.detach().requires_grad_() for name, p in adapted.params.items()}
        with torch.enable_grad():
            found = AdaptedTasks(leaves, adapted.shared, batch.support)
            losses = self.query_loss(found, batch.query)
            moved = {name: leaves[name] for name in self.adapted_names}
            target = _gradients(losses.sum(), moved, create_graph=False)
            support = self.inner_loss({})(leaves, self.inner_batch(params, batch.support))
            slope = _gradients(support.sum(), moved, create_graph=True)
        solved = implicit_gradient(slope, moved, target, self.config)
        return losses.detach(), {name: g.mean(0) for name, g in solved.items()}


def implicit_gradient(slope: Params, params: Params, target: Params, config: IMAMLConfig) -> Params:
    """Solve (I + H/(λ + damping)) x = g for each task by Hessian-vector products.

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
