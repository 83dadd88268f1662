"""Several runs measured together: their interval, their file, what must agree."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from metarl.fewshot import FewShotEvaluation, MeasuredRuns
from metarl.statistics.intervals import mean_interval

FIRST = FewShotEvaluation(
    "maml",
    "glyphs",
    "accuracy",
    (0, 1),
    np.array([[0.2, 0.4, 0.3], [0.66666, 0.9, 0.8]]),
    {"num_tasks": 3, "seed": 5, "interval": "95 % over tasks (Student's t)", "transductive": False},
)
SECOND = dataclasses.replace(FIRST, scores=np.array([[0.1, 0.1, 0.1], [0.5, 0.7, 0.3]]))


def test_a_single_run_is_unchanged_except_for_its_name():
    measured = MeasuredRuns({"run": FIRST})
    assert measured.to_json() == {**FIRST.to_json(), "runs": ["run"], "same_tasks": True}
    fields = ["learner", "dataset", "runs", "same_tasks", "protocol", "steps"]
    assert list(measured.to_json()) == fields
    for found, row in zip(measured.intervals(), FIRST.scores, strict=True):
        assert found == mean_interval([row], same_tasks=True, bounds=(0, 1))


@pytest.mark.parametrize("same_tasks", [True, False])
def test_several_runs_keep_every_score_and_the_meaning_of_the_interval(same_tasks):
    measured = MeasuredRuns({"seed_0": FIRST, "seed_1": SECOND}, same_tasks)
    assert measured.scores.shape == (2, 2, 3)
    content = json.loads(json.dumps(measured.to_json()))
    assert content["runs"] == ["seed_0", "seed_1"]
    before, after = content["steps"]
    assert (before["step"], after["step"]) == (0, 1)
    assert after["scores"] == {"seed_0": [0.6667, 0.9, 0.8], "seed_1": [0.5, 0.7, 0.3]}
    scores = np.round([FIRST.scores[1], SECOND.scores[1]], 4)
    expected = mean_interval(scores, same_tasks=same_tasks, bounds=(0, 1))
    assert list(after["accuracy"].values()) == pytest.approx(expected[:3])
    assert before["accuracy"]["mean"] == pytest.approx(0.2)
    assert (
        content["protocol"]["interval"]
        == {
            True: "95 % over 2 runs and 3 tasks, the same for all runs (two-way random effects)",
            False: "95 % over 2 runs, each with its own 3 tasks (Student's t of the runs' means)",
        }[same_tasks]
    )
    assert content["protocol"]["seed"] == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learner": "anil"}, "learner is 'maml' in a and 'anil' in b"),
        ({"dataset": "omniglot"}, "dataset is 'glyphs' in a and 'omniglot' in b"),
        ({"protocol": {**FIRST.protocol, "seed": 6}}, "seed is 5 in a and 6 in b"),
        ({"protocol": {**FIRST.protocol, "new": 1}}, "new is None in a and 1 in b"),
        ({"steps": (0, 2)}, r"steps is \(0, 1\) in a and \(0, 2\) in b"),
    ],
)
def test_runs_of_different_protocols_are_rejected(change, message):
    with pytest.raises(ValueError, match=f"one experiment and one protocol, {message}"):
        MeasuredRuns({"a": FIRST, "b": dataclasses.replace(SECOND, **change)})


def test_no_run_is_rejected():
    with pytest.raises(ValueError, match="evaluations must hold at least one run, got none"):
        MeasuredRuns({})
