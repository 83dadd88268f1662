"""Commands as a user runs them: train, resume, few-shot learning."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metarl.agents import MAMLTRPOConfig
from metarl.fewshot import FewShotTraining, SinusoidTasks, adaptation_curve
from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import read_metrics
from metarl.scripts.cli import dispatch
from metarl.statistics.intervals import student_interval
from metarl.storage.checkpoints import read_header

TINY = "--meta-batch-size 2 --num-episodes 2 --hidden-sizes 4 --activation tanh --device cpu"
NAVIGATION = f"train maml-trpo --env Navigation2D:maml17 {TINY} --seed 3 --checkpoint-every 2"


def metarl(line: str, *paths: Path) -> None:
    """The command `metarl`; each path replaces one OUT in the line."""
    rest = iter(paths)
    dispatch([str(next(rest)) if word == "OUT" else word for word in line.split()])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run of seven iterations, never stopped. Tests read it only."""
    path = tmp_path_factory.mktemp("runs") / "straight"
    metarl(f"{NAVIGATION} --iterations 7 --out OUT", path)
    return RunDirectory.open(path)


@pytest.fixture
def copy(run: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy of that run as it was after a crash in its seventh iteration."""
    shutil.copytree(run.path, tmp_path / "copy")
    stopped = RunDirectory.open(tmp_path / "copy")
    stopped.checkpoint_path(7).unlink()
    return stopped


def untimed(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Metrics without times."""
    return [
        {k: v for k, v in row.items() if not k.startswith("time/") or k == "time/env_steps"}
        for row in rows
    ]


# Training.


def test_training_writes_the_resolved_configuration(run):
    config = run.config()
    named = {key: config[key] for key in ("agent", "environment", "seed", "device")}
    expected = {"agent": "maml-trpo", "environment": "Navigation2D:maml17"}
    assert named == {**expected, "seed": 3, "device": "cpu"}
    settings = config["agent_config"]
    assert settings["meta_batch_size"] == settings["num_episodes"] == 2
    assert settings["hidden_sizes"] == [4]
    assert settings["action_divisor"] == 1.0  # resolved: the variant's
    assert set(settings) == {part.name for part in fields(MAMLTRPOConfig)}


def test_training_logs_every_iteration(run):
    rows = read_metrics(run)
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    steps = [row["time/env_steps"] for row in rows]
    assert steps == sorted(set(steps))
    assert steps[-1] <= 7 * 2 * 2 * 2 * 100  # iterations, phases, tasks, episodes, horizon
    for name in ("rollout/support_return", "meta/kl_nats", "time/env_steps_per_second"):
        assert np.isfinite([row[name] for row in rows]).all()


def test_training_logs_the_same_for_tensorboard_against_environment_steps(run):
    board = EventAccumulator(str(run.path))
    board.Reload()
    sampled = [(event.step, event.value) for event in board.Scalars("rollout/query_return")]
    rows = read_metrics(run)
    assert [step for step, _ in sampled] == [row["time/env_steps"] for row in rows]
    expected = [row["rollout/query_return"] for row in rows]
    assert [value for _, value in sampled] == pytest.approx(expected, rel=1e-6)


def test_the_newest_checkpoints_are_kept_including_the_last_iteration(run):
    assert {path.name for path in run.checkpoints.iterdir()} == {
        run.checkpoint_path(iteration).name for iteration in (4, 6, 7)
    }
    header = read_header(run.newest_checkpoint())
    assert header["counters"]["num_iterations"] == 7
    assert header["counters"]["num_env_steps"] == read_metrics(run)[-1]["time/env_steps"]


def test_training_prints_its_settings_and_the_next_command(capsys, tmp_path):
    metarl(f"{NAVIGATION} --iterations 2 --out OUT", tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Navigation2D:maml17: goal U(−0.5, 0.5)²; 100 steps; ")
    assert lines[1] == f"run in {tmp_path / 'run'}, policy on cpu"
    assert [line.split(":")[0] for line in lines[2:4]] == ["iteration 1/2", "iteration 2/2"]
    assert lines[-1].endswith(f"environment steps; next: metarl evaluate {tmp_path / 'run'}")


def test_the_number_of_threads_can_be_chosen(monkeypatch, tmp_path):
    seen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    metarl(f"{NAVIGATION} --iterations 1 --threads 2 --out OUT", tmp_path / "two")
    metarl(f"{NAVIGATION} --iterations 1 --out OUT", tmp_path / "as torch likes")
    assert seen == [2]


def test_a_directory_that_exists_is_rejected(run):
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    with pytest.raises(ValueError, match=f"out must be a new directory, {run.path} exists"):
        metarl(f"{NAVIGATION} --out OUT", run.path)
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


# Resuming.


def test_a_resumed_run_ends_bitwise_identically(run, copy):
    metarl("train maml-trpo --resume --iterations 7 --device cpu --out OUT", copy.path)
    final = [one.checkpoint_path(7).read_bytes() for one in (copy, run)]
    assert final[0] == final[1]
    assert untimed(read_metrics(copy)) == untimed(read_metrics(run))


def test_a_resumed_run_may_repeat_its_settings_and_train_longer(run, copy):
    metarl(f"{NAVIGATION} --resume --iterations 8 --out OUT", copy.path)
    rows = untimed(read_metrics(copy))
    assert rows[:7] == untimed(read_metrics(run))
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert copy.newest_checkpoint() == copy.checkpoint_path(8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--seed 4", "seed of the run to resume is 3, got 4; omit it"),
        ("--env HalfCheetahVel:promp", "environment of the run to resume is 'Navigation2D:maml17'"),
        ("--gamma .5", "gamma of the run to resume is 0.99, got 0.5"),
        ("--hidden-sizes 5", r"hidden_sizes of the run to resume is \(4,\), got \(5,\)"),
        ("--estimator lvc", "estimator of the run to resume is 'log_prob', got 'lvc'"),
        ("--iterations 6", "iterations must be more than 6, the number in .*, got 6"),
    ],
)
def test_resuming_with_other_settings_is_rejected_and_changes_nothing(copy, options, message):
    before = {path: path.read_bytes() for path in copy.path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=message):
        metarl(f"train maml-trpo --resume --device cpu --out OUT {options}", copy.path)
    after = {path: path.read_bytes() for path in copy.path.rglob("*") if path.is_file()}
    assert after == before


def test_resuming_other_directories_than_runs_is_rejected(tmp_path):
    with pytest.raises(ValueError, match=r"run must be a directory with a config\.json"):
        metarl("train maml-trpo --resume --out OUT", tmp_path / "nowhere")


def test_resuming_a_run_without_checkpoints_is_rejected(copy):
    shutil.rmtree(copy.checkpoints)
    with pytest.raises(ValueError, match=f"run {copy.path} has no checkpoint yet"):
        metarl("train maml-trpo --resume --out OUT", copy.path)


# Few-shot learning.


@pytest.fixture(scope="module")
def fewshot(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    path = tmp_path_factory.mktemp("fewshot") / "run"
    options = "--dataset sinusoid --hidden-sizes 8 --meta-batch-size 2 --iterations 200"
    metarl(f"fewshot maml {options} --test-steps 2 --seed 1 --device cpu --out OUT", path)
    return RunDirectory.open(path)


def test_few_shot_training_writes_settings_metrics_and_a_checkpoint(fewshot):
    config = fewshot.config()
    assert (config["agent"], config["environment"], config["seed"]) == (
        "fewshot-maml", "sinusoid", 1,
    )  # fmt: skip
    assert config["agent_config"]["hidden_sizes"] == [8]
    assert [row["iteration"] for row in read_metrics(fewshot)] == [100, 200]
    learner = FewShotTraining.load(fewshot.newest_checkpoint(), "maml", SinusoidTasks())
    assert learner.num_iterations == 200


def test_few_shot_testing_writes_the_error_after_each_step(fewshot):
    written = json.loads((fewshot.path / "evaluation.json").read_text(encoding="utf-8"))
    assert [step["step"] for step in written["steps"]] == [0, 1, 2]
    assert written["protocol"]["num_tasks"] == 600
    learner = FewShotTraining.load(fewshot.newest_checkpoint(), "maml", SinusoidTasks())
    batch = SinusoidTasks().sample_for_test(600, 10, torch.Generator().manual_seed(0))
    for step, errors in zip(written["steps"], adaptation_curve(learner, batch, 2), strict=True):
        other = student_interval(errors, "tasks")  # of other tasks: the intervals must nearly meet
        assert abs(step["mse"]["mean"] - other.value) < 2 * (other.high - other.low)


def test_few_shot_learning_prints_its_table(capsys, tmp_path):
    options = "--hidden-sizes 4 --iterations 1 --test-steps 1 --device cpu"
    metarl(f"fewshot maml {options} --out OUT", tmp_path / "run")
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    written = json.loads((tmp_path / "run" / "evaluation.json").read_text(encoding="utf-8"))
    for k, words in enumerate(lines[-2:]):
        assert words[0] == str(k)
        assert float(words[1]) == pytest.approx(written["steps"][k]["mse"]["mean"], abs=6e-4)
