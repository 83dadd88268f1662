"""The Jacobian of adaptation as a linear operator, for methods that need products with it.

A natural-gradient step multiplies by J_i = ∂θ'_i/∂θ and its transpose dozens of times at one θ.
Each inner step contributes I − αH with a symmetric H, so both products are Hessian-vector
products on a graph that is built once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.bilevel.adaptation import vjp
from metarl.bilevel.inner_loop import Batch, InnerLoop, PerStep, one_batch_per_step, task_count
from metarl.parameters import Params

__all__ = ["LinearizedAdaptation", "linearize_adaptation"]


@dataclass(frozen=True)
class _Step:
    params: Params  # leaves of the graph, [tasks, ...]
    grads: Params  # their inner gradients, with the graph that leads back to the leaves


@dataclass(frozen=True)
class LinearizedAdaptation:
    """Adaptation near one θ: where it leads, and products with its Jacobian J_i, task by task."""

    adapted: Params  # θ'_i by name, [tasks, ...], no graph
    steps: tuple[_Step, ...]
    inner: InnerLoop

    def push(self, tangent: Params) -> Params:
        """J_i v_i for each task; v by name, each [tasks, ...]."""
        for step in self.steps:
            curvature = self._hessian_product(step, tangent)
            _, rule_vjp = vjp(self.inner.rule, _detached(step.params), _detached(step.grads))
            _, rule_jvp = vjp(rule_vjp, _detached(tangent))  # the transpose of the transpose
            tangent = rule_jvp((tangent, curvature))[0]
        return _detached(tangent)

    def pull(self, cotangent: Params) -> Params:
        """J_iᵀ w_i for each task; w by name, each [tasks, ...]."""
        for step in reversed(self.steps):
            _, rule_vjp = vjp(self.inner.rule, _detached(step.params), _detached(step.grads))
            direct, through_gradient = rule_vjp(cotangent)
            curvature = self._hessian_product(step, through_gradient)
            cotangent = {name: direct[name] + curvature[name] for name in direct}
        return _detached(cotangent)

    def _hessian_product(self, step: _Step, vector: Params) -> Params:
        if self.inner.mode == "first_order":
            return {name: torch.zeros_like(p) for name, p in step.params.items()}
        names = [name for name, grad in step.grads.items() if grad.requires_grad]
        products = torch.autograd.grad(
            [step.grads[name] for name in names],
            list(step.params.values()),
            [vector[name].detach() for name in names],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return dict(zip(step.params, products, strict=True))


def linearize_adaptation(
    params: Params, support: Batch | PerStep, inner: InnerLoop
) -> LinearizedAdaptation:
    """Adapt once and keep what products with the Jacobian of adaptation need.

    Memory: the graphs of all inner steps stay alive as long as the result does.

    Args:
        params: θ, shared by all tasks, no task axis.
        support: as for `adapt`.
        inner: an inner loop with explicit batching. Its `chunk_size` is not used.

    Returns:
        Adapted parameters and the two Jacobian products; in mode "first_order" without curvature.

    Raises:
        ValueError: if `inner.batching` is "vmap", `inner.adapted` names some parameters only, or as
            `adapt`.

    Source: Finn et al. 2017 (arXiv:1703.03400), app. of the RL experiments, which leaves the
    product to finite differences; here it is exact.
    """
    if inner.batching != "explicit":
        raise ValueError("inner.batching must be 'explicit' to linearize adaptation, got 'vmap'")
    if inner.adapted is not None:
        raise ValueError(
            f"inner.adapted must be None to linearize adaptation, which takes all parameters, "
            f"got {inner.adapted!r}"
        )
    batches = one_batch_per_step(support, inner)
    num_tasks = task_count(batches or [support])
    current = {
        name: p.detach().expand(num_tasks, *p.shape).clone().requires_grad_()
        for name, p in params.items()
    }
    steps = []
    with torch.enable_grad():
        for batch in batches:
            flat = torch.autograd.grad(
                inner.loss(current, batch).sum(),
                list(current.values()),
                create_graph=inner.mode != "first_order",
                allow_unused=True,
                materialize_grads=True,
            )
            steps.append(_Step(current, dict(zip(current, flat, strict=True))))
            moved = inner.rule(current, _detached(steps[-1].grads))
            current = {name: p.detach().requires_grad_() for name, p in moved.items()}
    return LinearizedAdaptation(_detached(current), tuple(steps), inner)


def _detached(params: dict[str, Tensor]) -> Params:
    return {name: p.detach() for name, p in params.items()}
