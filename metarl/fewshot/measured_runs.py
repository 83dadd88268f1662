"""Several runs of one few-shot experiment, measured on the same tasks: one evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.fewshot.batches import ProtocolFacts
from metarl.fewshot.evaluation import FewShotEvaluation, stored_interval, stored_scores
from metarl.statistics import Interval, crossed_interval

__all__ = ["MeasuredRuns"]

_OVER_BOTH = (
    "mean ± 1.96 √(s²/n + r²/m) over {n} tasks and {m} runs: s² is the variance of the tasks' "
    "means over runs, r² that of the runs' means over tasks"
)


@dataclass(frozen=True)
class MeasuredRuns:
    """One run or more, by name.

    Raises:
        ValueError: if there is none, or they are not of one experiment measured in one way.
    """

    evaluations: Mapping[str, FewShotEvaluation]

    def __post_init__(self) -> None:
        if not self.evaluations:
            raise ValueError("evaluations must be of one run or more, got none")
        (name, first), *others = self.evaluations.items()
        for other, evaluation in others:
            mine, theirs = _identity(first), _identity(evaluation)
            for key in {**mine, **theirs}:
                if mine.get(key) != theirs.get(key):
                    raise ValueError(
                        f"runs must be of one experiment and measured alike, {key} is "
                        f"{mine.get(key)!r} in {name} and {theirs.get(key)!r} in {other}"
                    )

    @property
    def runs(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.evaluations)

    @property
    def first(self) -> FewShotEvaluation:
        """That of the first run; learner, data set, metric and steps are those of all."""
        return next(iter(self.evaluations.values()))

    @property
    def scores(self) -> NDArray[np.float64]:
        """[rows, runs, tasks]."""
        return np.stack([evaluation.scores for evaluation in self.evaluations.values()], axis=1)

    @property
    def protocol(self) -> ProtocolFacts:
        """What decided the scores, and what the interval is over."""
        if len(self.runs) == 1:
            return self.first.protocol
        _, num_runs, num_tasks = self.scores.shape
        return self.first.protocol | {"interval": _OVER_BOTH.format(n=num_tasks, m=num_runs)}

    def intervals(self) -> list[Interval | None]:
        """Mean and interval of each row, over tasks and, if there are several, over runs.

        None where a score is not finite.
        """
        return [crossed_interval(row) if np.isfinite(row).all() else None for row in self.scores]

    def to_json(self) -> dict[str, Any]:
        """As that of a single run with the runs' names; of several, their scores by name."""
        content = {**self.first.to_json(), "runs": list(self.runs), "protocol": self.protocol}
        if len(self.runs) > 1:
            rows = zip(content["steps"], self.intervals(), self.scores, strict=True)
            content["steps"] = [
                {
                    "step": row["step"],
                    self.first.metric: stored_interval(interval),
                    "scores": dict(zip(self.runs, map(stored_scores, scores), strict=True)),
                }
                for row, interval, scores in rows
            ]
        return {key: content[key] for key in ("learner", "dataset", "runs", "protocol", "steps")}


def _identity(evaluation: FewShotEvaluation) -> dict[str, Any]:
    """What must be the same in all runs."""
    return {
        "learner": evaluation.learner,
        "dataset": evaluation.dataset,
        **evaluation.protocol,
        "steps": evaluation.steps,
    }
