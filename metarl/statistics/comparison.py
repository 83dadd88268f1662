"""Comparison of two algorithms A and B on the same tasks.

Scores are matrices [runs, tasks]. Two designs are supported. Crossed: all runs of both algorithms
have the same tasks. Nested: run i of A and run i of B have the same tasks, and other runs have
others; then run i of A is compared with run i of B only. Training seeds of A and B are independent.
Intervals are for new runs of both algorithms on new tasks, as in `intervals`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from metarl.statistics.bootstrap import Scores, as_scores
from metarl.statistics.estimate import Estimate, Unit
from metarl.statistics.intervals import (
    bounded,
    half_width,
    mean_interval,
    mean_squares,
    satterthwaite,
    student_interval,
)

__all__ = ["mean_difference", "improvement_interval"]


def mean_difference(
    scores_a: ArrayLike, scores_b: ArrayLike, *, same_tasks: bool, confidence: float = 0.95
) -> Estimate:
    """Mean of A minus mean of B, with an interval for new runs and new tasks.

    Crossed, with R_A and R_B runs, the difference of the means has the variance

        V = MSR_A/(R_A T) + MSR_B/(R_B T) + var_t(b_A − b_B)/T − MSE_A/(R_A T) − MSE_B/(R_B T)

    with the mean squares of `mean_interval` and the task means b; the last two terms remove the
    residual variance, which the first three contain twice. V is never below the first two terms
    together, nor below the third. Degrees of freedom are Satterthwaite's. Nested, it is
    `mean_interval` of the differences.

    Args:
        scores_a: shape [R_A, T].
        scores_b: shape [R_B, T]; nested, R_B = R_A.
        same_tasks: whether all runs have the same tasks (crossed), or run i of A only those of run
            i of B (nested).
        confidence: confidence level of the interval, in (0, 1).

    Returns:
        The difference. With one run of either algorithm the interval is over tasks.

    Raises:
        ValueError: if a matrix is not finite, the numbers of tasks differ, or, nested, the numbers
            of runs.
    """
    a, b = _matrices(scores_a, scores_b, same_tasks)
    if not same_tasks:
        return mean_interval(a - b, same_tasks=False, confidence=confidence)
    task_differences = a.mean(axis=0) - b.mean(axis=0)
    half, unit = _crossed_spread(a, b, task_differences, confidence)
    return bounded(float(task_differences.mean()), half, unit)


def improvement_interval(
    scores_a: ArrayLike, scores_b: ArrayLike, *, same_tasks: bool, confidence: float = 0.95
) -> Estimate:
    """Probability that a run of A has a higher score than a run of B on the same task.

        P = mean over tasks, runs i of A and runs j of B of S(a_it, b_jt),
        S(a, b) = 1 if a > b, ½ if a = b, else 0

    The interval is computed like the one of `mean_difference`, from placement values: of a run of A
    on a task, the fraction of B's runs that it beats; of a run of B, the fraction of A's runs that
    beat it (DeLong et al. 1988, here with runs and tasks as random effects). If A always wins or
    always loses, it is the exact interval of a proportion for as many trials as there are tasks.

    Args, Raises: as in `mean_difference`.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), sec. 4.3, for P; the interval differs.
    """
    a, b = _matrices(scores_a, scores_b, same_tasks)
    if not same_tasks:
        wins = (np.sign(a - b) + 1) / 2
        return mean_interval(wins, same_tasks=False, bounds=(0, 1), confidence=confidence)
    wins = (np.sign(a[:, None] - b[None]) + 1) / 2  # [R_A, R_B, T]
    if wins.min() == wins.max():
        return mean_interval(
            wins.mean(axis=1), same_tasks=True, bounds=(0, 1), confidence=confidence
        )
    half, unit = _crossed_spread(
        wins.mean(axis=1), wins.mean(axis=0), wins.mean(axis=(0, 1)), confidence
    )
    return bounded(float(wins.mean()), half, unit, (0.0, 1.0))


def _matrices(scores_a: ArrayLike, scores_b: ArrayLike, same_tasks: bool) -> tuple[Scores, Scores]:
    a, b = as_scores(scores_a, "scores_a"), as_scores(scores_b, "scores_b")
    for name, matrix in (("scores_a", a), ("scores_b", b)):
        if matrix.ndim != 2:
            raise ValueError(f"{name} must be a matrix [runs, tasks], got shape {matrix.shape}")
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"scores_b must have as many tasks as scores_a, {a.shape[1]}, got {b.shape[1]}"
        )
    if not same_tasks and len(a) != len(b):
        raise ValueError(
            f"scores_b must have as many runs as scores_a, {len(a)}, got {len(b)}: each run has "
            "its own tasks, and run i of A is compared with run i of B"
        )
    return a, b


def _crossed_spread(
    a: Scores, b: Scores, task_means: Scores, confidence: float
) -> tuple[float, Unit]:
    """Half width of the interval of a statistic with the run effects of `a` and `b`, and its unit.

    Args:
        a: contributions of A's runs, [R_A, T].
        b: contributions of B's runs, [R_B, T].
        task_means: the statistic of each task, [T].
        confidence: confidence level of the interval, in (0, 1).
    """
    num_tasks = len(task_means)
    if min(len(a), len(b)) == 1:
        of_tasks = student_interval(task_means, "tasks", confidence=confidence)
        return of_tasks.high - of_tasks.value, "tasks"
    if num_tasks == 1:
        parts = [(x.var(ddof=1) / len(x), len(x) - 1) for x in (a, b)]
        variance = sum(value for value, _ in parts)
        return half_width(variance, satterthwaite(parts), confidence), "runs"
    squares_a, squares_b = mean_squares(a), mean_squares(b)
    runs = [(squares_a[0] / a.size, len(a) - 1), (squares_b[0] / b.size, len(b) - 1)]
    tasks = (task_means.var(ddof=1) / num_tasks, num_tasks - 1)
    residuals = [
        (-squares[2] / x.size, (len(x) - 1) * (num_tasks - 1))
        for squares, x in ((squares_a, a), (squares_b, b))
    ]
    parts = [*runs, tasks, *residuals]
    of_runs = sum(value for value, _ in runs)
    variance = max(sum(value for value, _ in parts), of_runs, tasks[0])
    return half_width(float(variance), satterthwaite(parts), confidence), "runs and tasks"
