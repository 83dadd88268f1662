"""Adaptation: several inner steps of all tasks at once, differentiable as a whole.

Supervised few-shot learning and meta-reinforcement learning both call `adapt`; they differ only in
the loss and the data. Losses and data come from the caller: this module is independent of models,
environments and outer optimizers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from metarl.bilevel.inner_loop import Batch, InnerLoop, PerStep, one_batch_per_step, task_count
from metarl.bilevel.steps import (
    TaskState,
    apply_rule,
    expand_params,
    expand_state,
    explicit_step,
    initial_state,
    map_tasks,
    rule_inputs,
    stateful_step,
    task_step,
    vjp,
)
from metarl.parameters import Params

__all__ = ["adapt", "adapt_chunk", "adapt_path", "chunks", "rows_of"]


def adapt(params: Params, support: Batch | PerStep, inner: InnerLoop) -> Params:
    """Adapted parameters of all tasks, differentiable with respect to `params`.

        θ_0 = params,   θ_{s+1} = rule(θ_s, ∇ loss(θ_s, support_s)),   s = 0 … num_steps − 1

    Ordinary autograd differentiates the result correctly, whatever layers the loss uses: if
    torch's own rules would be wrong (the second derivative of a normalization layer, taken outside
    `vmap`), `adapt` computes the backward pass inside `vmap`. The result can be differentiated
    repeatedly with "unrolled" and "first_order" and explicit batching; otherwise once.

    Tensors that the loss takes from outside `params` get a gradient with mode "unrolled" and
    explicit batching only: otherwise a support set that requires grad is rejected, and a tensor
    that the loss closes over silently gets no gradient.

    Args:
        params: θ_0, shared by all tasks, no task axis. Any device and floating dtype.
        support: data of all tasks, tensors [tasks, ...]; `PerStep` gives each step its own.
        inner: loss, rule, number of steps and the way to compute them.

    Returns:
        θ_S by the names of `params`, each [tasks, ...].

    Raises:
        ValueError: if `support` is empty, its task axes differ, a `PerStep` has another length
            than `inner.num_steps`, or `support` requires a gradient that would be lost.

    Source: Finn et al. 2017 (arXiv:1703.03400), alg. 1–3.
    """
    return _adapt_all(params, support, inner, whole_path=False)[-1]


def adapt_path(params: Params, support: Batch | PerStep, inner: InnerLoop) -> tuple[Params, ...]:
    """The parameters of all tasks before and after each inner step, θ_0 … θ_S.

    Differentiable as the result of `adapt`, whose arguments and errors it shares. Memory grows by
    one set of parameters per step and task.

    Returns:
        num_steps + 1 sets of parameters by the names of `params`, each [tasks, ...].
    """
    path = _adapt_all(params, support, inner, whole_path=True)
    return tuple(path)


def _adapt_all(
    params: Params, support: Batch | PerStep, inner: InnerLoop, *, whole_path: bool
) -> list[Params]:
    batches = one_batch_per_step(support, inner)
    if torch.is_grad_enabled() and _requires_grad(batches) and not _differentiates_data(inner):
        raise ValueError(
            f"support must not require grad: mode {inner.mode!r} with batching "
            f"{inner.batching!r} does not compute its gradient; detach it, or use "
            'mode="unrolled" with batching="explicit"'
        )
    num_tasks = task_count(batches or [support])
    if inner.num_steps == 0:
        return [expand_params(params, num_tasks)]
    pieces = [
        adapt_chunk(params, [rows_of(b, rows) for b in batches], inner, whole_path=whole_path)
        for rows in chunks(num_tasks, inner.chunk_size)
    ]
    if len(pieces) == 1:
        return pieces[0]
    return [
        {name: torch.cat([piece[name] for piece in same_step]) for name in params}
        for same_step in zip(*pieces, strict=True)
    ]


def adapt_chunk(
    params: Params, batches: Sequence[Batch], inner: InnerLoop, *, whole_path: bool
) -> list[Params]:
    """Adapt the tasks of one chunk; the building block of `adapt` and `meta_gradient`.

    Args:
        params: θ_0, shared by all tasks.
        batches: data of each inner step, one or more.
        inner: the inner loop; its `chunk_size` is not used.
        whole_path: return θ_0 … θ_S instead of θ_S only.

    Returns:
        One or num_steps + 1 sets of parameters, each [tasks, ...].
    """
    shared, num_tasks = initial_state(params, inner), task_count(batches)
    if not (torch.is_grad_enabled() and _requires_grad([shared, batches])):
        with torch.no_grad():
            start = expand_state(shared, num_tasks)
            return _run(start, batches, partial(stateful_step, inner=inner), whole_path)
    if inner.batching == "explicit" and inner.mode != "recurrence":
        step = partial(explicit_step, inner=inner, has_graph=True)
        return _run(expand_state(shared, num_tasks), batches, step, whole_path)
    values, structure = pytree.tree_flatten(shared)
    flat = _Adaptation.apply(inner, batches, whole_path, structure, *values)  # type: ignore[no-untyped-call]
    after = _by_step(flat, params)
    return [expand_params(params, num_tasks), *after] if whole_path else after


def chunks(num_tasks: int, chunk_size: int | None) -> list[slice]:
    """The tasks in chunks of at most `chunk_size`; None takes all at once."""
    size = chunk_size or num_tasks
    return [slice(i, min(i + size, num_tasks)) for i in range(0, num_tasks, size)]


def rows_of(batch: Batch, rows: slice) -> Batch:
    """The data of some tasks, as views."""
    return pytree.tree_map(lambda leaf: leaf[rows] if isinstance(leaf, Tensor) else leaf, batch)


def _differentiates_data(inner: InnerLoop) -> bool:
    """Whether the result of `adapt` can be differentiated with respect to the support data."""
    return inner.batching == "explicit" and inner.mode == "unrolled"


def _requires_grad(tree: Any) -> bool:
    leaves = pytree.tree_leaves(tree)
    return any(leaf.requires_grad for leaf in leaves if isinstance(leaf, Tensor))


def _run(
    state: TaskState,
    batches: Sequence[Batch],
    step: Callable[[TaskState, Batch], TaskState],
    whole_path: bool,
) -> list[Params]:
    """All steps of the inner loop; without the path, earlier states are released."""
    path = [state.params]
    for batch in batches:
        if not whole_path:
            path.clear()
        state = step(state, batch)
        path.append(state.params)
    return path


class _Adaptation(torch.autograd.Function):
    """The inner loop as one differentiable operation whose backward pass stays inside `vmap`.

    Takes the entries of a `TaskState` without a task axis; returns the parameters [tasks, ...]
    after the last step, or after every step, one after another.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inner: InnerLoop,
        batches: Sequence[Batch],
        whole_path: bool,
        structure: pytree.TreeSpec,
        *values: Tensor,
    ) -> tuple[Tensor, ...]:
        step = map_tasks(task_step(inner), inner.batching)
        shared: TaskState = pytree.tree_unflatten([v.detach() for v in values], structure)
        trajectory = [expand_state(shared, task_count(batches))]
        path = []
        for batch in batches:
            trajectory.append(step(trajectory[-1], batch))
            if whole_path:  # separate views: an unchanged parameter is one tensor at every step
                path.append({name: p.view_as(p) for name, p in trajectory[-1].params.items()})
            if inner.mode == "unrolled":  # the backward pass starts from the beginning again
                trajectory = [trajectory[0], trajectory[-1]]
        last = trajectory.pop()
        ctx.inner, ctx.batches, ctx.whole_path = inner, batches, whole_path
        ctx.structure, ctx.names = structure, tuple(shared.params)
        # A parameter that no step changes is in the path and in the result: as an attribute, a
        # reference cycle of result and node would keep it alive.
        ctx.save_for_backward(*(leaf for state in trajectory for leaf in pytree.tree_leaves(state)))
        return tuple(p for params in path or [last.params] for p in params.values())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        inner, batches, structure = ctx.inner, ctx.batches, ctx.structure
        kept, size = ctx.saved_tensors, structure.num_leaves
        trajectory: list[TaskState] = [
            pytree.tree_unflatten(kept[i : i + size], structure) for i in range(0, len(kept), size)
        ]
        after = _by_step(cotangents, ctx.names)
        if inner.mode == "unrolled":
            pull = map_tasks(_task_unrolled_vjp(inner, ctx.whole_path), inner.batching)
            pulled = pull(trajectory[0], after, *batches)
        else:
            pulled = _pull_back_step_by_step(inner, trajectory, after, batches)
        return None, None, None, None, *(leaf.sum(0) for leaf in pytree.tree_leaves(pulled))


