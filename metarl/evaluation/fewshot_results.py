"""Scores of few-shot learners by run, number of adaptation steps and task, with intervals.

`metarl.fewshot.evaluation` measures them; `metarl.evaluation.files` writes and reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metarl.evaluation.protocol import ProtocolFacts
from metarl.evaluation.results import OutdatedEvaluationError
from metarl.statistics.intervals import Interval, crossed_interval, normal_interval

__all__ = [
    "OVER_TASKS",
    "FewShotEvaluation",
    "FewShotResult",
    "MeasuredRuns",
    "Metric",
    "tasks_in_words",
]


_FIELDS = ("learner", "dataset", "runs", "protocol", "steps")
_NEEDED_FACTS = {
    "num_tasks", "split", "ways", "shots", "query", "seed", "iterations", "interval", "batch_norm",
    "transductive",
}  # fmt: skip
_REMEDY = "measure again with metarl evaluate RUN --json FILE"
_DECIMALS = 4  # decimals of a task's score in a file
Metric = Literal["accuracy", "mse"]


@dataclass(frozen=True)
class FewShotEvaluation:
    """Scores of one run on all tasks, and the protocol."""

    learner: str
    dataset: str
    metric: Metric
    steps: tuple[int, ...]
    """Adaptation steps before each row of scores; a learner without steps has the single row 1."""
    scores: NDArray[np.float64]
    """[rows, tasks]; an error is infinite or NaN if adaptation diverges."""
    protocol: ProtocolFacts

    def intervals(self) -> list[Interval | None]:
        """Mean ± 1.96 s/√n over the tasks for each row; None if a score is not finite."""
        return [normal_interval(row) if np.isfinite(row).all() else None for row in self.scores]

    def to_json(self) -> dict[str, Any]:
        """The evaluation as JSON values; the scores of tasks are rounded to 4 decimals.

        Scores that are not finite, and their means, are None.
        """
        rows = zip(self.steps, self.intervals(), self.scores, strict=True)
        return {
            "learner": self.learner,
            "dataset": self.dataset,
            "protocol": self.protocol,
            "steps": [
                {"step": step, self.metric: _stored_interval(found), "scores": _stored_scores(row)}
                for step, found, row in rows
            ],
        }


def _stored_scores(scores: NDArray[np.float64]) -> list[float | None]:
    """Scores [tasks] rounded to 4 decimals; None if not finite."""
    return [round(x, _DECIMALS) if math.isfinite(x) else None for x in scores.tolist()]


def _stored_interval(interval: Interval | None) -> dict[str, float] | None:
    """An interval as a JSON value."""
    return None if interval is None else interval._asdict()


OVER_TASKS = "mean ± 1.96 s/√n over tasks"
"""Description of the interval of a single run."""
_OVER_BOTH = (
    "mean ± 1.96 √(s²/n + r²/m) over {n} tasks and {m} runs: s² is the variance of the tasks' "
    "means over runs, r² that of the runs' means over tasks"
)


@dataclass(frozen=True)
class MeasuredRuns:
    """Evaluations of one or more runs of one experiment, by name.

    Raises:
        ValueError: if there is no run, or learner, data set, protocol or steps differ.
    """

    evaluations: Mapping[str, FewShotEvaluation]
    recorded: tuple[Interval | None, ...] = ()
    """Intervals of the exact scores, as stored in a file; the stored scores are rounded."""

    def __post_init__(self) -> None:
        if not self.evaluations:
            raise ValueError("evaluations must hold at least one run, got none")
        (name, first), *others = self.evaluations.items()
        for other, evaluation in others:
            mine, theirs = _identity(first), _identity(evaluation)
            for key in {**mine, **theirs}:
                if mine.get(key) != theirs.get(key):
                    raise ValueError(
                        f"runs must be of one experiment and one protocol, {key} is "
                        f"{mine.get(key)!r} in {name} and {theirs.get(key)!r} in {other}"
                    )

    @property
    def runs(self) -> tuple[str, ...]:
        """Names of the runs."""
        return tuple(self.evaluations)

    @property
    def first(self) -> FewShotEvaluation:
        """The first run; learner, data set, metric and steps are equal in all runs."""
        return next(iter(self.evaluations.values()))

    @property
    def scores(self) -> NDArray[np.float64]:
        """Scores of all runs, [rows, runs, tasks]."""
        return np.stack([evaluation.scores for evaluation in self.evaluations.values()], axis=1)

    @property
    def protocol(self) -> ProtocolFacts:
        """The protocol, including a description of the interval."""
        if len(self.runs) == 1:
            return self.first.protocol
        _, num_runs, num_tasks = self.scores.shape
        return self.first.protocol | {"interval": _OVER_BOTH.format(n=num_tasks, m=num_runs)}

    def intervals(self) -> list[Interval | None]:
        """Mean and interval of each row over tasks and, if there are several, runs.

        None if a score is not finite.
        """
        if self.recorded:
            return list(self.recorded)
        return [crossed_interval(row) if np.isfinite(row).all() else None for row in self.scores]

    def to_json(self) -> dict[str, Any]:
        """The evaluations as JSON values; the scores of several runs are objects by run."""
        content = {**self.first.to_json(), "runs": list(self.runs), "protocol": self.protocol}
        rows = zip(content["steps"], self.intervals(), self.scores, strict=True)
        for row, interval, scores in rows:
            if self.recorded or len(self.runs) > 1:
                row[self.first.metric] = _stored_interval(interval)
            if len(self.runs) > 1:
                row["scores"] = dict(zip(self.runs, map(_stored_scores, scores), strict=True))
        return {key: content[key] for key in _FIELDS}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], *, source: str = "evaluation") -> MeasuredRuns:
        """The evaluations from the result of `to_json`, with the stored intervals.

        Args:
            content: result of `to_json`.
            source: name of the source in error messages.

        Raises:
            OutdatedEvaluationError: if it has an earlier format.
            ValueError: if a value is missing or has another shape.
        """
        facts = content.get("protocol")
        lacks_facts = isinstance(facts, dict) and not facts.keys() >= _NEEDED_FACTS
        if lacks_facts or not content.keys() >= {*_FIELDS}:
            raise OutdatedEvaluationError(f"{source} was written by an earlier version; {_REMEDY}")
        try:
            made = _from_rows(content)
            if made.scores.ndim != 3:
                raise ValueError("scores must be of all steps, runs and tasks")
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"{source} must hold an evaluation of few-shot runs, it is damaged; {_REMEDY}"
            ) from error
        return made


def _from_rows(content: Mapping[str, Any]) -> MeasuredRuns:
    rows, names, protocol = content["steps"], list(content["runs"]), {**content["protocol"]}
    (metric,) = set(rows[0]) & {"accuracy", "mse"}
    if len(names) > 1:  # the file describes the interval over all runs
        protocol["interval"] = OVER_TASKS
    steps = tuple(int(row["step"]) for row in rows)
    evaluations = {}
    for name in names:
        scores = [row["scores"][name] if len(names) > 1 else row["scores"] for row in rows]
        evaluations[name] = FewShotEvaluation(
            content["learner"],
            content["dataset"],
            metric,
            steps,
            np.array(scores, dtype=np.float64),  # None becomes NaN
            protocol,
        )
    recorded = tuple(row[metric] and Interval(**row[metric]) for row in rows)
    return MeasuredRuns(evaluations, recorded)


@dataclass(frozen=True)
class FewShotResult:
    """An evaluation of few-shot runs with the name that tables and figures show."""

    name: str
    """Name of the learner."""
    measured: MeasuredRuns
    usual_steps: int = 1
    """Number of adaptation steps in training, or in the learner's own test."""
    usual_word: str = "as trained"
    """Description of `usual_steps` in tables."""

    @property
    def intervals(self) -> tuple[Interval | None, ...]:
        """Mean and interval of each row of scores; None if adaptation diverged."""
        return tuple(self.measured.intervals())

    @property
    def protocol(self) -> ProtocolFacts:
        """The protocol; see `MeasuredRuns.protocol`."""
        return self.measured.protocol

    @property
    def steps(self) -> tuple[int, ...]:
        """Adaptation steps before each row of scores."""
        return self.measured.first.steps

    @property
    def has_steps(self) -> bool:
        """Whether the learner adapts by steps; if not, its only row is 1."""
        return self.steps[0] == 0

    @property
    def usual_row(self) -> int:
        """Index of the row of `usual_steps`; −1, the last row, if it was not measured."""
        return self.steps.index(self.usual_steps) if self.usual_steps in self.steps else -1

    @property
    def is_error(self) -> bool:
        """Whether the scores are mean squared errors instead of accuracies."""
        return self.measured.first.metric == "mse"

    @property
    def tested_on(self) -> str:
        """Description of the test tasks: ways and shots."""
        return tasks_in_words(self.measured.first.metric, self.protocol)


def tasks_in_words(metric: Metric, protocol: ProtocolFacts) -> str:
    """Description of the test tasks: ways and shots, or for regression the number of points."""
    shots = protocol["shots"]
    return f"{shots} points" if metric == "mse" else f"{protocol['ways']}-way {shots}-shot"


def _identity(evaluation: FewShotEvaluation) -> dict[str, Any]:
    """The facts that all runs must share."""
    return {
        "learner": evaluation.learner,
        "dataset": evaluation.dataset,
        **evaluation.protocol,
        "steps": evaluation.steps,
    }
