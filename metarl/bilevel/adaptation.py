"""The bilevel core: adapt parameters to many tasks at once, and differentiate through it.

Supervised few-shot learning and meta-reinforcement learning both call `adapt`; they differ in the
loss and the data they hand in, and in nothing else. Losses and data come from the caller: this
module knows no model, no environment and no optimiser of the outer loop.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from metarl.bilevel.inner_loop import (
    Batch,
    InnerLoop,
    Loss,
    PerStep,
    one_batch_per_step,
    task_count,
)
from metarl.bilevel.rules import InnerRule, sgd
from metarl.parameters import Params

__all__ = [
    "Batch",
    "InnerLoop",
    "InnerRule",
    "Loss",
    "Params",
    "PerStep",
    "adapt",
    "inner_step",
    "meta_gradient",
    "sgd",
    "vjp",
]


def adapt(params: Params, support: Batch | PerStep, inner: InnerLoop) -> Params:
    """Adapted parameters of all tasks, differentiable with respect to `params`.

        θ_0 = params,   θ_{s+1} = rule(θ_s, ∇ loss(θ_s, support_s)),   s = 0 … num_steps − 1

    Ordinary autograd differentiates the result correctly, whatever layers the loss uses: where
    torch's own rules would go wrong (the second derivative of a normalisation layer, taken outside
    `vmap`), the backward pass is computed inside `vmap` here. "unrolled" and "first_order" with
    explicit batching may be differentiated any number of times, everything else once.

    What a loss takes from outside `params` gets a gradient with mode "unrolled" and explicit
    batching only: anywhere else a support set that requires grad is refused, and a tensor that the
    loss closes over gets none without a word.

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
    batches = one_batch_per_step(support, inner)
    if torch.is_grad_enabled() and _requires_grad(batches) and not _reaches_data(inner):
        raise ValueError(
            "support must not require grad, whose gradient mode "
            f"{inner.mode!r} with batching {inner.batching!r} does not compute; detach it, or use "
            'mode="unrolled" with batching="explicit"'
        )
    num_tasks = task_count(batches or [support])
    if inner.num_steps == 0:
        return _expanded(params, num_tasks)
    pieces = [
        _adapt_chunk(params, [_rows(b, rows) for b in batches], inner)
        for rows in _chunks(num_tasks, inner.chunk_size)
    ]
    if len(pieces) == 1:
        return pieces[0]
    return {name: torch.cat([piece[name] for piece in pieces]) for name in params}


def inner_step(params: Params, batch: Batch, inner: InnerLoop) -> Params:
    """One more step of every task from parameters of its own; not differentiable.

    Args:
        params: θ_s, each [tasks, ...].
        batch: data of all tasks for this step, tensors [tasks, ...].
        inner: loss, rule and batching; its `num_steps`, `mode` and `chunk_size` are not used.

    Returns:
        θ_{s+1}, each [tasks, ...], without a graph.

    Raises:
        ValueError: if the data hold no task axis.
    """
    task_count([batch, params])
    if inner.batching == "vmap":
        detached = {name: p.detach() for name, p in params.items()}
        with torch.no_grad():
            return torch.func.vmap(_task_step(inner))(detached, batch)
    return _explicit_step(params, batch, inner, has_graph=False)


def meta_gradient(
    params: Params,
    support: Batch | PerStep,
    query: Batch,
    inner: InnerLoop,
    *,
    query_loss: Loss | None = None,
) -> tuple[Tensor, Params]:
    """Mean query loss after adaptation, per task, and the gradient of its mean over tasks.

        ∇_θ (1/N) Σ_i query_loss(adapt_i(θ), query_i)

    With `inner.chunk_size`, chunks of tasks are adapted and differentiated one after another, so
    peak memory is that of one chunk.

    Args:
        params: θ, shared by all tasks.
        support: as for `adapt`.
        query: data of all tasks, tensors [tasks, ...].
        inner: the inner loop.
        query_loss: the outer loss, of the same kind as `inner.loss`, which is the default.

    Returns:
        Query loss of each task, shape [tasks]; gradient by the names of `params`.

    Raises:
        ValueError: as `adapt`, and if `query` has another number of tasks.

    Source: Finn et al. 2017 (arXiv:1703.03400), eq. 1–2.
    """
    loss = query_loss or inner.loss
    batches = one_batch_per_step(support, inner)
    num_tasks = task_count([*batches, query])
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    total: list[Tensor] = []
    losses = []
    with torch.enable_grad():
        for rows in _chunks(num_tasks, inner.chunk_size):
            chunk = [_rows(b, rows) for b in batches]
            part = _rows(query, rows)
            if chunk:
                adapted = _adapt_chunk(leaves, chunk, inner)
            else:
                adapted = _expanded(leaves, rows.stop - rows.start)
            chunk_losses, cotangents = _losses_and_gradients(
                loss, adapted, part, inner.batching, num_tasks
            )
            grads = torch.autograd.grad(
                list(adapted.values()),
                list(leaves.values()),
                [cotangents[name] for name in adapted],
                allow_unused=True,
                materialize_grads=True,
            )
            total = [t + g for t, g in zip(total, grads, strict=True)] if total else list(grads)
            losses.append(chunk_losses)
    return torch.cat(losses), dict(zip(params, total, strict=True))


