"""Points of a task space as rows of numbers: bounds, checks and conversions.

A task space is a flat Box, Discrete or MultiDiscrete; a row is a point as float64 numbers.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

__all__ = [
    "TaskSpace",
    "Tasks",
    "check_rows",
    "normalized_rows",
    "row_to_task",
    "task_to_row",
    "space_bounds",
]

TaskSpace: TypeAlias = spaces.Box | spaces.Discrete | spaces.MultiDiscrete

Tasks: TypeAlias = NDArray[np.float64]
"""Points of a family's task space, one row per task. Shape [N, D]."""

_MAX_SHOWN = 16  # numbers of a task in an error message


def space_bounds(space: TaskSpace) -> tuple[Tasks, Tasks]:
    """Return the inclusive bounds of a task space. Shapes [D].

    Raises:
        TypeError: for other spaces, or a Box that is not flat.
    """
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return space.low.astype(np.float64), space.high.astype(np.float64)
    if isinstance(space, spaces.Discrete):
        low = np.array([float(space.start)])
        return low, low + int(space.n) - 1
    if isinstance(space, spaces.MultiDiscrete) and len(space.shape) == 1:
        low = space.start.astype(np.float64)
        return low, low + space.nvec.astype(np.float64) - 1
    raise TypeError(f"task_space must be a flat Box, Discrete or MultiDiscrete, got {space}")


def check_rows(space: TaskSpace, tasks: object) -> Tasks:
    """Return the tasks as float64 [N, D], as a copy, after checking that they lie in the space.

    Raises:
        ValueError: if they do not.
    """
    try:
        rows: Tasks = np.array(tasks, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"tasks must be an array of numbers: {error}") from error
    low, high = space_bounds(space)
    if rows.ndim != 2 or rows.shape[1] != len(low) or not len(rows):
        raise ValueError(f"tasks must have shape [tasks, {len(low)}], got {rows.shape}")
    inside = (rows >= low) & (rows <= high)
    if not isinstance(space, spaces.Box):
        inside &= rows == np.round(rows)
    if not inside.all():
        task, part = (int(at[0]) for at in np.nonzero(~inside))
        if rows.shape[1] > _MAX_SHOWN:
            raise ValueError(
                f"tasks must lie in the task space: number {part} of task {task} must be in "
                f"[{low[part]:g}, {high[part]:g}], got {rows[task, part]:g}"
            )
        raise ValueError(f"tasks must lie in {space}, got {rows[task].tolist()}")
    return rows


def normalized_rows(space: TaskSpace, rows: Tasks) -> Tasks:
    """Rescale rows so that the bounds of the space become −1 and 1; 0 if they are equal."""
    low, high = space_bounds(space)
    width = np.where(high > low, high - low, 1)
    scaled: Tasks = np.where(high > low, 2 * (rows - low) / width - 1, 0.0)
    return scaled


def row_to_task(space: TaskSpace, row: NDArray[np.float64]) -> object:
    """Convert a row [D] to a task as a point of its Gymnasium space: a new array or an integer."""
    if isinstance(space, spaces.Discrete):
        return np.int64(row[0])
    return np.array(row, dtype=space.dtype)


def task_to_row(space: TaskSpace, task: object) -> NDArray[np.float64]:
    """Convert a task, a point of the space of shape [D] or an integer, to a row [D].

    Raises:
        ValueError: if it lies outside the space.
    """
    row: NDArray[np.float64] = np.atleast_1d(np.asarray(task, dtype=np.float64))
    return np.asarray(check_rows(space, row[None])[0], dtype=np.float64)
