"""Comparison of two algorithms A and B that were measured on different tasks.

Scores are matrices [runs, tasks]; numbers of runs and of tasks may differ. The tasks of A and B are
independent samples of one distribution, so the variances of both add up. Intervals are wider than
on common tasks (`comparison`), because differences between tasks do not cancel.
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
    mean_variance,
    satterthwaite,
    without_variation,
)

__all__ = ["unpaired_difference", "unpaired_improvement"]


def unpaired_difference(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    same_tasks: tuple[bool, bool],
    bounds: tuple[float, float] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Mean of A minus mean of B on other tasks, with an interval for new runs and new tasks.

    Its variance is V_A + V_B, each the variance of a mean in `mean_interval`, with Satterthwaite's
    degrees of freedom (Welch's interval, if there are no run effects).

    Args:
        scores_a: shape [R_A, T_A].
        scores_b: shape [R_B, T_B].
        same_tasks: whether all runs of A have the same tasks, and whether all runs of B have.
        bounds: smallest and largest possible difference; the interval is cut to them.
        confidence: confidence level of the interval, in (0, 1).

    Returns:
        The difference. With one run of either algorithm the interval is over tasks, for the
        trained policies of both.

    Raises:
        ValueError: if a matrix is not a non-empty matrix of finite numbers.
    """
    a, b = _matrix("scores_a", scores_a), _matrix("scores_b", scores_b)
    value = float(a.mean() - b.mean())
    return _interval(value, (a, b), same_tasks, bounds, confidence)


def unpaired_improvement(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    same_tasks: tuple[bool, bool],
    confidence: float = 0.95,
) -> Estimate:
    """Probability that a run of A on a task has a higher score than a run of B on another task.

        P = mean over all scores a of A and b of B of S(a, b),   S = 1 if a > b, ½ if a = b, else 0

    This is the Mann-Whitney statistic. Its interval is computed like the one of
    `unpaired_difference`, from placement values: of a score of A, the fraction of B's scores below
    it; of a score of B, the fraction of A's scores above it (DeLong et al. 1988; with clusters of
    scores as in Obuchowski 1997).

    Args, Returns, Raises: as in `unpaired_difference`.
    """
    a, b = _matrix("scores_a", scores_a), _matrix("scores_b", scores_b)
    above, below = _placements(a, b), 1 - _placements(b, a)
    return _interval(float(above.mean()), (above, below), same_tasks, (0.0, 1.0), confidence)


def _matrix(name: str, scores: ArrayLike) -> Scores:
    matrix = as_scores(scores, name)
    if matrix.ndim != 2:
        raise ValueError(f"{name} must be a matrix [runs, tasks], got shape {matrix.shape}")
    return matrix


def _placements(scores: Scores, others: Scores) -> Scores:
    """For each score, the fraction of other scores below it; equal ones count one half."""
    ordered = np.sort(others, axis=None)
    below, up_to = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    fractions: Scores = (below + up_to) / (2 * ordered.size)
    return fractions


def _interval(
    value: float,
    parts: tuple[Scores, Scores],
    same_tasks: tuple[bool, bool],
    bounds: tuple[float, float] | None,
    confidence: float,
) -> Estimate:
    """Interval of a statistic whose variance is the sum of the variances of two means."""
    runs, tasks = (min(part.shape[axis] for part in parts) for axis in (0, 1))
    unit: Unit = "tasks" if runs == 1 else "runs" if tasks == 1 else "runs and tasks"
    if all(map(lacks_variation, parts)):
        return without_variation(value, tasks, unit, bounds, confidence)
    variance = _variance_over_tasks if runs == 1 else mean_variance
    summands = [
        variance(part, same_tasks=same) for part, same in zip(parts, same_tasks, strict=True)
    ]
    if any(freedom <= 0 for _, freedom in summands):
        return bounded(value, np.inf, unit, bounds)
    total = sum(part for part, _ in summands)
    return bounded(value, half_width(total, satterthwaite(summands), confidence), unit, bounds)


def _variance_over_tasks(scores: Scores, *, same_tasks: bool) -> tuple[float, float]:
    """Variance of the mean of scores [R, T] for these runs on new tasks, and degrees of freedom."""
    num_runs, num_tasks = scores.shape
    if num_tasks == 1:
        return np.inf, 0
    if same_tasks:
        return mean_variance(scores.mean(axis=0, keepdims=True), same_tasks=True)
    within = float(scores.var(axis=1, ddof=1).mean())
    return within / scores.size, num_runs * (num_tasks - 1)