def _losses_and_gradients(
    loss: Loss, params: Params, batch: Batch, batching: str, num_tasks: int
) -> tuple[Tensor, Params]:
    """Loss of each task, and the gradient of its share in the mean of `num_tasks` in the task's own
    parameters, without a graph."""
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    if batching == "explicit":
        losses = loss(leaves, batch)
        grads = torch.autograd.grad(
            losses,
            list(leaves.values()),
            torch.full_like(losses, 1 / num_tasks),
            allow_unused=True,
            materialize_grads=True,
        )
        return losses.detach(), dict(zip(leaves, grads, strict=True))

    def with_value(values: Params, part: Batch) -> tuple[Tensor, Tensor]:
        value = loss(values, part)
        return value, value

    with torch.no_grad():
        gradients, losses = torch.func.vmap(torch.func.grad(with_value, has_aux=True))(
            leaves, batch
        )
    return losses, {name: grad / num_tasks for name, grad in gradients.items()}


def _adapt_chunk(params: Params, batches: list[Batch], inner: InnerLoop) -> Params:
    if not (torch.is_grad_enabled() and _requires_grad([params, batches])):
        with torch.no_grad():
            return _descended(params, batches, partial(inner_step, inner=inner))
    if inner.batching == "explicit" and inner.mode != "recurrence":
        return _descended(params, batches, partial(_explicit_step, inner=inner, has_graph=True))
    names, values = list(params), list(params.values())
    flat = _Adaptation.apply(inner, batches, names, *values)  # type: ignore[no-untyped-call]
    return dict(zip(names, flat, strict=True))


def _reaches_data(inner: InnerLoop) -> bool:
    """Whether the gradient of what `adapt` returns goes through the gradients of the loss."""
    return inner.batching == "explicit" and inner.mode == "unrolled"


def _requires_grad(tree: Any) -> bool:
    leaves = pytree.tree_leaves(tree)
    return any(leaf.requires_grad for leaf in leaves if isinstance(leaf, Tensor))


def _descended(
    params: Params, batches: list[Batch], step: Callable[[Params, Batch], Params]
) -> Params:
    """All steps of the inner loop; what came before a step is let go."""
    current = _expanded(params, task_count(batches))
    for batch in batches:
        current = step(current, batch)
    return current


def _explicit_step(params: Params, batch: Batch, inner: InnerLoop, *, has_graph: bool) -> Params:
    """One step along an explicit task axis, on the ordinary autograd tape if it has a graph."""
    is_second_order = has_graph and inner.mode == "unrolled"
    leaves = {
        name: p if is_second_order and p.requires_grad else p.detach().requires_grad_()
        for name, p in params.items()
    }
    with torch.enable_grad():
        moved = _split(leaves, inner)[0]
        grads = torch.autograd.grad(
            inner.loss(leaves, batch).sum(),
            list(moved.values()),
            create_graph=is_second_order,
            allow_unused=True,
            materialize_grads=True,
        )
    with torch.set_grad_enabled(has_graph):
        start = params if has_graph else {name: p.detach() for name, p in params.items()}
        return inner.rule(start, dict(zip(moved, grads, strict=True)))


