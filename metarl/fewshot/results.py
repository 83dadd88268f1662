"""What was measured of few-shot learners, written and read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metarl.fewshot.data.batches import ProtocolFacts
from metarl.statistics.intervals import Interval, crossed_interval, normal_interval
from metarl.storage.files import write_output

__all__ = [
    "FewShotResult",
    "write_json",
    "FewShotEvaluation",
    "stored_interval",
    "stored_scores",
    "MeasuredRuns",
]


@dataclass(frozen=True)
class FewShotResult:
    """What was measured of one run or more, on the same tasks in one way."""

    name: str
    """Of the learner, as the page calls it."""
    measured: MeasuredRuns
    intervals: tuple[Interval | None, ...]
    """For each row of scores, of scores that are not rounded if it was measured at once; None:
    diverged."""
    usual_steps: int = 1
    """Adaptation steps in training, or those of the learner's own test."""
    usual_word: str = "as trained"
    """Which of the two."""

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


def write_json(measured: MeasuredRuns, file: Path) -> None:
    """Write everything measured in one step, a line for each number of adaptation steps."""
    content = measured.to_json()
    rows = (json.dumps(row, separators=(",", ":")) for row in content.pop("steps"))
    fields = {name: json.dumps(value, ensure_ascii=False) for name, value in content.items()}
    fields["steps"] = "[\n  " + ",\n  ".join(rows) + "\n ]"
    lines = ",\n ".join(f'"{name}": {text}' for name, text in fields.items())
    write_output(file, f"{{{lines}}}\n".encode())


_DECIMALS = 4  # of a task's score in a file
_Metric = Literal["accuracy", "mse"]


@dataclass(frozen=True)
class FewShotEvaluation:
    """Scores of all tasks, and everything that decided them."""

    learner: str
    dataset: str
    metric: _Metric
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
                {"step": step, self.metric: stored_interval(found), "scores": stored_scores(row)}
                for step, found, row in rows
            ],
        }


def stored_scores(scores: NDArray[np.float64]) -> list[float | None]:
    """The scores of tasks [tasks] as files hold them, to 4 decimals; None: not finite."""
    return [round(x, _DECIMALS) if math.isfinite(x) else None for x in scores.tolist()]


def stored_interval(interval: Interval | None) -> dict[str, float] | None:
    """An interval as files hold it."""
    return None if interval is None else interval._asdict()


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
