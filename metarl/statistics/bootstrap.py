"""Stratified-bootstrap intervals of any statistic of score matrices.

Scores of one algorithm are a matrix [runs, tasks]; runs differ in the training seed. A statistic
also takes a stack of matrices, [..., runs, tasks], so that all resamples are computed at once.
The statistics are in `scores` and `profiles`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metarl.statistics.estimate import Estimate

__all__ = [
    "Scores",
    "Values",
    "Statistic",
    "stratified_bootstrap",
    "bootstrap_draws",
    "resampled_unit",
    "percentile_ends",
    "as_scores",
    "check_same_tasks",
    "check_num_resamples",
]

Scores = NDArray[np.float64]
Values = Scores | np.float64  # a number from a matrix, shape [...] from a stack [..., runs, tasks]
Statistic = Callable[..., Values]

_CHUNK = 2**17  # tasks × product of the numbers of runs × resamples at a time; a few MB


def stratified_bootstrap(
    statistic: Statistic,
    *scores: ArrayLike,
    seed: int = 0,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> Estimate:
    """A statistic of one or more score matrices with its percentile-bootstrap interval.

    With two or more runs the tasks are strata: the runs of each task are resampled with
    replacement, independently for every task and matrix. The interval then covers other training
    seeds on the same tasks, assuming that the scores of a run on different tasks are independent.
    After meta-training they are not, because one policy acts in all tasks: the interval misses
    the effect of a seed on all tasks, so the means of the runs should be reported as well. If any
    matrix has only one run, whole tasks are resampled instead, the same for all matrices, and the
    interval covers other tasks of the same distribution. `Estimate.over` is the
    resampled unit.

    Args:
        statistic: function of as many arrays [..., runs, tasks] as there are `scores`; returns
            shape [...].
        scores: matrices [runs, tasks]; the numbers of runs may differ, the tasks must not.
        seed: seed of the resampling.
        num_resamples: number of bootstrap samples.
        confidence: confidence level of the interval, in (0, 1).

    Returns:
        The statistic, lower and upper end, and what was resampled. The ends are infinite if they
        would be equal.

    Raises:
        ValueError: if scores are not non-empty matrices of finite numbers, a number is out of
            range, or the statistic does not keep the leading axes.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), sec. 4.1. Differs: rliable gives a single run,
    and runs with equal scores, an interval of width zero.
    """
    draws = bootstrap_draws(statistic, *scores, seed=seed, num_resamples=num_resamples)
    if draws.ndim != 1:
        raise ValueError(f"statistic must give one number per matrix, got shape {draws.shape[1:]}")
    low, high = map(float, percentile_ends(draws, confidence))
    matrices = _matrices(scores)
    value = float(statistic(*matrices))
    if low == high:  # a sample without variation does not show how much others vary
        low, high = -math.inf, math.inf
    return Estimate(value, low, high, resampled_unit(*matrices))


def bootstrap_draws(
    statistic: Statistic, *scores: ArrayLike, seed: int = 0, num_resamples: int = 2000
) -> Scores:
    """The statistic of each resample, shape [num_resamples, ...]; see `stratified_bootstrap`."""
    matrices = _matrices(scores)
    check_num_resamples(num_resamples)
    draws = []
    for resamples in _resamples(matrices, seed, num_resamples):
        values = np.asarray(statistic(*resamples), dtype=np.float64)
        size = len(resamples[0])
        if values.shape[:1] != (size,):
            raise ValueError(
                f"statistic must keep the leading axes: for scores {resamples[0].shape} it must "
                f"give shape ({size}, ...), got {values.shape}"
            )
        draws.append(values)
    return np.concatenate(draws)


def resampled_unit(*scores: ArrayLike) -> Literal["runs", "tasks"]:
    """The unit of resampling: runs if every matrix [runs, tasks] has two or more, else tasks."""
    return "runs" if min(len(matrix) for matrix in _matrices(scores)) > 1 else "tasks"


def percentile_ends(draws: ArrayLike, confidence: float) -> Scores:
    """Both ends of the central interval that contains the fraction `confidence` of draws [n, ...].

    Returns:
        Shape [2, ...], the lower end first.

    Raises:
        ValueError: if `confidence` is not in (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, both excluded, got {confidence}")
    tail = (1 - confidence) / 2
    ends: Scores = np.quantile(np.asarray(draws, dtype=np.float64), [tail, 1 - tail], axis=0)
    return ends


def as_scores(scores: ArrayLike, name: str = "scores") -> Scores:
    """Scores as float64 of shape [..., runs, tasks].

    Raises:
        ValueError: if they are not a matrix (or stack), have no runs or tasks, or are not finite.
    """
    try:
        matrices = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be numbers [runs, tasks], with equally many tasks in every run ({error})"
        ) from None
    if matrices.ndim < 2:
        raise ValueError(f"{name} must be a matrix [runs, tasks], got shape {matrices.shape}")
    if not matrices.size:
        raise ValueError(
            f"{name} must have at least one run and one task, got shape {matrices.shape}"
        )
    if not np.isfinite(matrices).all():
        *_, run, task = np.argwhere(~np.isfinite(matrices))[0]
        wrong = matrices[~np.isfinite(matrices)][0]
        raise ValueError(f"{name} must be finite, got {wrong} in run {run}, task {task}")
    return matrices


def _matrices(scores: tuple[ArrayLike, ...]) -> list[Scores]:
    if not scores:
        raise ValueError("scores must include at least one matrix [runs, tasks], got none")
    matrices = [as_scores(matrix) for matrix in scores]
    for matrix in matrices:
        if matrix.ndim != 2:
            raise ValueError(f"scores must be a matrix [runs, tasks], got shape {matrix.shape}")
    check_same_tasks(matrices)
    return matrices


def _resamples(
    matrices: list[Scores], seed: int, num_resamples: int
) -> Iterator[tuple[Scores, ...]]:
    """Stacks [chunk, runs, tasks] of resamples, one for each matrix; chunks bound the memory."""
    num_tasks = matrices[0].shape[1]
    by_runs = resampled_unit(*matrices) == "runs"
    generators = np.random.default_rng(seed).spawn(len(matrices))
    chunk = max(1, _CHUNK // (num_tasks * math.prod(len(matrix) for matrix in matrices)))
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        if by_runs:
            picks = [
                generator.integers(len(matrix), size=(size, *matrix.shape))
                for generator, matrix in zip(generators, matrices, strict=True)
            ]
            columns = np.arange(num_tasks)
            yield tuple(m[pick, columns] for m, pick in zip(matrices, picks, strict=True))
        else:
            tasks = generators[0].integers(num_tasks, size=(size, num_tasks))
            yield tuple(np.moveaxis(matrix[:, tasks], 1, 0) for matrix in matrices)


def check_same_tasks(matrices: Sequence[Scores]) -> None:
    counts = [matrix.shape[-1] for matrix in matrices]
    if len(set(counts)) > 1:
        raise ValueError(f"scores must cover the same tasks in every matrix, got {counts} tasks")


def check_num_resamples(num_resamples: int) -> None:
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be 1 or more, got {num_resamples}")