class _Adaptation(torch.autograd.Function):
    """The inner loop as one differentiable operation whose backward pass stays inside `vmap`."""

    @staticmethod
    def forward(
        ctx: Any, inner: InnerLoop, batches: list[Batch], names: list[str], *values: Tensor
    ) -> tuple[Tensor, ...]:
        initial = dict(zip(names, (v.detach() for v in values), strict=True))
        trajectory = [_expanded(initial, task_count(batches))]
        step = _over_tasks(_task_step(inner), inner.batching)
        for batch in batches:
            trajectory.append(step(trajectory[-1], batch))
            if inner.mode == "unrolled":  # its backward pass starts from the beginning again
                trajectory = [trajectory[0], trajectory[-1]]
        adapted = trajectory.pop()
        ctx.inner, ctx.batches, ctx.names = inner, batches, names
        # What no step moves is in the path and in the result: as an attribute it would never be
        # freed, since the result would hold the node and the node the result.
        ctx.save_for_backward(*(params[name] for params in trajectory for name in names))
        return tuple(adapted[name] for name in names)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        inner, batches, names = ctx.inner, ctx.batches, ctx.names
        kept = ctx.saved_tensors
        trajectory = [
            dict(zip(names, kept[first : first + len(names)], strict=True))
            for first in range(0, len(kept), len(names))
        ]
        pulled = dict(zip(names, cotangents, strict=True))
        if inner.mode == "unrolled":
            pull = _over_tasks(_task_unrolled_vjp(inner), inner.batching)
            pulled = pull(trajectory[0], pulled, *batches)
        else:
            pull = _over_tasks(_task_step_vjp(inner), inner.batching)
            for params, batch in zip(reversed(trajectory), reversed(batches), strict=True):
                pulled = pull(params, pulled, batch)
        return None, None, None, *(pulled[name].sum(0) for name in names)


def _task_step(inner: InnerLoop) -> Callable[[Params, Batch], Params]:
    def step(params: Params, batch: Batch) -> Params:
        return inner.rule(params, _gradient(inner)(params, batch))

    return step


def _task_step_vjp(inner: InnerLoop) -> Callable[[Params, Params, Batch], Params]:
    """v ↦ (∂θ_{s+1}/∂θ_s)ᵀ v: for gradient descent v − α H v, H symmetric."""

    def pull(params: Params, cotangent: Params, batch: Batch) -> Params:
        if inner.mode == "first_order":
            grads = _gradient(inner)(params, batch)
            _, rule_vjp = vjp(lambda p: inner.rule(p, grads), params)
            return cast(Params, rule_vjp(cotangent)[0])
        grads, hessian_product = vjp(lambda p: _gradient(inner)(p, batch), params)
        _, rule_vjp = vjp(inner.rule, params, grads)
        direct, through_gradient = rule_vjp(cotangent)
        curvature = hessian_product(through_gradient)[0]
        return {name: direct[name] + curvature[name] for name in params}

    return pull


def _task_unrolled_vjp(inner: InnerLoop) -> Callable[..., Params]:
    def pull(params: Params, cotangent: Params, *batches: Batch) -> Params:
        def run(initial: Params) -> Params:
            for batch in batches:
                initial = _task_step(inner)(initial, batch)
            return initial

        _, run_vjp = vjp(run, params)
        return cast(Params, run_vjp(cotangent)[0])

    return pull


def vjp(function: Callable[..., Any], *primals: Params) -> tuple[Any, Callable[..., Any]]:
    """`torch.func.vjp` of a function of parameters: its value, and cotangents to cotangents."""
    return cast(tuple[Any, Callable[..., Any]], torch.func.vjp(function, *primals))


def _gradient(inner: InnerLoop) -> Callable[[Params, Batch], Params]:
    """∇ of the summed loss: of one task inside `vmap`, of each task along an explicit axis."""

    def total(moved: Params, fixed: Params, batch: Batch) -> Tensor:
        return inner.loss({**fixed, **moved}, batch).sum()

    def gradient(params: Params, batch: Batch) -> Params:
        moved, fixed = _split(params, inner)
        return cast(Params, torch.func.grad(total)(moved, fixed, batch))

    return gradient


def _split(params: Params, inner: InnerLoop) -> tuple[Params, Params]:
    """The parameters that the rule moves by gradients, and the others."""
    if inner.adapted is None:
        return params, {}
    missing = [name for name in inner.adapted if name not in params]
    if missing:
        raise ValueError(f"adapted must name parameters, there is no {missing[0]!r}")
    moved = {name: p for name, p in params.items() if name in inner.adapted}
    return moved, {name: p for name, p in params.items() if name not in moved}


def _over_tasks(function: Callable[..., Any], batching: str) -> Callable[..., Any]:
    return torch.func.vmap(function) if batching == "vmap" else function


def _expanded(params: Params, num_tasks: int) -> Params:
    if not torch.is_grad_enabled():  # a view of a leaf would keep requires_grad
        params = {name: p.detach() for name, p in params.items()}
    return {name: p.expand(num_tasks, *p.shape) for name, p in params.items()}


def _chunks(num_tasks: int, chunk_size: int | None) -> list[slice]:
    size = chunk_size or num_tasks
    return [slice(i, min(i + size, num_tasks)) for i in range(0, num_tasks, size)]


def _rows(batch: Batch, rows: slice) -> Batch:
    return pytree.tree_map(lambda leaf: leaf[rows] if isinstance(leaf, Tensor) else leaf, batch)
