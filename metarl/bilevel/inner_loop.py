"""Definition of an inner loop: parameters, data, loss, rule, and how to compute it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import Tensor
from torch.utils import _pytree as pytree

from metarl.bilevel.rules import InnerRule, StatefulRule
from metarl.parameters import Params

__all__ = ["Batch", "InnerLoop", "Loss", "PerStep", "one_batch_per_step", "task_count"]

Batch: TypeAlias = Any  # a tensor, or a (named) tuple, list or dict of tensors
Loss: TypeAlias = Callable[[Params, Batch], Tensor]


@dataclass(frozen=True)
class PerStep:
    """Separate support data for each inner step (new episodes after each step, as in RL)."""

    batches: Sequence[Batch]  # one per inner step, tensors [tasks, ...]


@dataclass(frozen=True)
class InnerLoop:
    """The loss that adaptation minimizes, the rule, the number of steps, and how to compute them.

    Raises:
        ValueError: if a field is out of its range.
    """

    loss: Loss
    """loss(params, batch): a scalar for one task (batching "vmap"), or one value per task, shape
    [tasks], from parameters and data that carry a leading task axis (batching "explicit")."""
    rule: InnerRule | StatefulRule
    """rule(params, gradients) -> params, elementwise and without a state; or a `StatefulRule`."""
    num_steps: int = 1
    mode: Literal["unrolled", "recurrence", "first_order"] = "unrolled"
    """The derivative of the result with respect to the initial parameters.
    "unrolled": through a graph of all steps, memory grows with them.
    "recurrence": the same gradient from one Hessian-vector product per step; memory grows only by
    one set of parameters per step.
    "first_order": the inner gradients are treated as constants (FOMAML)."""
    batching: Literal["vmap", "explicit"] = "vmap"
    """"vmap": any loss of one task. "explicit": the loss itself handles the task axis; faster for
    multilayer perceptrons on a CPU."""
    chunk_size: int | None = None
    """At most this many tasks at a time; None takes all at once."""
    adapted: Collection[str] | None = None
    """Names of the parameters whose gradients the rule gets (a head, a context); None: all. The
    gradients of the others are not computed, so that they cost nothing."""

    def __post_init__(self) -> None:
        if self.num_steps < 0:
            raise ValueError(f"num_steps must be 0 or more, got {self.num_steps}")
        if self.mode not in ("unrolled", "recurrence", "first_order"):
            raise ValueError(
                f"mode must be 'unrolled', 'recurrence' or 'first_order', got {self.mode!r}"
            )
        if self.batching not in ("vmap", "explicit"):
            raise ValueError(f"batching must be 'vmap' or 'explicit', got {self.batching!r}")
        if self.chunk_size is not None and self.chunk_size < 1:
            raise ValueError(f"chunk_size must be 1 or more, or None, got {self.chunk_size}")


def one_batch_per_step(support: Batch | PerStep, inner: InnerLoop) -> list[Batch]:
    """Support data of each inner step.

    Raises:
        ValueError: if a `PerStep` has another length than `inner.num_steps`.
    """
    if not isinstance(support, PerStep):
        return [support] * inner.num_steps
    if len(support.batches) != inner.num_steps:
        raise ValueError(
            f"support must have one batch per inner step ({inner.num_steps}), "
            f"got {len(support.batches)}"
        )
    return list(support.batches)


def task_count(batches: Sequence[Batch]) -> int:
    """The number of tasks, which is the first axis of every tensor.

    Raises:
        ValueError: if there is no tensor, or first axes are missing, empty or different.
    """
    leaves = [leaf for leaf in pytree.tree_leaves(list(batches)) if isinstance(leaf, Tensor)]
    sizes = {leaf.shape[0] if leaf.dim() else -1 for leaf in leaves}
    if len(sizes) != 1 or sizes & {-1, 0}:
        raise ValueError(
            "support and query must hold tensors whose first axis is the same number of tasks, "
            f"1 or more, got shapes {[tuple(leaf.shape) for leaf in leaves]}"
        )
    return sizes.pop()
