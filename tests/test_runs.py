"""Run directories: never overwritten, resumed without lost or doubled lines."""

import json
import platform
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metarl.runs import MetricsLog, RunDirectory, library_versions, read_metrics

CONFIG = {"agent": "maml-trpo", "seed": 3, "agent_config": {"gamma": 0.99}}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", CONFIG)


def row(iteration: int, value: float | None = None) -> dict[str, float]:
    """Metrics of an iteration that took 100 environment steps."""
    return {"meta/kl_nats": value or iteration / 8, "time/env_steps": 100 * iteration}


def write(
    run: RunDirectory, *iterations: int, resumed_at: int = 0, value: float | None = None
) -> None:
    log = MetricsLog(run, num_iterations=resumed_at)
    for iteration in iterations:
        log.write(iteration, row(iteration, value))
    log.close()


def events(run: RunDirectory, name: str) -> list[tuple[int, float]]:
    """What TensorBoard draws: (x, y)."""
    board = EventAccumulator(str(run.path))
    board.Reload()
    return [(event.step, event.value) for event in board.Scalars(name)]


def add_checkpoints(run: RunDirectory, *iterations: int) -> None:
    for iteration in iterations:
        run.checkpoint_path(iteration).touch()


def kept(run: RunDirectory) -> set[str]:
    return {path.name for path in run.checkpoints.iterdir()}


def test_a_new_run_holds_its_config_its_command_and_the_versions(run):
    stored = json.loads((run.path / "config.json").read_text(encoding="utf-8"))
    assert stored == {**CONFIG, "versions": library_versions(), "command": sys.argv}
    assert run.config() == stored
    assert run.checkpoints.is_dir()


def test_the_versions_are_those_of_what_decides_a_number():
    versions = library_versions()
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == metadata.version("torch")
    assert set(versions) == {"python", "metarl-toolkit", "torch", "numpy", "gymnasium", "mujoco"}


@pytest.mark.parametrize("kind", ["run", "empty folder", "file"])
def test_what_exists_is_never_overwritten(tmp_path, kind):
    path = tmp_path / "out"
    if kind == "run":
        RunDirectory.create(path, CONFIG)
    elif kind == "file":
        path.write_text("mine", encoding="utf-8")
    else:
        path.mkdir()
    before = sorted(tmp_path.rglob("*"))
    message = f"out must be a new directory, {path} exists; choose another, or .* with --resume"
    with pytest.raises(ValueError, match=message):
        RunDirectory.create(path, {"seed": 4})
    assert sorted(tmp_path.rglob("*")) == before
    if kind == "run":
        assert RunDirectory.open(path).config()["seed"] == 3


def test_folders_above_a_new_run_are_made(tmp_path):
    run = RunDirectory.create(tmp_path / "a" / "b", CONFIG)
    assert RunDirectory.open(tmp_path / "a" / "b").config() == run.config()


def test_only_a_directory_with_a_config_can_be_opened(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        message = f"run must be a directory with a config.json, there is none in {path}"
        with pytest.raises(ValueError, match=re.escape(message)):
            RunDirectory.open(path)


@pytest.mark.parametrize("content", [b"", b'{"agent": ', b"\xff\xfe"])
def test_a_damaged_config_is_named(run, content):
    (run.path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json is damaged: "):
        RunDirectory.open(run.path).config()


@pytest.mark.parametrize("iterations", [(8, 100, 20), (999_999, 1_000_000, 20)])
def test_the_newest_checkpoint_is_the_one_with_the_most_iterations(run, iterations):
    add_checkpoints(run, *iterations)
    assert run.newest_checkpoint() == run.checkpoint_path(max(iterations))


def test_a_run_without_a_checkpoint_says_so(run):
    (run.checkpoints / "notes.txt").touch()
    with pytest.raises(ValueError, match=f"run {run.path} has no checkpoint yet"):
        run.newest_checkpoint()


@pytest.mark.parametrize(
    ("iterations", "newest"),
    [
        ((10, 20), {10, 20}),
        ((10, 20, 30, 40, 100), {30, 40, 100}),
        ((999_990, 999_998, 999_999, 1_000_000), {999_998, 999_999, 1_000_000}),
    ],
)
def test_dropping_old_checkpoints_keeps_the_newest_three_and_other_files(run, iterations, newest):
    add_checkpoints(run, *iterations)
    (run.checkpoints / "notes.txt").touch()
    run.drop_old_checkpoints()
    assert kept(run) == {"notes.txt", *(run.checkpoint_path(k).name for k in newest)}


def test_each_iteration_is_one_json_line(run):
    write(run, 1, 2)
    lines = (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"iteration": 1, "meta/kl_nats": 0.125, "time/env_steps": 100},
        {"iteration": 2, "meta/kl_nats": 0.25, "time/env_steps": 200},
    ]
    assert read_metrics(run) == [json.loads(line) for line in lines]


def test_a_line_can_be_read_as_soon_as_it_is_written(run):
    log = MetricsLog(run)
    log.write(1, row(1))
    assert [line["iteration"] for line in read_metrics(run)] == [1]
    log.close()


def test_a_run_without_metrics_has_no_lines(run):
    assert read_metrics(run) == []


def test_resuming_drops_the_lines_after_the_iteration_that_is_kept(run):
    write(run, 1, 2, 3, 4)
    write(run, 3, resumed_at=2, value=7.0)
    lines = read_metrics(run)
    assert [line["iteration"] for line in lines] == [1, 2, 3]
    assert [line["meta/kl_nats"] for line in lines] == [0.125, 0.25, 7.0]


def test_a_half_written_last_line_is_left_out_and_overwritten(run):
    write(run, 1, 2)
    with (run.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"iteration": 3, "meta/kl')
    assert [line["iteration"] for line in read_metrics(run)] == [1, 2]
    write(run, 3, resumed_at=2)
    assert [line["iteration"] for line in read_metrics(run)] == [1, 2, 3]


def test_tensorboard_draws_every_metric_against_environment_steps(run):
    write(run, 1, 2, 4)
    assert events(run, "meta/kl_nats") == [(100, 0.125), (200, 0.25), (400, 0.5)]
    assert events(run, "time/env_steps") == [(100, 100), (200, 200), (400, 400)]


def test_tensorboard_can_draw_against_another_metric(run):
    log = MetricsLog(run, axis="time/iterations")
    log.write(5, {"meta/query_mse": 0.5, "time/iterations": 7})
    log.close()
    assert events(run, "meta/query_mse") == [(7, 0.5)]


def test_tensorboard_forgets_what_a_resumed_run_drops(run):
    write(run, 1, 2, 3, 4)
    write(run, 3, resumed_at=2, value=8.0)
    assert events(run, "meta/kl_nats") == [(100, 0.125), (200, 0.25), (300, 8.0)]
