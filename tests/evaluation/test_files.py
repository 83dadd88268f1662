"""The evaluation file: one writer and one reader for agents and few-shot learners."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metarl.evaluation.fewshot_results import FewShotEvaluation, MeasuredRuns
from metarl.evaluation.files import read_evaluations, write_evaluations
from metarl.evaluation.results import Evaluation, OutdatedEvaluationError

RESULTS = Path(__file__).parents[2] / "results"
FACTS = {
    "num_tasks": 3, "split": "test", "ways": 5, "shots": 1, "query": "15 per class", "seed": 0,
    "iterations": 10, "interval": "95 % over tasks (Student's t)", "batch_norm": "none",
    "transductive": False,
}  # fmt: skip


def learner(*, runs: int = 1) -> MeasuredRuns:
    rng = np.random.default_rng(0)
    return MeasuredRuns(
        {
            f"seed_{k}": FewShotEvaluation(
                "maml", "glyphs", "accuracy", (0, 1), rng.uniform(size=(2, 3)), dict(FACTS)
            )
            for k in range(runs)
        }
    )


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("same_tasks", [True, False])
def test_few_shot_runs_are_read_as_they_were_written(tmp_path, runs, same_tasks):
    written, file = replace(learner(runs=runs), same_tasks=same_tasks), tmp_path / "a.json"
    write_evaluations(file, [written])
    (read,) = read_evaluations(file, MeasuredRuns)
    assert (read.runs, read.first.steps, read.first.metric) == (written.runs, (0, 1), "accuracy")
    np.testing.assert_allclose(read.scores, written.scores, rtol=0, atol=5.1e-5)
    for found, exact in zip(read.intervals(), written.intervals(), strict=True):
        assert found[:3] == pytest.approx(exact[:3], abs=5e-4)  # from rounded scores
    assert read.protocol == written.protocol
    assert read.same_tasks is same_tasks
    again = tmp_path / "b.json"
    write_evaluations(again, [read])
    assert again.read_bytes() == file.read_bytes()


def test_every_published_evaluation_is_read_and_few_shot_ones_are_written_to_the_same_bytes(
    tmp_path,
):
    files = sorted(RESULTS.rglob("evaluation*.json"))
    kinds = []
    for file in files:
        found = read_evaluations(file)
        kinds.append(type(found[0]))
        if kinds[-1] is MeasuredRuns:
            write_evaluations(tmp_path / "a.json", found)
            assert (tmp_path / "a.json").read_bytes() == file.read_bytes()
    assert {*kinds} == {Evaluation, MeasuredRuns}
    assert len(files) > 50


def test_a_diverged_row_has_no_interval_after_reading(tmp_path):
    scores = np.array([[0.1, np.nan, 0.3], [0.1, 0.2, 0.3]])
    lost = FewShotEvaluation("maml", "glyphs", "accuracy", (0, 1), scores, dict(FACTS))
    write_evaluations(tmp_path / "a.json", [MeasuredRuns({"a": lost})])
    (read,) = read_evaluations(tmp_path / "a.json", MeasuredRuns)
    assert read.intervals()[0] is None
    assert read.intervals()[1] is not None
    assert np.isnan(read.scores[0, 0, 1])


def test_an_evaluation_of_the_other_kind_is_rejected(tmp_path):
    agents, learners = RESULTS / "Bandit-n10-k5" / "rl2" / "evaluation.json", tmp_path / "a.json"
    write_evaluations(learners, [learner()])
    with pytest.raises(ValueError, match=r"a\.json must hold an evaluation of agents, it holds"):
        read_evaluations(learners, Evaluation)
    with pytest.raises(ValueError, match="must hold an evaluation of few-shot runs, it holds"):
        read_evaluations(agents, MeasuredRuns)


def test_evaluations_that_do_not_belong_in_one_file_are_rejected(tmp_path):
    (agent,) = read_evaluations(RESULTS / "Bandit-n10-k5" / "rl2" / "evaluation.json")
    for evaluations in ([], [learner(), learner()], [agent, learner()]):
        with pytest.raises(ValueError, match="one or more of agents, or a single one of few"):
            write_evaluations(tmp_path / "a.json", evaluations)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change", [{"protocol": {}}, {"protocol": {"seed": 0}}, {"runs": None, "protocol": {}}]
)
def test_a_few_shot_file_of_an_earlier_version_is_outdated(tmp_path, change):
    content = {**learner().to_json(), **change}
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(OutdatedEvaluationError, match=r"a\.json was written by an earlier version"):
        read_evaluations(tmp_path / "a.json")


@pytest.mark.parametrize(
    "change",
    [
        {"steps": []}, {"protocol": 3}, {"protocol": []}, {"steps": [{"step": 0}]}, {"runs": 3},
        {"steps": [{"step": 0, "mse": None}]},
    ],
)  # fmt: skip
def test_a_damaged_few_shot_file_is_named(tmp_path, change):
    content = {**learner().to_json(), **change}
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.json must hold an evaluation of few-shot"):
        read_evaluations(tmp_path / "a.json")
