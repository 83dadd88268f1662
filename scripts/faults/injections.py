"""Faults to inject: non-finite numbers, broken environments and disks, signals, two processes."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from metarl.agents.maml_trpo.agent import MAMLTRPO
from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import read_metrics
from metarl.scripts.faults.families import (
    FAILS_IN_ITERATION,
    FaultyLine,
    FaultyWorker,
    register_faulty_families,
)
from metarl.scripts.faults.kills import FEWSHOT, MAML_TRPO, TinyRun, fingerprint
from metarl.scripts.faults.processes import CommandResult, ForkedCommand, Row, run_command
from metarl.scripts.faults.small_disk import fill_disk

__all__ = ["inject_faults"]

_LAST_VALID_ITERATION = FAILS_IN_ITERATION - 1
_SAVED = "one sentence, exit code 1, the previous iteration is saved"
_WORKER_ERROR = "the worker's error, exit code 1, the previous iteration is saved"
_MESSAGES = {
    "nan-reward": "rewards must be finite, got nan from task 1, environment 0",
    "inf-reward": "rewards must be finite, got inf from task 1, environment 0",
    "nan-observation": "observations must be finite, got nan from task 1, environment 0",
    "raises": "the simulator lost its license",
    "hangs": "did not answer within 1 s while stepping",
    "dies": "died (exit code 7) while stepping",
    "reward-of-another-shape": "rewards of the environment must have shape [2, 2], got [2, 1]",
    "observation-of-another-shape": "shape",
}


def inject_faults(folder: Path, *, quick: bool = False) -> list[Row]:
    """Inject each fault once and check the behavior that follows.

    Args:
        folder: folder of the runs.
        quick: skip faults in worker processes, and full disks and signals in few-shot training.
    """
    register_faulty_families()
    families: list[tuple[str, str]] = [(FaultyLine.name, v) for v in FaultyLine.variants]
    if not quick:
        families += [(FaultyWorker.name, v) for v in FaultyWorker.variants]
    rows = [_faulty_family(name, variant, folder) for name, variant in families]
    rows.append(_faulty_parameter(folder))
    for tiny_run in (MAML_TRPO,) if quick else (MAML_TRPO, FEWSHOT):
        home = folder / tiny_run.name.replace(" ", "_")
        home.mkdir()
        run_command(tiny_run.start(home / "reference"))
        rows += [
            _full_disk(tiny_run, home),
            _failing_disk(tiny_run, home),
            *(_signal(tiny_run, number, home) for number in (signal.SIGINT, signal.SIGTERM)),
            _second_process(tiny_run, home),
        ]
    rows += fill_disk(MAML_TRPO, folder / "maml-trpo" / "reference", folder)
    return rows


def _faulty_family(name: str, variant: str, folder: Path) -> Row:
    out = folder / f"{name}_{variant}"
    line = [*MAML_TRPO.start(out), "--env", f"{name}:{variant}", "--checkpoint-every", "100"]
    result = run_command(line)
    in_worker = name == FaultyWorker.name
    source = "worker process" if in_worker else "environment"
    fault = f"{source}: {variant.replace('-', ' ')} in iteration {FAILS_IN_ITERATION}"
    problem = _after_failure(result, out, ["iteration 4", _MESSAGES[variant]])
    if not in_worker:  # a worker's own traceback is shown with the sentence
        problem = problem or result.rejection_problem(1)
    return _row(fault, _WORKER_ERROR if in_worker else _SAVED, problem)


def _faulty_parameter(folder: Path) -> Row:
    out = folder / "parameter"
    with _broken_after(_LAST_VALID_ITERATION):
        result = run_command(
            [*MAML_TRPO.start(out), "--checkpoint-every", str(_LAST_VALID_ITERATION)]
        )
    problem = _after_failure(result, out, ["iteration 4: parameter bias_0 must be finite"])
    problem = problem or result.rejection_problem(1)
    return _row(f"parameter: NaN after iteration {_LAST_VALID_ITERATION}", _SAVED, problem)


@contextmanager
def _broken_after(num_iterations: int) -> Iterator[None]:
    """Set a parameter of MAML-TRPO to NaN after a number of iterations."""
    iterate = MAMLTRPO.iterate

    def broken(agent: MAMLTRPO) -> dict[str, float]:
        if agent.num_iterations == num_iterations:
            agent.params["bias_0"] = torch.full_like(agent.params["bias_0"], float("nan"))
        return iterate(agent)

    MAMLTRPO.iterate = broken  # type: ignore[method-assign, assignment] # the fault
    try:
        yield
    finally:
        MAMLTRPO.iterate = iterate  # type: ignore[method-assign]


def _after_failure(result: CommandResult, out: Path, expected: Sequence[str]) -> str:
    if result.exit_code != 1:
        return f"exit code {result.exit_code}: {result.stderr[-500:]}"
    missing = [text for text in expected if text not in result.stderr]
    if missing:
        return f"the message lacks {missing}: {result.stderr[-500:]}"
    run = RunDirectory.open(out)
    wanted = run.checkpoint_path(_LAST_VALID_ITERATION)
    if run.newest_checkpoint() != wanted or len(read_metrics(run)) != _LAST_VALID_ITERATION:
        return f"the newest checkpoint is {run.newest_checkpoint().name}"
    return ""


def _full_disk(tiny_run: TinyRun, home: Path) -> Row:
    """Lower the process's limit on file sizes (RLIMIT_FSIZE) during training."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))

    stop = _StoppedRun(tiny_run, home, home / "limit", 1, ": File too large; the last checkpoint")
    problem = stop.problem_at_checkpoint(limit)
    return _row(f"`{tiny_run.name}`: file cannot grow (kernel's limit)", _RESUMES, problem)


