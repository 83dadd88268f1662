"""Tasks that were sampled several times: each counts once, with its mean score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["counted_once", "distinct_tasks", "task_groups"]

Scores = NDArray[np.float64]
Groups = NDArray[np.int64]


def task_groups(tasks: Scores) -> Groups | None:
    """Number of each row's task among the different tasks of its run, in order of appearance.

    Args:
        tasks: tasks of one or more runs, [R, N, D].

    Returns:
        Numbers from 0 to U − 1, [R, N]; None if no task is repeated, if runs have different
        numbers U of different tasks, or if tasks have no parameters.
    """
    if not tasks.shape[-1]:
        return None
    groups = np.stack([_groups(rows) for rows in tasks])
    counts = set((groups.max(1) + 1).tolist())
    if len(counts) > 1 or counts == {tasks.shape[1]}:
        return None
    return groups


def distinct_tasks(tasks: Scores, groups: Groups) -> Scores:
    """The different tasks of each run, [R, U, D]."""
    chosen: Scores = np.stack(
        [
            rows[np.unique(own, return_index=True)[1]]
            for rows, own in zip(tasks, groups, strict=True)
        ]
    )
    return chosen


def counted_once(scores: Scores, tasks: Scores, groups: Groups) -> Scores:
    """Mean score of each different task.

    Args:
        scores: scores of runs, [R', N], or of one agent on the tasks of all runs, one run after
            another, [1, R · N].
        tasks: [R, N, D], R is 1 if all runs have the same tasks.
        groups: result of `task_groups`, [R, N].

    Returns:
        Scores [R', U], or [1, U'] for the U' different tasks of all runs together.
    """
    num_rows = scores.shape[1]
    if num_rows != groups.shape[1]:
        own = _groups(tasks.reshape(num_rows, tasks.shape[-1]))[None]
    elif len(groups) in (1, len(scores)):
        own = groups
    else:  # a single agent on the tasks of the first run
        own = groups[:1]
    means: Scores = np.stack(
        [
            np.bincount(which, row) / np.bincount(which)
            for row, which in zip(scores, np.broadcast_to(own, scores.shape), strict=True)
        ]
    )
    return means


def _groups(rows: Scores) -> Groups:
    """Numbers of the different rows in order of appearance, for rows [N, D]."""
    _, first, which = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    numbers: Groups = np.argsort(np.argsort(first))[which.ravel()]
    return numbers
