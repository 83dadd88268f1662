"""The loop of training: signals, numbers that are not finite, broken environments, full disks."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from short_runs import CONFIG, ROBOT, SINUSOID, metarl, room_in_files

from metarl.agents import MAMLTRPO
from metarl.envs.navigation.goals import PointRobot
from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import MetricsLog, read_metrics
from metarl.runs.progress import TrainingProgress
from metarl.scripts.faults.kills import fingerprint


def stopped(line: str, out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and message of a command that ends early."""
    with pytest.raises(SystemExit) as stop:
        metarl(line, out)
    code = stop.value.code
    assert isinstance(code, int)
    return code, capsys.readouterr().err


# Signals.


def signaling(number: int, at: int, times: int = 1) -> Callable[[MAMLTRPO], dict[str, float]]:
    """An iteration that sends this process a signal in iteration `at`."""
    iterate = MAMLTRPO.iterate

    def iterate_and_signal(agent: MAMLTRPO) -> dict[str, float]:
        if agent.num_iterations + 1 == at:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return iterate(agent)

    return iterate_and_signal


@pytest.mark.parametrize(
    ("number", "cause", "code"),
    [
        (signal.SIGINT, "Ctrl-C", 130),
        (signal.SIGTERM, "SIGTERM", 143),
        (signal.SIGHUP, "SIGHUP (the terminal was closed)", 129),
    ],
)
def test_a_signal_ends_training_after_the_iteration_and_saves_it(
    tmp_path, monkeypatch, capsys, robot, *, number, cause, code
):
    before = signal.getsignal(number)
    if number == signal.SIGINT:
        signal.signal(number, signal.default_int_handler)
    elif before is signal.SIG_IGN:  # as under nohup
        signal.signal(number, signal.SIG_DFL)
    monkeypatch.setattr(MAMLTRPO, "iterate", signaling(number, at=3))
    out = tmp_path / "run"
    found, words = stopped(f"{ROBOT} --iterations 6 --checkpoint-every 2", out, capsys)
    signal.signal(number, before)
    assert found == code
    last = RunDirectory.open(out).checkpoint_path(3)
    assert words == (
        f"metarl: stopped by {cause} after iteration 3 of 6; the last checkpoint is {last}, "
        "and --resume continues from it\n"
    )
    monkeypatch.undo()
    metarl("train maml-trpo --resume", out)
    found_now, wanted = fingerprint(out), fingerprint(robot)
    for name in ("last", "best", "metrics"):
        assert found_now[name] == wanted[name]


def test_a_second_signal_stops_at_once(tmp_path, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(MAMLTRPO, "iterate", signaling(signal.SIGINT, at=2, times=2))
    with pytest.raises(KeyboardInterrupt):
        metarl(f"{ROBOT} --iterations 6", tmp_path / "run")
    signal.signal(signal.SIGINT, before)
    run = RunDirectory.open(tmp_path / "run")
    assert run.newest_checkpoint() == run.checkpoint_path(0)
    assert len(read_metrics(run)) == 1


# Numbers, environments, disks.


def broken_step(monkeypatch: pytest.MonkeyPatch, break_it: Callable[[Any], Any], at: int) -> None:
    """Apply `break_it` to PointRobot's steps from iteration `at` on."""
    transition, starts, resets = PointRobot.transition, PointRobot.initial_states, []

    def initial_states(family: PointRobot, *arguments: Any) -> torch.Tensor:
        resets.append(1)
        return starts(family, *arguments)

    def broken(family: PointRobot, *arguments: Any) -> Any:
        step = transition(family, *arguments)
        return break_it(step) if len(resets) > 2 * (at - 1) else step

    monkeypatch.setattr(PointRobot, "initial_states", initial_states)
    monkeypatch.setattr(PointRobot, "transition", broken)


def nan_reward(step: Any) -> Any:
    step.rewards[1, 0] = float("nan")
    return step


def nan_state(step: Any) -> Any:
    step.states[1, 0, 1] = float("inf")
    return step


def raising(_: Any) -> Any:
    raise KeyError("the cup is empty")


def long_error(_: Any) -> Any:
    raise RuntimeError("the cup is empty\nTraceback (most recent call last): …")


def leaving(_: Any) -> Any:
    sys.exit(0)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (nan_reward, "iteration 3: rewards must be finite, got nan from task 1, environment 0,"),
        (nan_state, "iteration 3: observations must be finite, got inf from task 1, environ"),
        (
            raising,
            "iteration 3 failed with KeyError: 'the cup is empty' (test_loop.py, line",
        ),
        (
            long_error,
            "iteration 3 failed with RuntimeError: the cup is empty (test_loop.py, line",
        ),
        (leaving, "iteration 3 failed with SystemExit: 0 (test_loop.py, line"),
    ],
)
def test_an_environment_that_fails_ends_training_and_the_last_good_state_is_saved(
    tmp_path, monkeypatch, capsys, break_it, words
):
    broken_step(monkeypatch, break_it, at=3)
    out = tmp_path / "run"
    code, output = stopped(f"{ROBOT} --iterations 6 --checkpoint-every 50", out, capsys)
    run = RunDirectory.open(out)
    assert code == 1
    assert words in output
    assert f"the last checkpoint is {run.checkpoint_path(2)}, and --resume continues" in output
    assert output.count("\n") == 1
    assert run.newest_checkpoint() == run.checkpoint_path(2)
    if break_it in (nan_reward, nan_state):
        assert "; task 1 is [" in output


