"""Run directories: never overwritten, resumed without lost or doubled lines."""

import errno
import json
import multiprocessing
import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from short_runs import CONFIG, room_in_files, save
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import MetricsLog, read_metrics
from metarl.runs.resume import note_resume
from metarl.storage.files import create_whole, locked
from metarl.storage.provenance import library_versions, provenance


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
    """The points that TensorBoard shows: (x, y)."""
    board = EventAccumulator(str(run.path))
    board.Reload()
    return [(event.step, event.value) for event in board.Scalars(name)]


def add_checkpoints(run: RunDirectory, *iterations: int) -> None:
    for iteration in iterations:
        save(run, iteration)


def kept(run: RunDirectory) -> set[str]:
    return {path.name for path in run.checkpoints.iterdir()}


def test_a_new_run_holds_its_config_its_command_and_the_versions(run):
    stored = json.loads((run.path / "config.json").read_text(encoding="utf-8"))
    assert stored == {**CONFIG, **provenance()}
    assert run.config() == stored
    assert run.checkpoints.is_dir()


def test_a_command_is_kept_without_the_folder_of_its_program(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/opt/tools/bin/metarl", "train", "--out", "runs/a"])
    run = RunDirectory.create(tmp_path / "run", CONFIG)
    assert run.config()["command"] == ["metarl", "train", "--out", "runs/a"]
    monkeypatch.setattr(sys, "argv", ["/opt/tools/bin/metarl", "train", "--resume"])
    note_resume(run, {}, 4, agent=CONFIG["agent"], agent_config=CONFIG["agent_config"])
    assert run.config()["resumed"][0]["command"] == ["metarl", "train", "--resume"]


def test_versions_include_all_libraries_that_affect_results():
    versions = library_versions()
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == metadata.version("torch")
    assert set(versions) == {"python", "metarl-toolkit", "torch", "numpy", "gymnasium", "mujoco"}


@pytest.mark.parametrize("kind", ["run", "empty folder", "file"])
def test_existing_directories_are_never_overwritten(tmp_path, kind):
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


def test_a_new_run_can_hold_the_checkpoint_of_the_untrained_agent(tmp_path):
    run = RunDirectory.create(tmp_path / "run", CONFIG, save=lambda path: path.write_bytes(b"new"))
    assert run.checkpoint_path(0).read_bytes() == b"new"


def test_a_run_is_created_completely_or_not_at_all(tmp_path):
    def save(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        RunDirectory.create(tmp_path / "run", CONFIG, save=save)
    assert list(tmp_path.iterdir()) == []


def test_partial_runs_of_killed_processes_are_removed_and_of_live_ones_kept(
    tmp_path,
):
    for name in (".run.1.new", ".run.2.new"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
    with locked(tmp_path / ".run.2.new"):
        RunDirectory.create(tmp_path / "run", CONFIG)
    assert {path.name for path in tmp_path.iterdir()} == {"run", ".run.2.new"}


def test_a_directory_that_another_process_created_first_is_rejected(tmp_path):
    def fill(folder: Path) -> None:
        (folder / "mine").touch()
        if not (tmp_path / "run").exists():
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "theirs").touch()

    with pytest.raises(ValueError, match="out must be a new directory"):
        create_whole(tmp_path / "run", fill)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["theirs"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_parent_folders_of_a_new_run_are_created(tmp_path):
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"agent": None}, "'agent' must be a string, got None"),
        ({"environment": 5}, "'environment' must be a string, got 5"),
        ({"seed": "3"}, "'seed' must be a whole number, got '3'"),
        ({"seed": True}, "'seed' must be a whole number, got True"),
        ({"agent_config": [1]}, r"'agent_config' must be an object, got \[1\]"),
    ],
)
def test_a_config_without_the_agent_is_rejected(run, change, message):
    run.write_config({**CONFIG, **change})
    with pytest.raises(ValueError, match=rf"config\.json is damaged: {message}"):
        run.config()


def test_a_config_that_is_not_an_object_is_rejected(run):
    (run.path / "config.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.json is damaged: it must hold a JSON object"):
        run.config()


def test_the_directory_of_several_seeds_names_one_of_its_runs(tmp_path):
    (tmp_path / "seeds.json").touch()
    (tmp_path / "seed_4").mkdir()
    with pytest.raises(ValueError, match=r"run must have one seed.*use one of them.*/seed_4"):
        RunDirectory.open(tmp_path)


# One process at a time.


def hold(path: Path, held: Any, release: Any) -> None:
    with RunDirectory(path).writing():
        held.set()
        release.wait(30)


def test_a_run_is_locked_by_one_process_until_it_is_killed(run):
    context = multiprocessing.get_context("fork")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(run.path, held, release))
    process.start()
    assert held.wait(30)
    with (
        pytest.raises(ValueError, match=f"run {run.path} is being written by another process"),
        run.writing(),
    ):
        pass
    process.kill()
    process.join()
    with run.writing():
        pass


def test_partial_files_of_a_killed_process_are_removed(run):
    for path in (run.path / ".config.json.7.tmp", run.checkpoints / ".iteration_000010.7.tmp"):
        path.touch()
    (run.path / "notes.tmp").touch()
    with run.writing():
        left = {path.name for path in run.path.rglob("*tmp")}
    assert left == {"notes.tmp"}


