"""The Jacobian of adaptation as a linear operator, for methods that need products with it.

A natural-gradient step multiplies by J_i = ∂θ'_i/∂θ and its transpose dozens of times at one θ.
Each inner step contributes the Jacobian of the rule and rows of the Hessian H of the inner loss
(for gradient descent I − αH), so both products are Hessian-vector products on a graph that is
built once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from metarl.bilevel.inner_loop import Batch, InnerLoop, PerStep, one_batch_per_step, task_count
from metarl.bilevel.rules import StatefulRule
from metarl.bilevel.steps import (
    TaskState,
    apply_rule,
    detach_state,
    expand_state,
    initial_state,
    split_adapted,
    vjp,
)
from metarl.parameters import Params

__all__ = ["LinearizedAdaptation", "linearize_adaptation"]


@dataclass(frozen=True)
class _Step:
    state: TaskState  # before the step, [tasks, ...]; its parameters are leaves of the graph
    adapted: Params  # the leaves that the rule moves
    grads: Params  # inner gradients with graph; "first_order": for `adapted` only, no graph
    losses: Tensor  # [tasks], no graph
    loss_grads: Params  # as `grads`, no graph; "first_order": empty, losses count as constant


@dataclass(frozen=True)
class LinearizedAdaptation:
    """Adaptation near one θ: adapted parameters, and products with the Jacobian J_i of each task.

    J_i maps all parameters to all parameters. A parameter that does not adapt keeps its tangent.
    The tangent also moves the adapted parameters, because the inner gradient depends on it.
    """

    adapted: Params  # θ'_i by name, [tasks, ...], no graph
    steps: tuple[_Step, ...]
    inner: InnerLoop

    def push(self, tangent: Params) -> Params:
        """J_i v_i for each task; v by name, each [tasks, ...]."""
        along = TaskState(_detach(tangent), self._push_through_init(tangent))
        for step in self.steps:
            curvature = _hessian_product(step, along.params, step.adapted)
            loss_tangent = (_loss_tangents(step, along.params),) if self._has_state else ()
            _, rule_vjp = self._rule_vjp(step)
            _, rule_jvp = vjp(rule_vjp, along)  # the transpose of the transpose
            along = rule_jvp((along, curvature, *loss_tangent))[0]
        return _detach(along.params)

    def pull(self, cotangent: Params) -> Params:
        """J_iᵀ w_i for each task; w by name, each [tasks, ...]."""
        back = TaskState(cotangent, _zeros(self.steps[-1].state.rule_state if self.steps else {}))
        for step in reversed(self.steps):
            _, rule_vjp = self._rule_vjp(step)
            direct, through_grads, *through_loss = rule_vjp(back)
            curvature = _hessian_product(step, through_grads, step.state.params)
            params = {name: p + curvature[name] for name, p in direct.params.items()}
            for name, grad in step.loss_grads.items() if through_loss else ():
                params[name] = params[name] + _broadcast_to(through_loss[0], grad) * grad
            back = TaskState(params, direct.rule_state)
        return _detach(self._pull_through_init(back))

    @property
    def _has_state(self) -> bool:
        return isinstance(self.inner.rule, StatefulRule)

    def _rule_vjp(self, step: _Step) -> tuple[Any, Callable[..., Any]]:
        """`vjp` of the rule at a step, with respect to state, gradients and, if it has one,
        loss."""
        grads = _detach({name: step.grads[name] for name in step.adapted})
        losses = (step.losses,) if self._has_state else ()
        return vjp(apply_rule(self.inner), detach_state(step.state), grads, *losses)

    def _push_through_init(self, tangent: Params) -> Params:
        """Tangents of the rule's first state, which may depend on the parameters."""
        if not (self._has_state and self.steps):
            return {}
        first, init_vjp = self._init_vjp()
        _, init_jvp = vjp(init_vjp, _zeros(first))
        return cast(Params, init_jvp((_detach(tangent),))[0])

    def _pull_through_init(self, back: TaskState) -> Params:
        if not (self._has_state and self.steps):
            return back.params
        through_init = self._init_vjp()[1](back.rule_state)[0]
        return {name: p + through_init[name] for name, p in back.params.items()}

    def _init_vjp(self) -> tuple[Any, Callable[..., Any]]:
        assert isinstance(self.inner.rule, StatefulRule)
        start = self.steps[0].state.params
        return vjp(torch.func.vmap(self.inner.rule.init), _detach(start))


