"""Evaluations that are printed are short tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from metarl.evaluation.fewshot_results import FewShotEvaluation, MeasuredRuns
from metarl.evaluation.files import read_evaluations
from metarl.evaluation.results import Evaluation
from metarl.statistics.estimate import Estimate

RESULTS = Path(__file__).parents[2] / "results"


def test_an_evaluation_of_agents_is_a_table_of_stages_and_references():
    file = RESULTS / "Navigation2D-maml17" / "maml-trpo" / "evaluation.json"
    evaluation, *_ = read_evaluations(file, Evaluation)
    title, heading, *rows = str(evaluation).splitlines()
    assert title == (
        f"3 runs of maml-trpo on Navigation2D:maml17: {evaluation.protocol.describe()}"
    )
    assert heading.split() == ["return", "[95", "%", "interval]"]
    labels = ["random", "before", "after 1 step", "after 2 steps", "after 3 steps", "oracle"]
    assert [row.split("  ")[0] for row in rows] == labels
    assert rows[2].endswith(str(evaluation.estimate(evaluation.scores(1))))
    assert str([evaluation]) == f"[{evaluation}]"


def fewshot(scores: list[list[float]], metric: str = "accuracy") -> FewShotEvaluation:
    protocol = {"num_tasks": 2, "split": "test", "ways": 5, "shots": 1}
    steps = tuple(range(len(scores))) if len(scores) > 1 else (1,)
    return FewShotEvaluation("maml", "glyphs", metric, steps, np.array(scores), protocol)  # type: ignore[arg-type]


def test_an_evaluation_of_a_learner_is_a_table_of_steps():
    one = fewshot([[0.2, 0.3], [np.inf, 0.5]])
    assert str(one).splitlines() == [
        "maml on glyphs: 5-way 1-shot, 2 test tasks",
        "steps  accuracy % [95 % interval]",
        "0             25.00 [0.00, 88.53]",
        "1                        diverged",
    ]
    two = MeasuredRuns({"a": one, "b": one})
    assert str(two).splitlines()[0] == "2 runs of maml on glyphs: 5-way 1-shot, 2 test tasks"


def test_a_learner_without_steps_has_one_row_without_a_number():
    lines = str(fewshot([[1.0, 1.5]], "mse")).splitlines()
    assert lines[1:] == [
        "  mean squared error [95 % interval]",
        "               1.250 [−1.927, 4.427]",
    ]


def test_estimates_are_printed_with_their_interval():
    assert str(Estimate(-7.25, -7.88, -6.6, "tasks")) == "−7.25 [−7.88, −6.60]"
    assert f"{Estimate(3.0, -np.inf, np.inf, 'runs')}" == "3.00"