# Checkpoints.


@pytest.mark.parametrize("iterations", [(8, 100, 20), (999_999, 1_000_000, 20)])
def test_the_newest_checkpoint_is_the_one_with_the_most_iterations(run, iterations):
    add_checkpoints(run, *iterations)
    assert run.newest_checkpoint() == run.checkpoint_path(max(iterations))


def test_a_damaged_newest_checkpoint_is_rejected_and_the_newest_intact_one_named(run):
    add_checkpoints(run, 10, 20, 30, 40)
    for iteration in (30, 40):
        path = run.checkpoint_path(iteration)
        path.write_bytes(path.read_bytes()[:-1])
    message = (
        f"{run.checkpoint_path(40)} is damaged.*; the newest intact checkpoint is "
        f"{run.checkpoint_path(20)}: to continue from it, move the damaged"
    )
    with pytest.raises(ValueError, match=message):
        run.newest_checkpoint()


def test_without_an_intact_checkpoint_none_is_named(run):
    run.checkpoint_path(10).touch()
    with pytest.raises(
        ValueError, match=r"is damaged or not .*; there is no earlier intact checkpoint"
    ):
        run.newest_checkpoint()


@pytest.mark.parametrize(
    "others",
    [
        {"seed": 4},
        {"agent": "rl2"},
        {"environment": "PointRobot:pearl"},
        {"config": {"gamma": 0.9}},
    ],
)
def test_the_checkpoint_of_another_run_is_rejected(run, others):
    save(run, 10, **others)
    message = f"is of another run: its {next(iter(others))} differs"
    with pytest.raises(ValueError, match=message):
        run.newest_checkpoint()


@pytest.mark.parametrize("counters", [{"num_iterations": 10}, {}, None])
def test_a_checkpoint_in_the_place_of_another_is_rejected(run, counters):
    save(run, 20, counters=counters)
    with pytest.raises(ValueError, match=r"holds iteration (10|None), which differs from its name"):
        run.newest_checkpoint()


def test_a_run_without_a_checkpoint_is_reported(run):
    (run.checkpoints / "notes.txt").touch()
    (run.checkpoints / "iteration_x.safetensors").touch()
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


def test_tensorboard_shows_every_metric_against_environment_steps(run):
    write(run, 1, 2, 4)
    assert events(run, "meta/kl_nats") == [(100, 0.125), (200, 0.25), (400, 0.5)]
    assert events(run, "time/env_steps") == [(100, 100), (200, 200), (400, 400)]


def test_tensorboard_can_use_another_metric_as_x_axis(run):
    log = MetricsLog(run, axis="time/iterations")
    log.write(5, {"meta/query_mse": 0.5, "time/iterations": 7})
    log.close()
    assert events(run, "meta/query_mse") == [(7, 0.5)]


def test_tensorboard_omits_rows_that_a_resumed_run_deletes(run):
    write(run, 1, 2, 3, 4)
    (first,) = run.path.glob("events*")
    first.rename(run.path / "events.out.tfevents.0000000001.earlier")  # TensorBoard reads by name
    write(run, 3, resumed_at=2, value=8.0)
    assert events(run, "meta/kl_nats") == [(100, 0.125), (200, 0.25), (300, 8.0)]


def test_a_full_disk_leaves_no_partial_row(run):
    log, file = MetricsLog(run, tracker="none"), run.path / "metrics.jsonl"
    log.write(1, row(1))
    with room_in_files(file.stat().st_size + 10), pytest.raises(OSError, match="File too large"):
        log.write(2, row(2))
    assert file.read_bytes().endswith(b"}\n")
    log.write(2, row(2, value=5.0))
    log.close()
    assert [line["meta/kl_nats"] for line in read_metrics(run)] == [0.125, 5.0]


@pytest.mark.parametrize("value", ["null", "true", '"0.5"', "[1.0]"])
def test_a_metric_that_is_not_a_number_is_damage(run, value):
    text = f'{{"iteration": 1, "meta/kl_nats": 1.0}}\n{{"iteration": 2, "meta/kl_nats": {value}}}\n'
    (run.path / "metrics.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged in line 2$"):
        read_metrics(run)


def test_a_row_without_a_required_metric_is_named_with_what_it_holds(run):
    write(run, 1, 2)
    message = r"metrics\.jsonl is damaged in line 1: it must hold 'rollout/query_return', it holds"
    with pytest.raises(ValueError, match=message):
        read_metrics(run, required=("rollout/query_return",))


def test_a_required_metric_that_is_not_finite_is_named(run):
    (run.path / "metrics.jsonl").write_text('{"iteration": 1, "a/b": NaN}\n', encoding="utf-8")
    message = r"metrics\.jsonl is damaged in line 1: 'a/b' must be finite, got nan"
    with pytest.raises(ValueError, match=message):
        read_metrics(run, required=("a/b",))
    assert len(read_metrics(run)) == 1


@pytest.mark.parametrize("line", ["half\n", "[1]\n", '{"kl": 1}\n', '{"iteration": "x"}\n'])
def test_a_damaged_line_before_the_last_is_named(run, line):
    write(run, 1)
    with (run.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(line)
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged in line 2"):
        read_metrics(run)