def test_parameters_that_are_not_finite_are_not_saved(tmp_path, monkeypatch, capsys):
    iterate = MAMLTRPO.iterate

    def break_parameters(agent: MAMLTRPO) -> dict[str, float]:
        metrics = iterate(agent)
        if agent.num_iterations == 3:
            agent.params["bias_0"] = agent.params["bias_0"] + float("inf")
        return metrics

    monkeypatch.setattr(MAMLTRPO, "iterate", break_parameters)
    out = tmp_path / "run"
    code, output = stopped(f"{ROBOT} --iterations 6 --checkpoint-every 2", out, capsys)
    assert code == 1
    assert "iteration 4: parameter bias_0 must be finite" in output
    run = RunDirectory.open(out)
    assert run.newest_checkpoint() == run.checkpoint_path(2)


def test_with_debugging_the_cause_is_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("METARL_DEBUG", "1")
    broken_step(monkeypatch, raising, at=1)
    with pytest.raises(Exception, match="iteration 1 failed with KeyError") as caught:
        metarl(f"{ROBOT} --iterations 6", tmp_path / "run")
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_full_disk_ends_in_a_sentence_and_the_last_checkpoint_is_intact(
    tmp_path, monkeypatch, capsys, robot
):
    fsync, save = os.fsync, MAMLTRPO.save

    def save_on_a_full_disk(agent: MAMLTRPO, path: Path) -> None:
        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        os.fsync = full if agent.num_iterations == 4 else fsync
        save(agent, path)

    monkeypatch.setattr(MAMLTRPO, "save", save_on_a_full_disk)
    monkeypatch.setattr(os, "fsync", fsync)
    out = tmp_path / "run"
    code, output = stopped(f"{ROBOT} --iterations 6 --checkpoint-every 2", out, capsys)
    monkeypatch.undo()
    run = RunDirectory.open(out)
    assert code == 1
    assert output == (
        f"metarl: {run.checkpoint_path(4)} could not be written after iteration 4: No space left "
        "on device; "
        f"the last checkpoint is {run.checkpoint_path(2)}, and --resume continues from it\n"
    )
    assert run.newest_checkpoint() == run.checkpoint_path(2)
    metarl("train maml-trpo --resume", out)
    assert fingerprint(out) == fingerprint(robot)


def test_two_processes_in_one_run_are_rejected(half):
    before = {path: path.read_bytes() for path in half.rglob("*") if path.is_file()}
    with (
        RunDirectory.open(half).writing(),
        pytest.raises(ValueError, match=f"run {half} is being written by another process"),
    ):
        metarl("train maml-trpo --resume", half)
    assert {path: path.read_bytes() for path in half.rglob("*") if path.is_file()} == before


def test_a_damaged_checkpoint_is_rejected_and_training_continues_from_the_named_one(half, robot):
    run = RunDirectory.open(half)
    damaged, good = run.checkpoint_path(4), run.checkpoint_path(2)
    damaged.write_bytes(damaged.read_bytes()[:-8])
    with pytest.raises(ValueError, match=f"{damaged} is damaged.*intact checkpoint is {good}: to"):
        metarl("train maml-trpo --resume", half)
    damaged.rename(half / "damaged")
    metarl("train maml-trpo --resume", half)
    assert fingerprint(half)["last"] == fingerprint(robot)["last"]
    assert fingerprint(half)["metrics"] == fingerprint(robot)["metrics"]


def test_an_output_that_cannot_be_written_does_not_end_training(tmp_path, monkeypatch):
    def full(self: TrainingProgress, done: int, news: str) -> None:  # noqa: ARG001
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(TrainingProgress, "update", full)
    metarl(f"{ROBOT} --iterations 2", tmp_path / "run")
    assert RunDirectory.open(tmp_path / "run").newest_checkpoint().stem.endswith("2")


