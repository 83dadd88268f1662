"""Performance profiles: the fraction of scores above each threshold.

A profile shows the whole distribution of scores: if the profile of one algorithm is above another's
everywhere, no choice of statistic reverses their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from metarl.statistics.bootstrap import (
    Scores,
    as_scores,
    bootstrap_draws,
    percentile_ends,
    resampled_unit,
)

__all__ = [
    "PerformanceProfile",
    "performance_profiles",
    "score_profile",
    "average_score_profile",
]


@dataclass(frozen=True)
class PerformanceProfile:
    """The fraction of scores above each threshold, with pointwise bands."""

    thresholds: Scores  # [K]
    fractions: Scores  # [K], in [0, 1]
    low: Scores  # [K], pointwise: the whole curve leaves the band more often
    high: Scores  # [K]
    resampled: Literal["runs", "tasks"]  # unit of resampling of the bands


def performance_profiles(
    scores: Mapping[str, ArrayLike],
    thresholds: ArrayLike,
    *,
    average_runs: bool = False,
    seed: int = 0,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> dict[str, PerformanceProfile]:
    """The profile of every algorithm at the same thresholds.

    Args:
        scores: scores of each algorithm by name, shape [runs, tasks].
        thresholds: τ, in the scores' units, shape [K].
        average_runs: count tasks by their mean over runs (`average_score_profile`) instead of
            single scores; this hides the differences between runs.
        seed: seed of the bootstrap (see `stratified_bootstrap`); the band of an algorithm does not
            depend on the others.
        num_resamples: number of bootstrap samples.
        confidence: confidence level at each threshold, in (0, 1).

    Returns:
        Profiles by name.

    Raises:
        ValueError: if there is no algorithm, scores are not non-empty matrices of finite numbers,
            thresholds are not a non-empty vector of finite numbers, or a number is out of range.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), sec. 4.2.
    """
    if not scores:
        raise ValueError("scores must hold at least one algorithm, got none")
    taus = _as_thresholds(thresholds)
    profile = partial(average_score_profile if average_runs else score_profile, thresholds=taus)
    profiles = {}
    for name, given in scores.items():
        matrix = as_scores(given, f"scores of {name!r}")
        draws = bootstrap_draws(profile, matrix, seed=seed, num_resamples=num_resamples)
        low, high = percentile_ends(draws, confidence)
        unit = resampled_unit(matrix)
        profiles[name] = PerformanceProfile(taus, profile(matrix), low, high, unit)
    return profiles


def score_profile(scores: ArrayLike, thresholds: ArrayLike) -> Scores:
    """The fraction of runs × tasks whose score is above each threshold.

        F(τ) = 1/(NM) Σ_n Σ_m 1[x_nm > τ]

    Args:
        scores: x, shape [..., N, M].
        thresholds: τ, shape [K].

    Returns:
        Shape [..., K].
    """
    matrices = as_scores(scores)
    # One threshold at a time: all at once would need [..., N, M, K].
    above = [(matrices > tau).mean(axis=(-2, -1)) for tau in _as_thresholds(thresholds)]
    return np.stack(above, axis=-1)


def average_score_profile(scores: ArrayLike, thresholds: ArrayLike) -> Scores:
    """The fraction of tasks whose mean score over runs is above each threshold.

    Shapes as in `score_profile`.
    """
    return score_profile(as_scores(scores).mean(axis=-2, keepdims=True), thresholds)


def _as_thresholds(thresholds: ArrayLike) -> Scores:
    taus = np.asarray(thresholds, dtype=np.float64)
    if taus.ndim != 1 or not taus.size or not np.isfinite(taus).all():
        raise ValueError(
            f"thresholds must be a non-empty vector of finite numbers, got {thresholds!r}"
        )
    return taus