def linearize_adaptation(
    params: Params, support: Batch | PerStep, inner: InnerLoop
) -> LinearizedAdaptation:
    """Adapt once and keep what products with the Jacobian of adaptation need.

    Memory: the graphs of all inner steps stay alive as long as the result does. With
    `inner.adapted` the gradients of the other parameters are computed too, since the products need
    the mixed second derivatives; mode "first_order" needs none of them.

    Args:
        params: θ, shared by all tasks, no task axis.
        support: as for `adapt`.
        inner: an inner loop with explicit batching. Its `chunk_size` is not used.

    Returns:
        Adapted parameters and the two Jacobian products; in mode "first_order" without curvature.

    Raises:
        ValueError: if `inner.batching` is "vmap", or as `adapt`.

    Source: Finn et al. 2017 (arXiv:1703.03400), app. of the RL experiments. Differs: the products
    are exact, not finite differences.
    """
    if inner.batching != "explicit":
        raise ValueError("inner.batching must be 'explicit' to linearize adaptation, got 'vmap'")
    batches = one_batch_per_step(support, inner)
    shared = detach_state(initial_state(params, inner))
    state = expand_state(shared, task_count(batches or [support]))
    # The parameters are the leaves of the graphs, so each task needs its own.
    state = state._replace(params={name: p.clone() for name, p in state.params.items()})
    steps = []
    for batch in batches:
        steps.append(_graph_of_step(state, batch, inner))
        grads = _detach({name: steps[-1].grads[name] for name in steps[-1].adapted})
        with torch.no_grad():
            state = apply_rule(inner)(detach_state(steps[-1].state), grads, steps[-1].losses)
    return LinearizedAdaptation(_detach(state.params), tuple(steps), inner)


def _graph_of_step(state: TaskState, batch: Batch, inner: InnerLoop) -> _Step:
    """Gradients of the inner loss with the graph that leads back to the parameters."""
    leaves = {name: p.detach().requires_grad_() for name, p in state.params.items()}
    adapted = split_adapted(leaves, inner)[0]
    is_exact = inner.mode != "first_order"
    wanted = leaves if is_exact else adapted
    with torch.enable_grad():
        losses = inner.loss(leaves, batch)
        grads = torch.autograd.grad(
            losses.sum(),
            list(wanted.values()),
            create_graph=is_exact,
            allow_unused=True,
            materialize_grads=True,
        )
    named = dict(zip(wanted, grads, strict=True))
    return _Step(
        TaskState(leaves, state.rule_state),
        adapted,
        named,
        losses.detach(),
        loss_grads=_detach(named) if is_exact else {},
    )


def _hessian_product(step: _Step, vector: Params, rows: Params) -> Params:
    """Rows of the inner loss's Hessian times a vector that holds some or all parameters."""
    names = [name for name, g in step.grads.items() if name in vector and g.requires_grad]
    if not names:
        return _zeros(rows)
    products = torch.autograd.grad(
        [step.grads[name] for name in names],
        list(rows.values()),
        [vector[name].detach() for name in names],
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(rows, products, strict=True))


def _loss_tangents(step: _Step, tangent: Params) -> Tensor:
    """Change of each task's inner loss along a tangent of its parameters. Shape [tasks]."""
    change = torch.zeros_like(step.losses)
    for name, grad in step.loss_grads.items():
        change = change + (grad * tangent[name]).reshape(len(change), -1).sum(-1)
    return change


def _broadcast_to(per_task: Tensor, p: Tensor) -> Tensor:
    """Reshape numbers [tasks] to broadcast to a parameter [tasks, ...]."""
    return per_task.view(-1, *[1] * (p.dim() - 1))


def _detach(params: Params) -> Params:
    return {name: p.detach() for name, p in params.items()}


def _zeros(params: Params) -> Params:
    return {name: torch.zeros_like(p) for name, p in params.items()}
