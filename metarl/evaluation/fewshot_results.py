"""Scores of few-shot learners by run, number of adaptation steps and task, with intervals.

`metarl.fewshot.evaluation` measures them; `metarl.evaluation.files` writes and reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metarl.evaluation.plain_tables import plain_table
from metarl.evaluation.protocol import ProtocolFacts
from metarl.evaluation.results import OutdatedEvaluationError
from metarl.statistics.estimate import Estimate
from metarl.statistics.intervals import mean_interval
from metarl.statistics.numbers import fixed_text

__all__ = [
    "OVER_TASKS",
    "FewShotEvaluation",
    "FewShotResult",
    "MeasuredRuns",
    "Metric",
    "tasks_in_words",
]


_FIELDS = ("learner", "dataset", "runs", "protocol", "steps")  # files of every version have these
_NEEDED_FACTS = {
    "num_tasks", "split", "ways", "shots", "query", "seed", "iterations", "interval", "batch_norm",
    "transductive",
}  # fmt: skip
_REMEDY = "measure again with metarl evaluate RUN --json FILE"
_DECIMALS = 4  # decimals of a task's score in a file
Metric = Literal["accuracy", "mse"]


@dataclass(frozen=True, repr=False)
class FewShotEvaluation:
    """Scores of one run on all tasks, and the protocol; printed as a table."""

    learner: str
    dataset: str
    metric: Metric
    steps: tuple[int, ...]
    """Adaptation steps before each row of scores; a learner without steps has the single row 1."""
    scores: NDArray[np.float64]
    """[rows, tasks]; an error is infinite or NaN if adaptation diverges."""
    protocol: ProtocolFacts

    def __repr__(self) -> str:
        return repr(MeasuredRuns({self.learner: self}))

    def intervals(self) -> list[Estimate | None]:
        """Mean and 95 % interval over the tasks for each row; None if a score is not finite."""
        return [_estimate(row[None], self.metric, same_tasks=True) for row in self.scores]

    def to_json(self) -> dict[str, Any]:
        """The evaluation as JSON values; the scores of tasks are rounded to 4 decimals.

        Means and intervals are computed from the rounded scores, so that reading and writing a
        file does not change it. Scores that are not finite, and their means, are None.
        """
        rounded = replace(self, scores=self.scores.round(_DECIMALS))
        rows = zip(self.steps, rounded.intervals(), self.scores, strict=True)
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


def _stored_interval(estimate: Estimate | None) -> dict[str, float | None] | None:
    """An interval as a JSON value; ends that are infinite are None."""
    if estimate is None:
        return None
    low, high = (end if math.isfinite(end) else None for end in (estimate.low, estimate.high))
    return {"mean": estimate.value, "low": low, "high": high}


def _estimate(scores: NDArray[np.float64], metric: Metric, *, same_tasks: bool) -> Estimate | None:
    """Mean and interval of scores [runs, tasks]; None if a score is not finite."""
    if not np.isfinite(scores).all():
        return None
    bounds = (0.0, 1.0) if metric == "accuracy" else None
    return mean_interval(scores, same_tasks=same_tasks, bounds=bounds)


OVER_TASKS = "95 % over tasks (Student's t)"
"""Description of the interval of a single run."""
_OVER_BOTH = {
    True: "95 % over {m} runs and {n} tasks, the same for all runs (two-way random effects)",
    False: "95 % over {m} runs, each with its own {n} tasks (Student's t of the runs' means)",
}


@dataclass(frozen=True, repr=False)
class MeasuredRuns:
    """Evaluations of one or more runs of one experiment, by name; printed as a table.

    Raises:
        ValueError: if there is no run, or learner, data set, protocol or steps differ.
    """

    evaluations: Mapping[str, FewShotEvaluation]
    same_tasks: bool = True
    """Whether all runs have the same tasks; otherwise each has its own."""

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

    def __repr__(self) -> str:
        first, protocol, count = self.first, self.protocol, len(self.runs)
        runs = f"{count} runs of {first.learner}" if count > 1 else first.learner
        title = (
            f"{runs} on {first.dataset}: {tasks_in_words(first.metric, protocol)}, "
            f"{protocol['num_tasks']} {protocol['split']} tasks"
        )
        percent = first.metric == "accuracy"
        name = "accuracy %" if percent else "mean squared error"
        rows = [
            [str(step), "diverged" if found is None else _shown(found, percent=percent)]
            for step, found in zip(first.steps, self.intervals(), strict=True)
        ]
        if first.steps[0] > 0:  # a learner without adaptation steps
            rows = [["", *row[1:]] for row in rows]
        heading = ["steps" if first.steps[0] == 0 else "", f"{name} [95 % interval]"]
        return plain_table(title, [heading, *rows])

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
        meaning = _OVER_BOTH[self.same_tasks].format(n=num_tasks, m=num_runs)
        return self.first.protocol | {"interval": meaning}

    def intervals(self) -> list[Estimate | None]:
        """Mean and 95 % interval of each row over tasks and, if there are several, runs.

        None if a score is not finite.
        """
        metric, same_tasks = self.first.metric, self.same_tasks
        return [_estimate(row, metric, same_tasks=same_tasks) for row in self.scores]

    def to_json(self) -> dict[str, Any]:
        """The evaluations as JSON values; the scores of several runs are objects by run."""
        content = {**self.first.to_json(), "runs": list(self.runs), "protocol": self.protocol}
        rounded = {
            name: replace(one, scores=one.scores.round(_DECIMALS))
            for name, one in self.evaluations.items()
        }
        intervals = replace(self, evaluations=rounded).intervals()
        rows = zip(content["steps"], intervals, self.scores, strict=True)
        for row, interval, scores in rows:
            row[self.first.metric] = _stored_interval(interval)
            if len(self.runs) > 1:
                row["scores"] = dict(zip(self.runs, map(_stored_scores, scores), strict=True))
        content["same_tasks"] = self.same_tasks
        return {key: content[key] for key in (*_FIELDS[:3], "same_tasks", *_FIELDS[3:])}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], *, source: str = "evaluation") -> MeasuredRuns:
        """The evaluations from the result of `to_json`; intervals are computed from the scores.

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
    protocol["interval"] = OVER_TASKS  # the file describes the interval over all runs
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
    return MeasuredRuns(evaluations, bool(content.get("same_tasks", True)))


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
    def intervals(self) -> tuple[Estimate | None, ...]:
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


def _shown(estimate: Estimate, *, percent: bool) -> str:
    scale, digits = (100, 2) if percent else (1, 3)
    value, low, high = (fixed_text(scale * number, digits) for number in estimate[:3])
    return f"{value} [{low}, {high}]" if estimate.has_interval else value


def _identity(evaluation: FewShotEvaluation) -> dict[str, Any]:
    """The facts that all runs must share."""
    return {
        "learner": evaluation.learner,
        "dataset": evaluation.dataset,
        **evaluation.protocol,
        "steps": evaluation.steps,
    }
