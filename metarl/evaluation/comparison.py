"""Comparison of two agents, or of two few-shot learners, that were measured identically."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metarl.evaluation.comparable import AnyMetric, Comparable, Design, shared_design
from metarl.evaluation.measured import Scores
from metarl.evaluation.results import stored_estimate
from metarl.statistics.bootstrap import stratified_bootstrap
from metarl.statistics.comparison import improvement_interval, mean_difference
from metarl.statistics.estimate import Estimate
from metarl.statistics.intervals import mean_interval
from metarl.statistics.scores import probability_of_improvement
from metarl.statistics.unpaired import unpaired_difference, unpaired_improvement

__all__ = ["ComparedRow", "Comparison", "compare_all", "compare_pair", "comparisons_of"]

_TOTAL, _GAIN = "all episodes", "gain"
_LOWER_IS_BETTER = ("mse",)
_ADAPTATION_SETTINGS = ("exploration_episodes", "adaptation_steps")
_ARTICLES = {"agent": "an", "few-shot learner": "a"}
_ESTIMATES = ("a", "b", "difference", "improvement", "rliable")


@dataclass(frozen=True)
class ComparedRow:
    """Means of A and B in one row of their evaluations, and the comparison of both."""

    name: str
    a: Estimate | None
    """None if a score is not finite, because adaptation diverged."""
    b: Estimate | None
    difference: Estimate | None = None
    """Mean of A minus mean of B; None if a score is not finite."""
    improvement: Estimate | None = None
    """Probability that a run of A has a better score than a run of B: on the same task or, if the
    tasks are not common, on another. Equal scores count as one half."""
    rliable: Estimate | None = None
    """The same probability with rliable's stratified bootstrap; None if the tasks of all runs are
    not the same."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """All rows of two evaluations, compared."""

    a: Comparable
    b: Comparable
    metric: AnyMetric
    design: Design
    rows: tuple[ComparedRow, ...]
    headline: int
    """Index of the row that decides: the whole trial or, if there is none, the last stage."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher score is better."""
        return self.metric not in _LOWER_IS_BETTER

    @property
    def sign(self) -> int:
        """1 if A is better in the deciding row, −1 if B is, 0 if the interval contains 0."""
        found = self.rows[self.headline].difference
        if found is None or found.low <= 0 <= found.high:
            return 0
        return 1 if (found.value > 0) == self.higher_is_better else -1

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values; ends that are infinite are None."""
        sides = {
            side: {
                "name": one.name,
                "runs": list(one.runs),
                "num_tasks": one.num_tasks,
                "same_tasks": one.same_tasks,
                "seed": one.seed,
            }
            for side, one in (("a", self.a), ("b", self.b))
        }
        return {
            "domain": self.a.domain,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "design": self.design,
            "protocol": dict(self.a.settings),
            **sides,
            "rows": [_stored(row) for row in self.rows],
            "decides": self.rows[self.headline].name,
        }


def compare_all(
    sides_a: Sequence[Comparable],
    sides_b: Sequence[Comparable],
    metric: AnyMetric | None = None,
) -> list[Comparison]:
    """Compare each evaluation of A with the one of B that has the same settings.

    Args:
        sides_a: evaluations of A, such as one for each split.
        sides_b: evaluations of B.
        metric: compared metric; None: all that were measured for both.

    Raises:
        ValueError: if no evaluation of A has the settings of one of B, or a metric is unknown or
            was not measured for both.
    """
    found = []
    for a in sides_a:
        partner = next((b for b in sides_b if _mismatch(a, b) is None), None)
        if partner is not None:
            found += [compare_pair(a, partner, name) for name in _metrics(a, partner, metric)]
    if not found:
        reasons = [reason for a in sides_a for b in sides_b if (reason := _mismatch(a, b))]
        raise ValueError(max(reasons)[1])
    return found


def comparisons_of(several: Sequence[Comparable]) -> list[Comparison]:
    """Every pair of evaluations with equal settings and common tasks, for each shared metric.

    With more than two evaluations, the pairs have only the row that decides and the gain.
    """
    found = []
    for k, b in enumerate(several):
        for a in several[:k]:
            if _mismatch(a, b) is None and shared_design(a, b) != "unpaired":
                found += [
                    compare_pair(a, b, metric, every_row=len(several) == 2)
                    for metric in _metrics(a, b, None)
                ]
    return found


def compare_pair(
    a: Comparable, b: Comparable, metric: AnyMetric, *, every_row: bool = True
) -> Comparison:
    """Compare two evaluations with equal settings by one metric.

    Args:
        a: the first.
        b: the second.
        metric: a metric of both.
        every_row: compare all stages, not only the row that decides and the gain.
    """
    design = shared_design(a, b)
    sign = -1 if metric in _LOWER_IS_BETTER else 1
    bounds = None if metric in ("return", "mse") else (0.0, 1.0)
    pair = _Pair(a, b, design, sign, bounds)
    stages = list(_matched(a, b, metric))
    if metric in a.totals and metric in b.totals:
        stages.append((_TOTAL, (a.totals[metric], b.totals[metric])))
    rows = [pair.row(name, *both) for name, both in (stages if every_row else stages[-1:])]
    headline = len(rows) - 1
    keys = [key for key in a.rows if key in b.rows]
    if a.adapts and b.adapts and len(keys) > 1:
        gains = [one.scores[metric][keys[-1]] - one.scores[metric][keys[0]] for one in (a, b)]
        gain_bounds = None if bounds is None else (-1.0, 1.0)
        rows.append(_Pair(a, b, design, sign, gain_bounds).row(_GAIN, *gains))
    return Comparison(a, b, metric, design, tuple(rows), headline)


@dataclass(frozen=True)
class _Pair:
    """Compares scores of A and B."""

    a: Comparable
    b: Comparable
    design: Design
    sign: int
    """1 if a higher score is better, else −1."""
    bounds: tuple[float, float] | None

    def row(self, name: str, scores_a: Scores, scores_b: Scores) -> ComparedRow:
        """Compare scores [runs, tasks] of A and B."""
        mean_a, mean_b = self._mean(scores_a, self.a), self._mean(scores_b, self.b)
        if mean_a is None or mean_b is None:
            return ComparedRow(name, mean_a, mean_b)
        width = None if self.bounds is None else self.bounds[1] - self.bounds[0]
        reach = None if width is None else (-width, width)
        better = self.sign * scores_a, self.sign * scores_b
        if self.design == "unpaired":
            same = (self.a.same_tasks, self.b.same_tasks)
            difference = unpaired_difference(scores_a, scores_b, same_tasks=same, bounds=reach)
            improvement = unpaired_improvement(*better, same_tasks=same)
            return ComparedRow(name, mean_a, mean_b, difference, improvement)
        crossed = self.design == "paired"
        difference = mean_difference(scores_a, scores_b, same_tasks=crossed, bounds=reach)
        improvement = improvement_interval(*better, same_tasks=crossed)
        rliable = stratified_bootstrap(probability_of_improvement, *better) if crossed else None
        return ComparedRow(name, mean_a, mean_b, difference, improvement, rliable)

    def _mean(self, scores: Scores, one: Comparable) -> Estimate | None:
        if not np.isfinite(scores).all():
            return None
        return mean_interval(scores, same_tasks=one.same_tasks, bounds=self.bounds)


def _matched(
    a: Comparable, b: Comparable, metric: AnyMetric
) -> Iterator[tuple[str, tuple[Scores, Scores]]]:
    """Names and scores of the rows that both have.

    The only row of a side that does not adapt is compared with every row of the other.
    """
    first, second = a.scores[metric], b.scores[metric]
    if a.adapts and b.adapts:
        for key in (key for key in a.rows if key in b.rows):
            names = dict.fromkeys((a.rows[key], b.rows[key]))
            yield " / ".join(names), (first[key], second[key])
    elif b.adapts:
        (only,) = first.values()
        yield from ((name, (only, second[key])) for key, name in b.rows.items())
    else:
        (only,) = second.values()
        yield from ((name, (first[key], only)) for key, name in a.rows.items())


def _mismatch(a: Comparable, b: Comparable) -> tuple[int, str] | None:
    """Reason why two evaluations cannot be compared, with the number of facts that agree first.

    None if they can. Facts are checked in a fixed order.
    """
    if a.noun != b.noun:
        kinds = " and ".join(f"{one.name} is {_ARTICLES[one.noun]} {one.noun}" for one in (a, b))
        return 0, f"A and B must both be agents or both be few-shot learners, {kinds}"
    if a.domain != b.domain:
        place = "environment" if a.noun == "agent" else "data set"
        return 1, (
            f"A and B must be measured in the same {place}, got {a.domain} for {a.name} and "
            f"{b.domain} for {b.name}"
        )
    if not a.scores.keys() & b.scores.keys():
        return 2, (
            f"A and B must be measured by the same metric, got {_described(a)} for {a.name} and "
            f"{_described(b)} for {b.name}"
        )
    exempt = () if a.adapts and b.adapts else _ADAPTATION_SETTINGS
    names = [name for name in {**a.settings, **b.settings} if name not in exempt]
    for agree, name in enumerate(names):
        mine, theirs = a.settings.get(name), b.settings.get(name)
        if mine != theirs:
            return 3 + agree, (
                f"A and B must be measured by the same protocol, {name} is {mine} for {a.name} and "
                f"{theirs} for {b.name}; measure both with the same options of metarl evaluate"
            )
    return None


def _described(one: Comparable) -> str:
    """The metrics and their directions."""
    words = ("lower" if name in _LOWER_IS_BETTER else "higher" for name in one.scores)
    pairs = zip(one.scores, words, strict=True)
    return " and ".join(f"{name} ({word} is better)" for name, word in pairs)


def _metrics(a: Comparable, b: Comparable, metric: AnyMetric | None) -> list[AnyMetric]:
    """The metrics to compare.

    Raises:
        ValueError: if `metric` is given and was not measured for both.
    """
    shared = [name for name in a.scores if name in b.scores]
    if metric is None:
        return shared
    if metric not in shared:
        raise ValueError(
            f"metric must have been measured for both, which is {' or '.join(shared)} for "
            f"{a.name} and {b.name}, got {metric}"
        )
    return [metric]


def _stored(row: ComparedRow) -> dict[str, Any]:
    estimates = {name: getattr(row, name) for name in _ESTIMATES}
    return {
        "name": row.name,
        **{k: None if v is None else stored_estimate(v) for k, v in estimates.items()},
    }
