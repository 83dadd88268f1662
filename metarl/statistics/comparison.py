"""Comparison of two algorithms A and B on the same tasks.

Scores are matrices [runs, tasks]. Two designs are supported. Crossed: all runs of both algorithms
have the same tasks. Nested: run i of A and run i of B have the same tasks, and other runs have
others; then run i of A is compared with run i of B only. Training seeds of A and B are independent.
Intervals are for new runs of both algorithms on new tasks, as in `intervals`. Scores on different
tasks are compared in `unpaired`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from metarl.statistics.bootstrap import Scores, as_scores
from metarl.statistics.estimate import Estimate, Unit
from metarl.statistics.intervals import (
    bounded,
    half_width,
    lacks_variation,
    mean_interval,
    mean_squares,
    satterthwaite,
    without_variation,
)

__all__ = ["mean_difference", "improvement_interval"]


def mean_difference(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    same_tasks: bool,
    bounds: tuple[float, float] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Mean of A minus mean of B, with an interval for new runs and new tasks.

    Crossed, with R_A and R_B runs, the difference of the means has the variance

        V = MSR_A/(R_A T) + MSR_B/(R_B T) + var_t(b_A − b_B)/T − MSE_A/(R_A T) − MSE_B/(R_B T)

    with the mean squares of `mean_interval` and the task means b; the last two terms remove the
    residual variance, which the first three contain twice. V is never below the first two terms
    together, nor below the third, nor below the residual variance. Degrees of freedom are
    Satterthwaite's. Nested, it is `mean_interval` of the differences.

    Args:
        scores_a: shape [R_A, T].
        scores_b: shape [R_B, T]; nested, R_B = R_A.
        same_tasks: whether all runs have the same tasks (crossed), or run i of A only those of run
            i of B (nested).
        bounds: smallest and largest possible difference, such as (−1, 1) for success rates; the
            interval is cut to them.
        confidence: confidence level of the interval, in (0, 1).

    Returns:
        The difference. With one run of either algorithm the interval is over tasks. If the
        difference is the same for all tasks and runs, see `without_variation`.

    Raises:
        ValueError: if a matrix is not finite, the numbers of tasks differ, or, nested, the numbers
            of runs.
    """
    a, b = _matrices(scores_a, scores_b, same_tasks)
    if not same_tasks:
        return mean_interval(a - b, same_tasks=False, bounds=bounds, confidence=confidence)
    return _crossed((a, b), a.mean(axis=0) - b.mean(axis=0), bounds, confidence)


def improvement_interval(
    scores_a: ArrayLike, scores_b: ArrayLike, *, same_tasks: bool, confidence: float = 0.95
) -> Estimate:
    """Probability that a run of A has a higher score than a run of B on the same task.

        P = mean over tasks, runs i of A and runs j of B of S(a_it, b_jt),
        S(a, b) = 1 if a > b, ½ if a = b, else 0

    The interval is computed like the one of `mean_difference`, from placement values: for a run of
    A on a task, the fraction of B's runs that it beats; for a run of B, the fraction of A's runs
    that beat it (DeLong et al. 1988, here with runs and tasks as random effects). If A always wins,
    always loses or always ties, see `without_variation`.

    Args, Raises: as in `mean_difference`.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), sec. 4.3, for P; the interval differs.
    """
    a, b = _matrices(scores_a, scores_b, same_tasks)
    if not same_tasks:
        wins = (np.sign(a - b) + 1) / 2
        return mean_interval(wins, same_tasks=False, bounds=(0, 1), confidence=confidence)
    wins = (np.sign(a[:, None] - b[None]) + 1) / 2  # [R_A, R_B, T]
    placements = (wins.mean(axis=1), wins.mean(axis=0))
    return _crossed(placements, wins.mean(axis=(0, 1)), (0.0, 1.0), confidence)


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


def _crossed(
    parts: tuple[Scores, Scores],
    by_task: Scores,
    bounds: tuple[float, float] | None,
    confidence: float,
) -> Estimate:
    """Interval of a statistic with the run effects of two matrices.

    Args:
        parts: contributions of A's runs and of B's, [R_A, T] and [R_B, T].
        by_task: the statistic of each task, [T].
        bounds: smallest and largest value of the statistic.
        confidence: confidence level of the interval, in (0, 1).
    """
    value, num_tasks = float(by_task.mean()), len(by_task)
    single = min(map(len, parts)) == 1
    unit: Unit = "tasks" if single else "runs" if num_tasks == 1 else "runs and tasks"
    if lacks_variation(by_task) and (single or all(map(_runs_are_equal, parts))):
        return without_variation(value, num_tasks, unit, bounds, confidence)
    if single:
        return mean_interval(by_task[None], same_tasks=True, bounds=bounds, confidence=confidence)
    variance, freedom = _crossed_variance(parts, by_task)
    return bounded(value, half_width(variance, freedom, confidence), unit, bounds)


def _runs_are_equal(part: Scores) -> bool:
    """Whether all runs have the same score on each task, except for rounding."""
    return lacks_variation(part - part.mean(axis=0) + np.abs(part).max())


def _crossed_variance(parts: tuple[Scores, Scores], by_task: Scores) -> tuple[float, float]:
    """Variance of the statistic's mean and its degrees of freedom, with 2 or more runs of both."""
    num_tasks = len(by_task)
    if num_tasks == 1:
        summands = [(x.var(ddof=1) / len(x), len(x) - 1) for x in parts]
        return float(sum(value for value, _ in summands)), satterthwaite(summands)
    squares = [(mean_squares(x), x) for x in parts]
    runs = [(of_runs / x.size, len(x) - 1) for (of_runs, _, _), x in squares]
    tasks = (by_task.var(ddof=1) / num_tasks, num_tasks - 1)
    residuals = [
        (-residual / x.size, (len(x) - 1) * (num_tasks - 1)) for (_, _, residual), x in squares
    ]
    summands = [*runs, tasks, *residuals]
    of_runs, of_residuals = (sum(value for value, _ in some) for some in (runs, residuals))
    total = sum(value for value, _ in summands)
    variance = max(total, of_runs, tasks[0], -of_residuals)
    return float(variance), satterthwaite(summands)
