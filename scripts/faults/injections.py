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
from metarl.scripts.faults.kills import FEWSHOT, MAML_TRPO, Learner, fingerprint
from metarl.scripts.faults.processes import Ended, Forked, Row, command

__all__ = ["injections"]

_LAST_GOOD = FAILS_IN_ITERATION - 1
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


def injections(folder: Path, *, quick: bool = False) -> list[Row]:
    """Inject every fault once.

    Args:
        folder: folder of the runs.
        quick: skip worker processes, and the disks and signals of the few-shot learner.
    """
    register_faulty_families()
    families: list[tuple[str, str]] = [(FaultyLine.name, v) for v in FaultyLine.variants]
    if not quick:
        families += [(FaultyWorker.name, v) for v in FaultyWorker.variants]
    rows = [_faulty_family(name, variant, folder) for name, variant in families]
    rows.append(_faulty_parameter(folder))
    for learner in (MAML_TRPO,) if quick else (MAML_TRPO, FEWSHOT):
        home = folder / learner.name.replace(" ", "_")
        home.mkdir()
        command(learner.start(home / "reference"))
        rows += [
            _full_disk(learner, home),
            _failing_disk(learner, home),
            *(_signal(learner, number, home) for number in (signal.SIGINT, signal.SIGTERM)),
            _second_process(learner, home),
        ]
    return rows


def _faulty_family(name: str, variant: str, folder: Path) -> Row:
    out = folder / f"{name}_{variant}"
    line = [*MAML_TRPO.start(out), "--env", f"{name}:{variant}", "--checkpoint-every", "100"]
    ended = command(line)
    in_worker = name == FaultyWorker.name
    source = "worker process" if in_worker else "environment"
    what = f"{source}: {variant.replace('-', ' ')} in iteration {FAILS_IN_ITERATION}"
    fault = _after_failure(ended, out, ["iteration 4", _MESSAGES[variant]])
    if not in_worker:  # a worker's own traceback is shown with the sentence
        fault = fault or ended.rejection_fault(1)
    return _row(what, _WORKER_ERROR if in_worker else _SAVED, fault)


def _faulty_parameter(folder: Path) -> Row:
    out = folder / "parameter"
    with _broken_after(_LAST_GOOD):
        ended = command([*MAML_TRPO.start(out), "--checkpoint-every", str(_LAST_GOOD)])
    fault = _after_failure(ended, out, ["iteration 4: parameter bias_0 must be finite"])
    fault = fault or ended.rejection_fault(1)
    return _row(f"parameter: NaN after iteration {_LAST_GOOD}", _SAVED, fault)


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


def _after_failure(ended: Ended, out: Path, needles: Sequence[str]) -> str:
    if ended.code != 1:
        return f"exit code {ended.code}: {ended.err[-500:]}"
    missing = [needle for needle in needles if needle not in ended.err]
    if missing:
        return f"the message lacks {missing}: {ended.err[-500:]}"
    run = RunDirectory.open(out)
    wanted = run.checkpoint_path(_LAST_GOOD)
    if run.newest_checkpoint() != wanted or len(read_metrics(run)) != _LAST_GOOD:
        return f"the newest checkpoint is {run.newest_checkpoint().name}"
    return ""


def _full_disk(learner: Learner, home: Path) -> Row:
    """Lower the kernel's limit on file sizes during training."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))

    stop = _Stop(learner, home, home / "limit", 1, ": File too large; the last checkpoint")
    fault = stop.at_checkpoint(limit)
    return _row(f"`{learner.name}`: file cannot grow (kernel's limit)", _RESUMES, fault)


def _failing_disk(learner: Learner, home: Path) -> Row:
    def fail() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    stop = _Stop(learner, home, home / "full", 1, ": No space left on device; the last")
    fault = stop.at_checkpoint(fail)
    return _row(f"`{learner.name}`: disk full (ENOSPC) at a checkpoint", _RESUMES, fault)


_RESUMES = "one sentence and its exit code; resuming gives identical files"


def _signal(learner: Learner, number: signal.Signals, home: Path) -> Row:
    out = home / number.name
    name = "Ctrl-C" if number is signal.SIGINT else "SIGTERM"
    stop = _Stop(learner, home, out, 128 + number, f"stopped by {name} after iteration")
    forked = Forked.start(learner.start(out), home / "log")
    forked.wait_until((out / "metrics.jsonl").exists)
    forked.send(number)
    fault = stop.fault(forked)
    return _row(f"`{learner.name}`: {number.name}, exit code {128 + number}", _RESUMES, fault)


@dataclass(frozen=True)
class _Stop:
    """How a process must end; its run is then resumed and compared with the reference."""

    learner: Learner
    home: Path
    out: Path
    code: int
    needle: str

    def at_checkpoint(self, act: Callable[[], None]) -> str:
        """The fault found after `act` runs at the third fsync in training; "" if there is none."""

        def prepare() -> None:
            count, fsync = 0, os.fsync

            def counted(fd: Any) -> None:
                nonlocal count
                count += (self.out / "metrics.jsonl").exists()
                if count >= 3:
                    act()
                fsync(fd)

            os.fsync = counted

        line = self.learner.start(self.out)
        return self.fault(Forked.start(line, self.home / "log", prepare=prepare))

    def fault(self, forked: Forked) -> str:
        """The fault found in how it stopped or how its run resumed; "" if there is none."""
        found = forked.wait()
        output = forked.log.read_text(encoding="utf-8")
        if found != self.code or self.needle not in output:
            return f"exit code {found}, output {output[-500:]!r}"
        RunDirectory.open(self.out).newest_checkpoint()
        ended = command(self.learner.resume(self.out))
        if ended.code:
            return f"does not resume: {ended.err}"
        now, wanted = fingerprint(self.out), fingerprint(self.home / "reference")
        differing = [name for name in ("last", "metrics") if now[name] != wanted[name]]
        return f"differs in {differing}" if differing else ""


def _second_process(learner: Learner, home: Path) -> Row:
    run = RunDirectory.open(home / "reference")
    with run.writing():
        ended = command([*learner.resume(run.path), "--iterations", "1000"])
    fault = ended.rejection_fault()
    if not fault and "is being written by another process" not in ended.err:
        fault = ended.err
    return _row(f"`{learner.name}`: a second process in the directory", "rejected", fault)


def _row(what: str, meaning: str, fault: str) -> Row:
    return Row(what, 1, 0 if fault else 1, meaning, (fault,) if fault else ())
