"""Statistics for comparing algorithms over runs and tasks.

Scores of one algorithm are a matrix [runs, tasks]; each statistic also takes a stack of matrices,
[..., runs, tasks]. The definitions follow rliable (Agarwal et al. 2021, arXiv:2108.13264).
Intervals are in `bootstrap`, performance profiles in `profiles`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from metarl.statistics.bootstrap import Scores, Values, as_scores, check_same_tasks

__all__ = [
    "mean_score",
    "median_score",
    "interquartile_mean",
    "optimality_gap",
    "probability_of_improvement",
]


def mean_score(scores: ArrayLike) -> Values:
    """Mean over runs and tasks, of scores [..., runs, tasks]."""
    return _mean(as_scores(scores))


def median_score(scores: ArrayLike) -> Values:
    """Median over tasks of the mean over runs, of scores [..., runs, tasks]."""
    medians: Values = np.median(as_scores(scores).mean(axis=-2), axis=-1)
    return medians


def interquartile_mean(scores: ArrayLike) -> Values:
    """Mean of the middle half of all scores [..., runs, tasks], runs and tasks pooled.

        IQM = 1/(n − 2c) Σ_{i=c+1}^{n−c} x_(i),   c = ⌊n/4⌋

    with the n = runs · tasks scores in order, x_(1) ≤ … ≤ x_(n). Scores are not weighted: if 4 does
    not divide n, more than half of them are kept, and all of them if n < 4.
    This is `scipy.stats.trim_mean(scores, 0.25, axis=None)`.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), sec. 4.3.
    """
    matrices = as_scores(scores)
    pooled = matrices.reshape(*matrices.shape[:-2], -1)
    count = pooled.shape[-1]
    cut = count // 4
    ordered = np.partition(pooled, (cut, count - cut - 1), axis=-1)
    means: Values = ordered[..., cut : count - cut].mean(axis=-1)
    return means


def optimality_gap(scores: ArrayLike, *, target: float = 1.0) -> Values:
    """Mean of max(target − score, 0) over runs and tasks, of scores [..., runs, tasks].

    Scores above the target count as the target. Lower is better.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), sec. 4.3.
    """
    return _mean(np.maximum(target - as_scores(scores), 0.0))


def probability_of_improvement(scores_x: ArrayLike, scores_y: ArrayLike) -> Values:
    """Probability that a run of X has a higher score than a run of Y on the same task.

        1/M Σ_m 1/(NK) Σ_i Σ_j S(x_im, y_jm),   S = 1 if x > y, ½ if x = y, else 0

    The inner sum is the Mann-Whitney U of task m.

    Args:
        scores_x: x, shape [..., N, M].
        scores_y: y, shape [..., K, M]; the columns are the same tasks.

    Returns:
        The probability, in [0, 1]; ½ if neither is better.

    Raises:
        ValueError: if the numbers of tasks differ, or a matrix is not finite.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), sec. 4.3.
    """
    x, y = as_scores(scores_x, "scores_x"), as_scores(scores_y, "scores_y")
    check_same_tasks((x, y))
    x, y = x[..., :, None, :], y[..., None, :, :]
    wins = (x > y).mean(axis=(-3, -2, -1))
    wins_and_ties = (x >= y).mean(axis=(-3, -2, -1))
    probabilities: Values = (wins + wins_and_ties) / 2
    return probabilities


def _mean(matrices: Scores) -> Values:
    means: Values = matrices.mean(axis=(-2, -1))
    return means