def _failing_disk(tiny_run: TinyRun, home: Path) -> Row:
    def fail() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    stop = _StoppedRun(tiny_run, home, home / "full", 1, ": No space left on device; the last")
    problem = stop.problem_at_checkpoint(fail)
    return _row(f"`{tiny_run.name}`: disk full (ENOSPC) at a checkpoint", _RESUMES, problem)


_RESUMES = "one sentence and its exit code; resuming gives identical files"


def _signal(tiny_run: TinyRun, number: signal.Signals, home: Path) -> Row:
    out = home / number.name
    name = "Ctrl-C" if number is signal.SIGINT else "SIGTERM"
    stop = _StoppedRun(tiny_run, home, out, 128 + number, f"stopped by {name} after iteration")
    forked = ForkedCommand.start(tiny_run.start(out), home / "log")
    forked.wait_until((out / "metrics.jsonl").exists)
    forked.send(number)
    problem = stop.problem(forked)
    return _row(f"`{tiny_run.name}`: {number.name}, exit code {128 + number}", _RESUMES, problem)


@dataclass(frozen=True)
class _StoppedRun:
    """A run whose process is stopped, and the exit code and message that are required."""

    tiny_run: TinyRun
    home: Path
    out: Path
    exit_code: int
    message: str

    def problem_at_checkpoint(self, inject: Callable[[], None]) -> str:
        """Call `inject` at the third fsync in training, then check as `problem` does."""

        def prepare() -> None:
            count, fsync = 0, os.fsync

            def counted(fd: Any) -> None:
                nonlocal count
                count += (self.out / "metrics.jsonl").exists()
                if count >= 3:
                    inject()
                fsync(fd)

            os.fsync = counted

        line = self.tiny_run.start(self.out)
        return self.problem(ForkedCommand.start(line, self.home / "log", prepare=prepare))

    def problem(self, forked: ForkedCommand) -> str:
        """Check exit code and message, then resume the run and compare it with the reference.

        Returns:
            A description of the first difference; "" if there is none.
        """
        exit_code = forked.wait()
        output = forked.log.read_text(encoding="utf-8")
        if exit_code != self.exit_code or self.message not in output:
            return f"exit code {exit_code}, output {output[-500:]!r}"
        RunDirectory.open(self.out).newest_checkpoint()
        result = run_command(self.tiny_run.resume(self.out))
        if result.exit_code:
            return f"does not resume: {result.stderr}"
        now, wanted = fingerprint(self.out), fingerprint(self.home / "reference")
        differing = [name for name in ("last", "metrics") if now[name] != wanted[name]]
        return f"differs in {differing}" if differing else ""


def _second_process(tiny_run: TinyRun, home: Path) -> Row:
    run = RunDirectory.open(home / "reference")
    with run.writing():
        result = run_command([*tiny_run.resume(run.path), "--iterations", "1000"])
    problem = result.rejection_problem()
    if not problem and "is being written by another process" not in result.stderr:
        problem = result.stderr
    return _row(f"`{tiny_run.name}`: a second process in the directory", "rejected", problem)


def _row(fault: str, required: str, problem: str) -> Row:
    return Row(fault, 1, 0 if problem else 1, required, (problem,) if problem else ())
