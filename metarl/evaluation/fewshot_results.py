"""Scores of few-shot learners: every run, number of adaptation steps and task, and their intervals.

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

__all__ = ["OVER_TASKS", "FewShotEvaluation", "FewShotResult", "MeasuredRuns", "Metric"]


_FIELDS = ("learner", "dataset", "runs", "protocol", "steps")
_NEEDED_FACTS = {
    "num_tasks", "split", "ways", "shots", "query", "seed", "iterations", "interval", "batch_norm",
    "transductive",
}  # fmt: skip
_REMEDY = "measure again with metarl evaluate RUN --json FILE"
_DECIMALS = 4  # of a task's score in a file
Metric = Literal["accuracy", "mse"]


@dataclass(frozen=True)
class FewShotEvaluation:
    """Scores of all tasks, and everything that decided them."""

    learner: str
    dataset: str
    metric: Metric
    steps: tuple[int, ...]
    """Adaptation steps before each row of scores; one row, called 1, without inner steps."""
    scores: NDArray[np.float64]
    """[rows, tasks]; an error may be infinite or NaN, where steps beyond those trained diverge."""
    protocol: ProtocolFacts

    def intervals(self) -> list[Interval | None]:
        """Mean ± 1.96 s/√n over the tasks, of each row; None where a score is not finite."""
        return [normal_interval(row) if np.isfinite(row).all() else None for row in self.scores]

    def to_json(self) -> dict[str, Any]:
        """Means, intervals and the score of every task to 4 decimals, the protocol in full.

        None stands for scores that are not finite, and for their mean.
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
    """The scores of tasks [tasks] as files hold them, to 4 decimals; None: not finite."""
    return [round(x, _DECIMALS) if math.isfinite(x) else None for x in scores.tolist()]


def _stored_interval(interval: Interval | None) -> dict[str, float] | None:
    """An interval as files hold it."""
    return None if interval is None else interval._asdict()


OVER_TASKS = "mean ± 1.96 s/√n over tasks"
"""What the interval of a single run means."""
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
    recorded: tuple[Interval | None, ...] = ()
    """Intervals that a file recorded of the exact scores; its scores are rounded."""

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
        if self.recorded:
            return list(self.recorded)
        return [crossed_interval(row) if np.isfinite(row).all() else None for row in self.scores]

    def to_json(self) -> dict[str, Any]:
        """As that of a single run with the runs' names; of several, their scores by name."""
        content = {**self.first.to_json(), "runs": list(self.runs), "protocol": self.protocol}
        rows = zip(content["steps"], self.intervals(), self.scores, strict=True)
        for row, interval, scores in rows:
            if self.recorded or len(self.runs) > 1:
                row[self.first.metric] = _stored_interval(interval)
            if len(self.runs) > 1:
                row["scores"] = dict(zip(self.runs, map(_stored_scores, scores), strict=True))
        return {key: content[key] for key in _FIELDS}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], *, where: str = "evaluation") -> MeasuredRuns:
        """The evaluation that `to_json` described, with its intervals as recorded.

        Args:
            content: as `to_json` returns it.
            where: how messages name it.

        Raises:
            OutdatedEvaluationError: if an earlier version wrote it.
            ValueError: if something is missing or of another shape.
        """
        facts = content.get("protocol")
        lacks_facts = isinstance(facts, dict) and not facts.keys() >= _NEEDED_FACTS
        if lacks_facts or not content.keys() >= {*_FIELDS}:
            raise OutdatedEvaluationError(f"{where} was written by an earlier version; {_REMEDY}")
        try:
            made = _from_rows(content)
            if made.scores.ndim != 3:
                raise ValueError("scores must be of all steps, runs and tasks")
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"{where} must hold an evaluation of few-shot runs, it is damaged; {_REMEDY}"
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
            np.array(scores, dtype=np.float64),  # None, not finite, becomes NaN
            protocol,
        )
    recorded = tuple(row[metric] and Interval(**row[metric]) for row in rows)
    return MeasuredRuns(evaluations, recorded)


@dataclass(frozen=True)
class FewShotResult:
    """An evaluation of few-shot runs under the name that tables and figures give it."""

    name: str
    """Name of the learner."""
    measured: MeasuredRuns
    usual_steps: int = 1
    """Adaptation steps in training, or in the learner's own test."""
    usual_word: str = "as trained"
    """Which of the two."""

    @property
    def intervals(self) -> tuple[Interval | None, ...]:
        """Mean and interval of each row of scores; None: diverged."""
        return tuple(self.measured.intervals())

    @property
    def protocol(self) -> ProtocolFacts:
        """Everything that decided the scores."""
        return self.measured.protocol

    @property
    def steps(self) -> tuple[int, ...]:
        """Adaptation steps before each row of scores."""
        return self.measured.first.steps

    @property
    def has_steps(self) -> bool:
        """Whether adaptation takes steps; without, its only row is called 1."""
        return self.steps[0] == 0

    @property
    def usual_row(self) -> int:
        """The row of `usual_steps`, or the last where it was not measured."""
        return self.steps.index(self.usual_steps) if self.usual_steps in self.steps else -1

    @property
    def is_error(self) -> bool:
        """Whether scores are mean squared errors and no accuracies."""
        return self.measured.first.metric == "mse"

    @property
    def tested_on(self) -> str:
        """Ways and shots."""
        shots = self.protocol["shots"]
        return f"{shots} points" if self.is_error else f"{self.protocol['ways']}-way {shots}-shot"


def _identity(evaluation: FewShotEvaluation) -> dict[str, Any]:
    """What must be the same in all runs."""
    return {
        "learner": evaluation.learner,
        "dataset": evaluation.dataset,
        **evaluation.protocol,
        "steps": evaluation.steps,
    }