def _by_step(flat: Sequence[Tensor], names: Collection[str]) -> list[Params]:
    """Sets of parameters from their entries one after another."""
    size = len(names)
    return [dict(zip(names, flat[i : i + size], strict=True)) for i in range(0, len(flat), size)]


def _pull_back_step_by_step(
    inner: InnerLoop,
    trajectory: Sequence[TaskState],
    cotangents: Sequence[Params],
    batches: Sequence[Batch],
) -> TaskState:
    """Cotangent of the first state, from the cotangents of the parameters after the steps."""
    pull = map_tasks(_task_step_vjp(inner), inner.batching)
    pulled = TaskState(cotangents[-1], _zeros(trajectory[-1].rule_state))
    for step in reversed(range(len(batches))):
        pulled = pull(trajectory[step], pulled, batches[step])
        if step and len(cotangents) > 1:
            own = cotangents[step - 1]
            pulled = pulled._replace(params={n: p + own[n] for n, p in pulled.params.items()})
    return pulled


def _task_step_vjp(inner: InnerLoop) -> Callable[[TaskState, TaskState, Batch], TaskState]:
    """v ↦ (∂state_{s+1}/∂state_s)ᵀ v: for gradient descent v − α H v, H symmetric."""
    inputs, rule = rule_inputs(inner), apply_rule(inner)

    def pull(state: TaskState, cotangent: TaskState, batch: Batch) -> TaskState:
        if inner.mode == "first_order":
            constants = inputs(state.params, batch)
            _, rule_vjp = vjp(lambda s: rule(s, *constants), state)
            return cast(TaskState, rule_vjp(cotangent)[0])
        values, inputs_vjp = vjp(lambda p: inputs(p, batch), state.params)
        _, rule_vjp = vjp(rule, state, *values)
        direct, *through_inputs = rule_vjp(cotangent)
        curvature = inputs_vjp(tuple(through_inputs))[0]
        total = {name: p + curvature[name] for name, p in direct.params.items()}
        return TaskState(total, direct.rule_state)

    return pull


def _task_unrolled_vjp(inner: InnerLoop, whole_path: bool) -> Callable[..., TaskState]:
    step = task_step(inner)

    def pull(state: TaskState, cotangents: Sequence[Params], *batches: Batch) -> TaskState:
        def run(initial: TaskState) -> list[Params]:
            path = _run(initial, batches, step, whole_path)
            return path[1:] if whole_path else path

        _, run_vjp = vjp(run, state)
        return cast(TaskState, run_vjp(list(cotangents))[0])

    return pull


def _zeros(params: Params) -> Params:
    return {name: torch.zeros_like(p) for name, p in params.items()}
