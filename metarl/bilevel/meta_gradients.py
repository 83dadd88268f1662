"""The meta-gradient: the derivative of a loss after adaptation, through the adaptation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from metarl.bilevel.adaptation import adapt_chunk, chunks, rows_of
from metarl.bilevel.inner_loop import (
    Batch,
    InnerLoop,
    Loss,
    PerStep,
    one_batch_per_step,
    task_count,
)
from metarl.bilevel.steps import expand_params
from metarl.parameters import Params

__all__ = ["OuterLoss", "TaskPath", "meta_gradient"]


class TaskPath(NamedTuple):
    """The inputs of an outer loss: the parameters along adaptation, and all data.

    Axes are as for the inner loss: with explicit batching every tensor has a leading
    task axis; with "vmap" these are the parameters and the data of one task.
    """

    params: tuple[Params, ...]
    """θ_0 … θ_S: before the first and after each inner step."""
    support: tuple[Batch, ...]
    """Data of each inner step."""
    query: Batch
    """Data after adaptation."""

    @property
    def initial(self) -> Params:
        """θ_0, the parameters before adaptation."""
        return self.params[0]

    @property
    def adapted(self) -> Params:
        """θ_S, the parameters after adaptation."""
        return self.params[-1]


OuterLoss: TypeAlias = Callable[[TaskPath], Tensor]
"""A scalar for one task (batching "vmap"), or one value per task [tasks] (batching "explicit")."""


def meta_gradient(
    params: Params,
    support: Batch | PerStep,
    query: Batch,
    inner: InnerLoop,
    *,
    query_loss: Loss | None = None,
    outer_loss: OuterLoss | None = None,
) -> tuple[Tensor, Params]:
    """Outer loss of each task after adaptation, and the gradient of its mean over tasks.

        ∇_θ (1/N) Σ_i query_loss(θ_S,i, query_i)        or
        ∇_θ (1/N) Σ_i outer_loss(θ_0 … θ_S,i, support_i, query_i)

    An `outer_loss` may use the parameters at every step and the support data: a credit for
    sampling (E-MAML), a penalty on the divergence at each step (ProMP), a proximal term. The
    gradient flows through all sets of parameters, in every mode; the data are treated as constants.
    With an `outer_loss`, memory grows by one set of parameters per step and task.

    With `inner.chunk_size`, chunks of tasks are adapted and differentiated one after another, so
    one chunk determines the peak memory. A loss must not depend on the number of tasks in its
    batch.

    Args:
        params: θ, shared by all tasks.
        support: as for `adapt`.
        query: data of all tasks, tensors [tasks, ...].
        inner: the inner loop.
        query_loss: loss of the adapted parameters on the query data, of the same kind as
            `inner.loss`, which is the default.
        outer_loss: loss of the whole path, instead of `query_loss`.

    Returns:
        Outer loss of each task, shape [tasks]; gradient by the names of `params`.

    Raises:
        ValueError: as `adapt`; if `query` has another number of tasks, both losses are given, or
            an outer loss with explicit batching does not return one value per task.

    Source: Finn et al. 2017 (arXiv:1703.03400), eq. 1–2.
    """
    if query_loss is not None and outer_loss is not None:
        raise ValueError("query_loss must be None if outer_loss is given, which replaces it")
    batches = one_batch_per_step(support, inner)
    num_tasks = task_count([*batches, query])
    loss = outer_loss or _from_query_loss(query_loss or inner.loss)
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    total: list[Tensor] = []
    losses = []
    with torch.enable_grad():
        for rows in chunks(num_tasks, inner.chunk_size):
            chunk = tuple(rows_of(b, rows) for b in batches)
            if chunk:
                path = adapt_chunk(leaves, chunk, inner, whole_path=outer_loss is not None)
            else:
                path = [expand_params(leaves, rows.stop - rows.start)]
            seen = TaskPath(tuple(path), () if outer_loss is None else chunk, rows_of(query, rows))
            chunk_losses, cotangents = _losses_and_cotangents(loss, seen, inner.batching, num_tasks)
            grads = torch.autograd.grad(
                pytree.tree_leaves(path),
                list(leaves.values()),
                cotangents,
                allow_unused=True,
                materialize_grads=True,
            )
            total = [t + g for t, g in zip(total, grads, strict=True)] if total else list(grads)
            losses.append(chunk_losses)
    return torch.cat(losses), dict(zip(params, total, strict=True))


def _from_query_loss(loss: Loss) -> OuterLoss:
    return lambda path: loss(path.adapted, path.query)


def _losses_and_cotangents(
    loss: OuterLoss, path: TaskPath, batching: str, num_tasks: int
) -> tuple[Tensor, list[Tensor]]:
    """Loss of each task, and the gradients of its share in the mean of `num_tasks`; no graph.

    There is one gradient for each tensor of the path, in the order of its names.
    """
    own = tuple(
        {name: p.detach().requires_grad_() for name, p in params.items()} for params in path.params
    )
    path = path._replace(params=own)
    if batching == "explicit":
        losses = loss(path)
        _require_one_value_per_task(losses, path)
        grads = torch.autograd.grad(
            losses,
            pytree.tree_leaves(own),
            torch.full_like(losses, 1 / num_tasks),
            allow_unused=True,
            materialize_grads=True,
        )
        return losses.detach(), list(grads)

    def with_value(*parts: Any) -> tuple[Tensor, Tensor]:
        value = loss(TaskPath(*parts))
        return value, value

    with torch.no_grad():
        gradients, losses = torch.func.vmap(torch.func.grad(with_value, has_aux=True))(*path)
    return losses, [grad / num_tasks for grad in pytree.tree_leaves(gradients)]


def _require_one_value_per_task(losses: Tensor, path: TaskPath) -> None:
    num_tasks = task_count([path.params])
    if losses.shape != (num_tasks,):
        raise ValueError(
            f"the outer loss must return one value per task, shape [{num_tasks}], got shape "
            f"{list(losses.shape)}"
        )
