"""Experiment trackers: each behind one protocol, imported only when chosen."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metarl.runs.tracking import open_tracker, require_tracker

CONFIG = {"agent": "maml-trpo", "seed": 3}


class FakeRun:
    """Records the calls of a tracker's run."""

    def __init__(self, **settings: Any) -> None:
        self.settings, self.logged, self.finished = settings, [], False

    def log(self, metrics: dict[str, float], step: int) -> None:
        assert not self.finished
        self.logged.append((step, metrics))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """The runs that fakes of both packages start."""
    begun: list[FakeRun] = []

    def init(**settings: Any) -> FakeRun:
        begun.append(FakeRun(**settings))
        return begun[-1]

    for name in ("wandb", "trackio"):
        module = ModuleType(name)
        module.init = init
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.delenv("TRACKIO_PROJECT", raising=False)
    return begun


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_gets_every_number_at_its_step_and_is_finished(runs, tmp_path, name):
    tracker = open_tracker(name, tmp_path / "cheetah", config=CONFIG, first_step=5)
    tracker.log({"meta/kl_nats": 0.5}, 100)
    tracker.log({"meta/kl_nats": 0.25}, 200)
    tracker.close()
    assert runs[0].logged == [(100, {"meta/kl_nats": 0.5}), (200, {"meta/kl_nats": 0.25})]
    assert runs[0].finished
    settings = runs[0].settings
    assert (settings["project"], settings["name"], settings["config"]) == (
        "metarl",
        "cheetah",
        CONFIG,
    )
    assert settings["resume"] == "allow"


def test_the_same_directory_is_the_same_run_of_weights_and_biases(runs, tmp_path):
    for folder in ("a", "a", "b"):
        open_tracker("wandb", tmp_path / folder, config=CONFIG)
    first, again, other = (run.settings["id"] for run in runs)
    assert first == again != other
    assert runs[0].settings["dir"] == str(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "variable"), [("wandb", "WANDB_PROJECT"), ("trackio", "TRACKIO_PROJECT")]
)
def test_the_project_can_be_named_in_the_environment(runs, tmp_path, monkeypatch, name, variable):
    monkeypatch.setenv(variable, "mine")
    open_tracker(name, tmp_path, config=CONFIG)
    assert runs[0].settings["project"] == "mine"


def test_tensorboard_shows_numbers_and_omits_deleted_rows(tmp_path):
    tracker = open_tracker("tensorboard", tmp_path, config=CONFIG)
    for step in (100, 200, 300):
        tracker.log({"meta/kl_nats": 1.0}, step)
    tracker.close()
    (first,) = tmp_path.glob("events*")
    first.rename(tmp_path / "events.out.tfevents.0000000001.earlier")  # TensorBoard reads by name
    tracker = open_tracker("tensorboard", tmp_path, config=CONFIG, first_step=101)
    tracker.log({"meta/kl_nats": 2.0}, 200)
    tracker.close()
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    sampled = [(event.step, event.value) for event in board.Scalars("meta/kl_nats")]
    assert sampled == [(100, 1.0), (200, 2.0)]


def test_no_tracker_writes_nothing(tmp_path):
    tracker = open_tracker("none", tmp_path, config=CONFIG)
    tracker.log({"meta/kl_nats": 1.0}, 1)
    tracker.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_missing_package_is_named_with_the_remedy(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    message = f"tracker {name} needs the package {name}, .*; install it with pip install {name}, or"
    with pytest.raises(ImportError, match=message):
        open_tracker(name, tmp_path, config=CONFIG)
    with pytest.raises(ImportError, match=message):
        require_tracker(name)


def test_trackers_without_a_separate_package_need_none():
    require_tracker("tensorboard")
    require_tracker("none")


def test_an_unknown_tracker_is_rejected(tmp_path):
    with pytest.raises(ValueError, match=r"tracker must be tensorboard, wandb, .* got 'csv'"):
        open_tracker("csv", tmp_path, config=CONFIG)  # type: ignore[arg-type] # the mistake itself


def test_no_tracker_is_imported_before_it_is_chosen():
    code = "import json, sys, metarl.runs.directory; print(json.dumps(list(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(importlib.import_module("metarl").__file__ or "").parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"wandb", "trackio", "tensorboard"}.isdisjoint(json.loads(ended.stdout))
