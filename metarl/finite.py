"""Errors for numbers that are not finite, naming the term, the task and the iteration."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "NonFiniteError",
    "first_non_finite",
    "in_iteration",
    "require_finite_params",
    "require_finite_state",
    "require_finite_tasks",
]


class NonFiniteError(FloatingPointError, ValueError):
    """Raised if a number that must be finite is not."""

    def __init__(self, message: str, task: int | None = None) -> None:
        super().__init__(message)
        self.task = task
        """Index of the task, or None if the number does not belong to a task."""


def require_finite_tasks(term: str, *values: Tensor, remedy: str = "") -> None:
    """Raise an error if a value [tasks, ...] is not finite.

    Args:
        term: name of the values in the message.
        values: tensors, each with a leading task axis.
        remedy: advice at the end of the message.

    Raises:
        NonFiniteError: naming the term and the first task.
    """
    for tensor in values:
        finite = torch.isfinite(tensor)
        if not bool(finite.all()):
            task = int((~finite).nonzero()[0, 0])
            raise NonFiniteError(
                f"{term} of task {task} must be finite{_remedy_text(remedy)}", task
            )


def require_finite_params(term: str, params: Mapping[str, Tensor], *, remedy: str = "") -> None:
    """Raise an error if a named tensor holds a number that is not finite.

    Raises:
        NonFiniteError: naming the term and the first such tensor.
    """
    name = first_non_finite(params)
    if name is not None:
        raise NonFiniteError(f"{term} {name} must be finite{_remedy_text(remedy)}")


def require_finite_state(state: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Raise an error if a tensor of an agent's or a learner's state holds a non-finite number.

    Args:
        state: tensors by group and name; the group "parameters" is named "parameter".

    Raises:
        NonFiniteError: naming the group and the first such tensor.
    """
    for group, tensors in state.items():
        require_finite_params("parameter" if group == "parameters" else group, tensors)


def first_non_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with a number that is not finite, or None."""
    floats = {name: values for name, values in tensors.items() if values.is_floating_point()}
    if _seem_finite(floats.values()):
        return None
    for name, values in floats.items():
        if not bool(torch.isfinite(values).all()):
            return name
    return None


@contextmanager
def in_iteration(number: int, tasks: NDArray[np.float64] | None = None) -> Iterator[None]:
    """Add the iteration and the task to the message of an error in the block.

    Args:
        number: number of the iteration, counted from 1 as in metrics.jsonl.
        tasks: the iteration's tasks, shape [N, D].
    """
    try:
        yield
    except FloatingPointError as error:
        task, task_text = getattr(error, "task", None), ""
        if tasks is not None and task is not None:
            task_text = f"; task {task} is {tasks[task].tolist()}"
        raise NonFiniteError(f"iteration {number}: {error}{task_text}", task) from error


def _seem_finite(tensors: Collection[Tensor]) -> bool:
    """Whether the norm of all tensors is finite: a fast check with one GPU synchronization.

    The norm of large finite numbers can overflow, so False needs a check of each tensor.
    """
    return bool(torch.nn.utils.get_total_norm(tensors).isfinite())


def _remedy_text(remedy: str) -> str:
    return f"; {remedy}" if remedy else ""