@pytest.mark.parametrize("tracker", ["tensorboard", "none"])
@pytest.mark.parametrize("start", [ROBOT, SINUSOID], ids=["maml-trpo", "fewshot"])
def test_a_disk_that_fills_up_ends_in_one_sentence_that_names_the_file(tmp_path, start, tracker):
    """In a separate process, so that a thread's traceback would be seen."""
    code = (
        "import os, resource, sys\n"
        "from metarl.runs.metrics import MetricsLog\n"
        "from metarl.scripts.cli import main\n"
        "write, written = MetricsLog.write, []\n"
        "def fill_up(log, *args):\n"
        "    written.append(args)\n"
        "    if len(written) == 2:\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))\n"
        "    write(log, *args)\n"
        "MetricsLog.write = fill_up\n"
        "main()"
    )
    line = f"{start.replace('none', tracker)} --log-every 1 --iterations 6 --checkpoint-every 1"
    words = [sys.executable, "-c", code, *line.split(), "--out", str(tmp_path / "run")]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    run = RunDirectory.open(tmp_path / "run")
    assert ended.stderr == (
        f"metarl: {run.path / 'metrics.jsonl'} could not be written after iteration 2: File too "
        f"large; the last checkpoint is {run.checkpoint_path(1)}, and --resume continues from it\n"
    )


def test_a_full_event_file_is_named(tmp_path):
    run = RunDirectory.create(tmp_path / "run", CONFIG)
    log = MetricsLog(run, tracker="tensorboard")
    (events,) = run.path.glob("events*")
    before = events.read_bytes()
    with room_in_files(len(before) + 10), pytest.raises(OSError, match="File too large") as caught:
        log.write(1, {"time/env_steps": 1})
    log.close()
    assert caught.value.filename == str(events)
    assert events.read_bytes() == before


def test_a_metric_that_ranks_checkpoints_must_be_returned(tmp_path, monkeypatch, capsys):
    iterate, score = MAMLTRPO.iterate, MAMLTRPO.score

    def without_score(agent: MAMLTRPO) -> dict[str, float]:
        return {name: value for name, value in iterate(agent).items() if name != score}

    monkeypatch.setattr(MAMLTRPO, "iterate", without_score)
    code, output = stopped(f"{ROBOT} --iterations 6", tmp_path / "run", capsys)
    assert code == 1
    assert (
        "metarl: iteration 1 must return the metric 'rollout/query_return', it returned roll"
        in output
    )


@pytest.mark.parametrize("factor", [0, 1])
def test_a_meta_gradient_of_exactly_zero_is_reported_once(tmp_path, monkeypatch, capsys, factor):
    transition = PointRobot.transition

    def scaled(self: PointRobot, *args: Any) -> Any:
        step = transition(self, *args)
        return step._replace(rewards=factor * step.rewards)

    monkeypatch.setattr(PointRobot, "transition", scaled)
    metarl(f"{ROBOT} --iterations 3", tmp_path / "run")
    lines = [line for line in capsys.readouterr().out.splitlines() if "exactly zero" in line]
    assert len(lines) == (0 if factor else 1)
    assert not lines or lines[0].startswith("warning: the meta-gradient of iteration 1 is exactly")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX terminals")
def test_a_terminal_that_closes_ends_training_with_a_saved_iteration(tmp_path):
    import pty  # not on Windows

    out = tmp_path / "run"
    code = "from metarl.scripts.cli import main; main()"
    child, terminal = pty.fork()
    if child == 0:  # the leader of a session whose terminal is `terminal`
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup would have the tests ignore it
        words = f"{ROBOT} --iterations 100000 --checkpoint-every 50000 --out {out}".split()
        os.execv(sys.executable, [sys.executable, "-c", code, *words])
    metrics = out / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") > 1):
        os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 129
    run = RunDirectory.open(out)
    assert run.newest_checkpoint() == run.checkpoint_path(len(read_metrics(run)))


def test_of_two_trainings_that_start_in_one_folder_at_once_one_trains(tmp_path):
    out = tmp_path / "run"
    code = "from metarl.scripts.cli import main; main()"
    line = [sys.executable, "-c", code, *f"{ROBOT} --iterations 2 --out {out}".split()]
    both = [subprocess.Popen(line, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 2]
    loser = errors[codes.index(2)]
    assert loser.startswith("metarl: out must be a new directory") or "another process" in loser
    assert len(loser.splitlines()) == 1
    run = RunDirectory.open(out)
    assert run.newest_checkpoint() == run.checkpoint_path(2)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
