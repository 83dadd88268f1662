"""The command `metarl train`: killed and resumed, its settings, several seeds."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from short_runs import ROBOT, SINUSOID, metarl

from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import read_metrics
from metarl.scripts.command_line import given_options
from metarl.scripts.faults.kills import fingerprint
from metarl.storage.checkpoints import load_checkpoint, read_header, save_checkpoint

RESUME = {"train": "train maml-trpo --resume", "fewshot": "fewshot maml --resume"}


# Kills.


def killed(line: str, out: Path, *, rows: int) -> None:
    """Run the command in a process of its own and SIGKILL it after so many lines of metrics."""
    words = [sys.executable, "-m", "metarl.scripts.cli", *line.split(), "--out", str(out)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    metrics, until = out / "metrics.jsonl", time.monotonic() + 60
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < rows:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("start", "every", "rows", "more"),
    [(ROBOT, 2, 3, 3), (SINUSOID, 50, 1, 100)],
    ids=["maml-trpo", "fewshot"],
)
def test_a_killed_run_resumes_bitwise_identically(tmp_path, start, every, rows, more):
    killed(f"{start} --iterations 1000000 --checkpoint-every {every}", tmp_path / "k", rows=rows)
    run = RunDirectory.open(tmp_path / "k")
    done = int(read_metrics(run)[-1]["iteration"])
    kept = read_header(run.newest_checkpoint())["counters"]["num_iterations"]
    assert done - every <= kept <= done + 100
    total = max(done, kept) + more
    metarl(f"{RESUME[start.split()[0]]} --iterations {total}", run.path)
    straight = tmp_path / "straight"
    metarl(f"{start} --iterations {total} --checkpoint-every {every}", straight)
    assert fingerprint(run.path) == fingerprint(straight)


# Settings of a resumed run.


def test_a_run_is_resumed_with_its_own_settings(half, robot):
    assert RunDirectory.open(half).config()["iterations"] == 6
    metarl("train maml-trpo --resume", half)
    assert fingerprint(half)["last"] == fingerprint(robot)["last"]
    assert fingerprint(half)["metrics"] == fingerprint(robot)["metrics"]
    config = RunDirectory.open(half).config()
    assert (config["checkpoint_every"], config["tracker"], config["threads"]) == (2, "none", 1)
    assert [entry["iteration"] for entry in config["resumed"]] == [4]


def test_options_of_a_resume_apply_and_are_stored(half):
    metarl("train maml-trpo --resume --iterations 7 --checkpoint-every 3", half)
    run = RunDirectory.open(half)
    assert run.newest_checkpoint() == run.checkpoint_path(7)
    assert (run.config()["iterations"], run.config()["checkpoint_every"]) == (7, 3)


def test_a_default_that_is_given_counts_as_given(half):
    for name, value in (("gamma", 0.5), ("cg_iterations", 3)):
        config = RunDirectory.open(half).config()
        config["agent_config"][name] = value
        RunDirectory.open(half).write_config(config)
    with pytest.raises(ValueError, match=r"gamma of the run to resume is 0\.5, got 0\.99"):
        metarl("train maml-trpo --resume --gamma 0.99", half)
    with pytest.raises(ValueError, match="is of another run: its config differs"):
        metarl("train maml-trpo --resume", half)


def test_a_setting_that_the_variant_resolves_may_be_repeated(half):
    metarl("train maml-trpo --resume --action-divisor None", half)
    assert RunDirectory.open(half).newest_checkpoint().name == "iteration_000006.safetensors"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": "ten"}, "iterations must be a whole number, 1 or more, got 'ten'"),
        ({"iterations": 0}, "iterations must be 1 or more, got 0"),
        ({"threads": 1.5}, "threads must be a whole number, 0 or more, got 1.5"),
        ({"tracker": "csv"}, "tracker must be one of tensorboard, .*, got 'csv'"),
        ({"agent_config": {"gama": 1}}, "has a setting 'gama', which this version does not know"),
        ({"agent_config": {"gamma": 2}}, r"gamma must lie in \[0, 1\], got 2"),
        ({"agent_config": {"hidden_sizes": "8"}}, "hidden_sizes must be a list, got '8'"),
        ({"agent": None}, "agent must be text, got None"),
    ],
)
def test_an_invalid_config_is_rejected_with_one_sentence(half, change, message):
    run = RunDirectory.open(half)
    run.write_config({**run.config(), **change})
    with pytest.raises(ValueError, match=message) as caught:
        metarl("train maml-trpo --resume", half)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["agent", "environment", "seed", "agent_config"])
def test_a_config_without_required_entries_is_rejected(half, name):
    file = half / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    del config[name]
    file.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"config\.json lacks '{name}'"):
        metarl("train maml-trpo --resume", half)


def test_a_config_of_an_earlier_version_is_completed_by_defaults(half):
    run = RunDirectory.open(half)
    config = run.config()
    for name in ("iterations", "checkpoint_every", "threads", "tracker"):
        del config[name]
    run.write_config(config)
    metarl("train maml-trpo --resume --iterations 5", half)
    assert run.newest_checkpoint() == run.checkpoint_path(5)


def test_a_run_of_a_version_with_fewer_settings_resumes(half):
    run = RunDirectory.open(half)
    config, path = run.config(), run.newest_checkpoint()
    tensors, header = load_checkpoint(path, agent="maml-trpo", environment=config["environment"])
    for settings in (config["agent_config"], header["config"]):
        del settings["cg_iterations"]
    run.write_config(config)
    save_checkpoint(path, tensors, header)
    metarl("train maml-trpo --resume --iterations 5", half)
    assert run.newest_checkpoint() == run.checkpoint_path(5)
    run.write_config({**config, "agent_config": {**config["agent_config"], "gamma": 0.5}})
    with pytest.raises(ValueError, match="is of another run: its config differs"):
        run.newest_checkpoint()


def test_a_run_of_a_version_with_other_names_of_settings_resumes(tmp_path):
    start = (
        "train rl2 --env GridNavigation:varibad --meta-batch-size 2 --num-episodes 2 --hidden-sizes"
        " 4 --memory-size 4 --num-minibatches 2 --device cpu --threads 1 --tracker none"
    )
    metarl(f"{start} --iterations 2", tmp_path / "run")
    run = RunDirectory.open(tmp_path / "run")
    config, path = run.config(), run.newest_checkpoint()
    tensors, header = load_checkpoint(path, agent="rl2", environment=config["environment"])
    for settings in (config["agent_config"], header["config"]):
        settings["value_sees_task"] = settings.pop("privileged_critic")
    run.write_config(config)
    save_checkpoint(path, tensors, header)
    for iterations in (3, 4):
        metarl(f"train rl2 --resume --iterations {iterations}", run.path)
    metarl(f"{start} --iterations 4", tmp_path / "straight")
    assert fingerprint(run.path)["metrics"] == fingerprint(tmp_path / "straight")["metrics"]
    with pytest.raises(ValueError, match="privileged_critic of the run to resume is False, got"):
        metarl("train rl2 --resume --privileged-critic --iterations 5", run.path)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("--gamma .5 --seed=3 --no-resume", {"gamma", "seed", "resume"}),
        ("--hidden_sizes 4 5 --out -1", {"hidden_sizes", "out"}),
        ("", set()),
    ],
)
def test_the_options_of_a_line_are_known_by_name(line, names):
    assert given_options(line.split()) == names


# A complete run.


def test_the_best_checkpoint_of_a_complete_run_is_marked_with_a_message(robot, tmp_path):
    shutil.copytree(robot, tmp_path / "run")
    run = RunDirectory.open(tmp_path / "run")
    run.best_checkpoint.unlink()  # as if killed before
    with pytest.raises(
        ValueError, match=r"iterations must be more than 6, the number in .*, got 6"
    ):
        metarl("train maml-trpo --resume", run.path)
    assert run.best_checkpoint.exists()


# Several seeds.


def test_several_seeds_are_trained_one_after_another(tmp_path, capsys):
    metarl(f"{ROBOT} --seeds 2 --iterations 2", tmp_path / "runs")
    shown = capsys.readouterr()
    hints = [line for line in (shown.out + shown.err).splitlines() if "next: " in line]
    assert len(hints) == 2
    assert all(line.endswith(f"next: metarl evaluate {tmp_path / 'runs'}") for line in hints)
    names = {path.name for path in (tmp_path / "runs").iterdir()}
    assert names == {".lock", "seeds.json", "seed_3", "seed_4"}
    metarl(f"{ROBOT} --seed 4 --iterations 2", tmp_path / "alone")
    assert fingerprint(tmp_path / "runs" / "seed_4") == fingerprint(tmp_path / "alone")


def test_several_seeds_are_resumed_as_a_whole(tmp_path):
    out = tmp_path / "runs"
    metarl(f"{ROBOT} --seeds 3 --iterations 2", out)
    straight = {seed: fingerprint(out / f"seed_{seed}") for seed in (3, 4, 5)}
    shutil.rmtree(out / "seed_5")  # not started
    RunDirectory(out / "seed_4").checkpoint_path(2).unlink()  # not finished
    metarl("train maml-trpo --resume", out)
    for seed, wanted in straight.items():
        found = fingerprint(out / f"seed_{seed}")
        assert (found["last"], found["metrics"]) == (wanted["last"], wanted["metrics"])
    metarl("train maml-trpo --resume --iterations 3", out)
    assert [len(read_metrics(RunDirectory(out / f"seed_{s}"))) for s in (3, 4, 5)] == [3, 3, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--seeds 4", "seeds of the run to resume is 2, got 4"),
        ("--seed 4", "seed of the run to resume is 3, got 4"),
        ("--gamma .5", r"gamma of the run to resume is 0\.99, got 0\.5"),
        ("--iterations 1", r"iterations must be at least 2, as planned for .*, got 1"),
    ],
)
def test_several_seeds_keep_their_settings(tmp_path, options, message):
    metarl(f"{ROBOT} --seeds 2 --iterations 2", tmp_path / "runs")
    with pytest.raises(ValueError, match=message):
        metarl(f"train maml-trpo --resume {options}", tmp_path / "runs")


def test_several_seeds_in_a_run_of_one_are_rejected(half):
    with pytest.raises(ValueError, match=r"must have several seeds, but there is no .*seeds\.json"):
        metarl("train maml-trpo --resume --seeds 2", half)


# Trackers.


def test_a_tracker_that_is_missing_is_named_and_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match="tracker wandb needs the package wandb"):
        metarl(f"{ROBOT.replace('none', 'wandb')} --iterations 1", tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


# Damaged metrics.


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('{"iteration": 1, "time/env_steps": 8}\n', "in line 1: it must hold 'rollout/query_ret"),
        ("half\n", "is damaged in line 1"),
        ('{"iteration": 1, "rollout/query_return": null}\n', "is damaged in line 1"),
    ],
)
def test_damaged_metrics_are_named_and_the_run_stays_as_it_is(half, rows, message):
    (half / "metrics.jsonl").write_text(rows, encoding="utf-8")
    before = {path: path.read_bytes() for path in half.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=message) as caught:
        metarl("train maml-trpo --resume", half)
    assert str(half / "metrics.jsonl") in str(caught.value)
    assert {path: path.read_bytes() for path in half.rglob("*") if path.is_file()} == before


def test_rows_of_metrics_can_be_far_apart(half):
    metarl("train maml-trpo --resume --iterations 12 --log-every 4", half)
    run = RunDirectory.open(half)
    assert [row["iteration"] for row in read_metrics(run)] == [1, 2, 3, 4, 8, 12]
    assert run.config()["log_every"] == 4
    metarl("train maml-trpo --resume --iterations 16", half)
    assert [row["iteration"] for row in read_metrics(run)][-2:] == [12, 16]
