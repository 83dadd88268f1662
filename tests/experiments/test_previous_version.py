"""Runs that version 0.1.0 wrote are evaluated, reported and resumed to the same numbers."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import metarl
from metarl.evaluation.files import read_evaluations
from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import read_metrics
from metarl.scripts.cli import dispatch

STORED = Path(__file__).parents[1] / "data" / "version_0_1"
"""Four iterations each of commands that are in their config.json."""
RUNS = ("maml-trpo", "rl2", "meta-sgd", "protonet")
CLOSE = {"rtol": 1e-3, "atol": 1e-4}
"""The last bits depend on the processor."""
OTHER_NOW = {"protonet": ("validation/accuracy",)}
"""Metrics that later iterations compute in another way: by estimated running statistics."""


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STORED, tmp_path / "stored"))


@pytest.mark.parametrize("name", RUNS)
def test_a_run_continues_to_the_same_metrics(stored, name):
    expected = read_metrics(RunDirectory.open(stored / name))
    (stored / name / "checkpoints" / "iteration_000004.safetensors").unlink()
    metarl.train(name, out=stored / name, resume=True, progress=False)
    found = metarl.Run(stored / name).metrics()
    assert [row["iteration"] for row in found] == [row["iteration"] for row in expected]
    for row, before in zip(found, expected, strict=True):
        keys = [key for key in before if not key.startswith("time/")]
        keys = [key for key in keys if key not in OTHER_NOW.get(name, ())]
        np.testing.assert_allclose([row[k] for k in keys], [before[k] for k in keys], **CLOSE)


@pytest.mark.parametrize("name", ["maml-trpo", "rl2"])
def test_an_agent_gives_the_same_returns(stored, name):
    (before,) = read_evaluations(stored / name / "evaluation.json")
    (found,) = metarl.evaluate(stored / name, json=stored / "new.json", **asdict(before.protocol))
    np.testing.assert_allclose(found.measured.returns, before.measured.returns, **CLOSE)
    assert found.protocol == before.protocol


@pytest.mark.parametrize("name", ["meta-sgd", "protonet"])
def test_a_learner_gives_the_same_scores(stored, name):
    (before,) = read_evaluations(stored / name / "evaluation.json")
    measured = {"seed": before.first.protocol["seed"]}
    if name == "meta-sgd":
        measured["steps"] = before.first.steps[-1]
    (found,) = metarl.evaluate(stored / name, json=stored / "new.json", **measured)
    np.testing.assert_allclose(found.scores, before.scores, **CLOSE)


def test_a_report_shows_all_runs(stored, tmp_path):
    page = metarl.report(
        [stored / name for name in RUNS], out=tmp_path / "report.html", behavior=False
    )
    text = page.read_text(encoding="utf-8")
    assert "Measured for this report" not in text
    assert all(str(stored / name) in text for name in RUNS)


def test_several_seeds_are_continued(stored):
    dispatch(
        ["train", "maml-trpo", "--out", str(stored / "seeds"), "--iterations", "3", "--resume"]
    )
    for seed in (3, 4):
        rows = metarl.Run(stored / "seeds" / f"seed_{seed}").metrics()
        assert [row["iteration"] for row in rows] == [1, 2, 3]
    assert json.loads((stored / "seeds" / "seeds.json").read_text())["iterations"] == 3
