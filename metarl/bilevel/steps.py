"""One step of the inner loop: the gradient of the loss, and the rule that moves the parameters.

`inner_step` and `stateful_step` take a single step of all tasks. The other functions are the parts
from which `adaptation` and `linearized` build whole loops and their derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from metarl.bilevel.inner_loop import Batch, InnerLoop, task_count
from metarl.bilevel.rules import RuleState, StatefulRule
from metarl.parameters import Params

__all__ = [
    "TaskState",
    "apply_rule",
    "detach_state",
    "expand_params",
    "expand_state",
    "explicit_step",
    "initial_state",
    "initial_task_state",
    "inner_step",
    "map_tasks",
    "rule_inputs",
    "split_adapted",
    "stateful_step",
    "task_step",
    "vjp",
]


class TaskState(NamedTuple):
    """Parameters and state of the rule between two inner steps."""

    params: Params
    """θ_s by name, each [tasks, ...]."""
    rule_state: RuleState
    """State of a `StatefulRule` by name, each [tasks, ...]; empty for other rules."""


def inner_step(params: Params, batch: Batch, inner: InnerLoop) -> Params:
    """One step of every task from its own parameters; not differentiable.

    Args:
        params: θ_s, each [tasks, ...].
        batch: data of all tasks for this step, tensors [tasks, ...].
        inner: loss, rule and batching; its `num_steps`, `mode` and `chunk_size` are not used.

    Returns:
        θ_{s+1}, each [tasks, ...], without a graph.

    Raises:
        ValueError: if the data have no task axis, or the rule has a state.
    """
    if isinstance(inner.rule, StatefulRule):
        raise ValueError(
            "inner.rule must not be a StatefulRule for inner_step, which would lose its state; use "
            "initial_task_state and stateful_step"
        )
    return stateful_step(TaskState(params, {}), batch, inner).params


def initial_task_state(params: Params, inner: InnerLoop, num_tasks: int) -> TaskState:
    """Parameters and state of the rule before the first step, once for each task.

    Args:
        params: θ, shared by all tasks, no task axis.
        inner: the inner loop, whose rule may have a state.
        num_tasks: number of tasks.

    Returns:
        Parameters and state, each expanded to [tasks, ...], differentiable with respect to θ.
    """
    return expand_state(initial_state(params, inner), num_tasks)


def initial_state(params: Params, inner: InnerLoop) -> TaskState:
    """Parameters and state of the rule before the first step, without a task axis."""
    if isinstance(inner.rule, StatefulRule):
        return TaskState(params, inner.rule.init(params))
    return TaskState(params, {})


def stateful_step(state: TaskState, batch: Batch, inner: InnerLoop) -> TaskState:
    """One step of every task, with or without a state of the rule; not differentiable.

    Args:
        state: from `initial_task_state` or the step before.
        batch: data of all tasks for this step, tensors [tasks, ...].
        inner: as for `inner_step`, with any rule.

    Returns:
        Parameters and state after the step, without a graph.

    Raises:
        ValueError: if the data have no task axis.
    """
    task_count([batch, state.params])
    if inner.batching == "vmap":
        with torch.no_grad():
            return torch.func.vmap(task_step(inner))(detach_state(state), batch)
    return explicit_step(state, batch, inner, has_graph=False)


def explicit_step(
    state: TaskState, batch: Batch, inner: InnerLoop, *, has_graph: bool
) -> TaskState:
    """One step along an explicit task axis, on the ordinary autograd tape if it has a graph."""
    is_second_order = has_graph and inner.mode == "unrolled"
    leaves = {
        name: p if is_second_order and p.requires_grad else p.detach().requires_grad_()
        for name, p in state.params.items()
    }
    with torch.enable_grad():
        moved = split_adapted(leaves, inner)[0]
        losses = inner.loss(leaves, batch)
        grads = torch.autograd.grad(
            losses.sum(),
            list(moved.values()),
            create_graph=is_second_order,
            allow_unused=True,
            materialize_grads=True,
        )
    if not is_second_order:
        losses = losses.detach()
    with torch.set_grad_enabled(has_graph):
        start = state if has_graph else detach_state(state)
        return apply_rule(inner)(start, dict(zip(moved, grads, strict=True)), losses)


def task_step(inner: InnerLoop) -> Callable[[TaskState, Batch], TaskState]:
    """One step as a function for `torch.func`: of one task, or along an explicit task axis."""
    inputs, rule = rule_inputs(inner), apply_rule(inner)
    return lambda state, batch: rule(state, *inputs(state.params, batch))


def rule_inputs(inner: InnerLoop) -> Callable[[Params, Batch], tuple[Any, ...]]:
    """The inputs of the rule in addition to the state, as a function for `torch.func`.

    The gradient of the adapted parameters, (g,); for a `StatefulRule` also the loss, (g, L).
    """
    has_state = isinstance(inner.rule, StatefulRule)

    def total(moved: Params, fixed: Params, batch: Batch) -> tuple[Tensor, Tensor]:
        losses = inner.loss({**fixed, **moved}, batch)
        return losses.sum(), losses

    def inputs(params: Params, batch: Batch) -> tuple[Any, ...]:
        moved, fixed = split_adapted(params, inner)
        grads, losses = torch.func.grad(total, has_aux=True)(moved, fixed, batch)
        return (grads, losses) if has_state else (grads,)

    return inputs


def apply_rule(inner: InnerLoop) -> Callable[..., TaskState]:
    """The rule as a function (state, gradients[, losses]) -> state, for one task or all of them."""
    rule = inner.rule
    if not isinstance(rule, StatefulRule):
        stateless = rule
        return lambda state, grads, _=None: _order_like(
            TaskState(stateless(state.params, grads), state.rule_state), state
        )
    step = torch.func.vmap(rule.step) if inner.batching == "explicit" else rule.step

    def stateful(state: TaskState, grads: Params, losses: Tensor) -> TaskState:
        return _order_like(TaskState(*step(state.params, grads, state.rule_state, losses)), state)

    return stateful


def _order_like(after: TaskState, before: TaskState) -> TaskState:
    """The state that a rule returned, with its names in the order of the state before."""
    for what, old, new in zip(("parameters", "state"), before, after, strict=True):
        if old.keys() != new.keys():
            raise ValueError(
                f"the inner rule must return the {what} that it gets, {sorted(old)}, "
                f"got {sorted(new)}"
            )
    return TaskState(*({k: new[k] for k in old} for old, new in zip(before, after, strict=True)))


def split_adapted(params: Params, inner: InnerLoop) -> tuple[Params, Params]:
    """The parameters that the rule moves by gradients, and the others.

    Raises:
        ValueError: if `inner.adapted` names a parameter that does not exist.
    """
    if inner.adapted is None:
        return params, {}
    missing = [name for name in inner.adapted if name not in params]
    if missing:
        raise ValueError(f"adapted must name parameters, there is no {missing[0]!r}")
    moved = {name: p for name, p in params.items() if name in inner.adapted}
    return moved, {name: p for name, p in params.items() if name not in moved}


def map_tasks(function: Callable[..., Any], batching: str) -> Callable[..., Any]:
    """A function over the task axis: by `vmap`, or unchanged if it handles the axis itself."""
    return torch.func.vmap(function) if batching == "vmap" else function


def vjp(function: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """`torch.func.vjp`: the value of the function, and the map from cotangents to cotangents."""
    return cast(tuple[Any, Callable[..., Any]], torch.func.vjp(function, *primals))


def expand_state(state: TaskState, num_tasks: int) -> TaskState:
    """The same state for each task, as views [tasks, ...]."""
    return TaskState(
        expand_params(state.params, num_tasks), expand_params(state.rule_state, num_tasks)
    )


def expand_params(params: Params, num_tasks: int) -> Params:
    """The same parameters for each task, as views [tasks, ...]."""
    if not torch.is_grad_enabled():  # a view of a leaf would keep requires_grad
        params = {name: p.detach() for name, p in params.items()}
    return {name: p.expand(num_tasks, *p.shape) for name, p in params.items()}


def detach_state(state: TaskState) -> TaskState:
    """The same tensors without a graph."""
    return TaskState(*({name: p.detach() for name, p in part.items()} for part in state))
