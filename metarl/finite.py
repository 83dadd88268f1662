"""Numbers that are not finite end training, with the term, the task and the iteration named."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["NonFiniteError", "in_iteration", "require_finite_params", "require_finite_tasks"]


class NonFiniteError(FloatingPointError, ValueError):
    """A number that must be finite is not."""

    def __init__(self, message: str, task: int | None = None) -> None:
        super().__init__(message)
        self.task = task
        """The row of the task it belongs to, if it belongs to one."""


def require_finite_tasks(term: str, *values: Tensor, remedy: str = "") -> None:
    """Refuse values [tasks, ...] of which one is not finite.

    Args:
        term: what the values are, as the message names it.
        values: tensors, each with leading axis tasks.
        remedy: what may help, the end of the sentence.

    Raises:
        NonFiniteError: naming the term and the first task.
    """
    for tensor in values:
        finite = torch.isfinite(tensor)
        if not bool(finite.all()):
            task = int((~finite).nonzero()[0, 0])
            raise NonFiniteError(f"{term} of task {task} must be finite{_tail(remedy)}", task)


def require_finite_params(term: str, params: Mapping[str, Tensor], *, remedy: str = "") -> None:
    """Refuse tensors by name of which one holds a number that is not finite.

    Raises:
        NonFiniteError: naming the term and the first such tensor.
    """
    if _seem_finite(params.values()):
        return
    for name, values in params.items():
        if not bool(torch.isfinite(values).all()):
            raise NonFiniteError(f"{term} {name} must be finite{_tail(remedy)}")


@contextmanager
def in_iteration(number: int, tasks: NDArray[np.float64] | None = None) -> Iterator[None]:
    """Add to an error of the block which iteration it was, and what the task is.

    Args:
        number: counted from 1, as metrics.jsonl counts.
        tasks: the iteration's tasks, shape [N, D].
    """
    try:
        yield
    except FloatingPointError as error:
        task, whose = getattr(error, "task", None), ""
        if tasks is not None and task is not None:
            whose = f"; task {task} is {tasks[task].tolist()}"
        raise NonFiniteError(f"iteration {number}: {error}{whose}", task) from error


def _seem_finite(tensors: Collection[Tensor]) -> bool:
    """Whether their norm is finite: each tensor is read once, and a GPU waited for once.

    That of large finite numbers may not be, so a no calls for a closer look.
    """
    return bool(torch.nn.utils.get_total_norm(tensors).isfinite())


def _tail(remedy: str) -> str:
    return f"; {remedy}" if remedy else ""
