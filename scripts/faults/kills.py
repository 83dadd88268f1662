"""SIGKILL at random times: every run must resume, lose little, and end with the same files."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import read_metrics
from metarl.scripts.faults.processes import (
    ForkedCommand,
    Row,
    count_file_operations,
    kill_at_file_operation,
)

__all__ = ["FEWSHOT", "MAML_TRPO", "RL2", "TinyRun", "fingerprint", "kill_runs"]


@dataclass(frozen=True)
class TinyRun:
    """The command line of a tiny training run."""

    name: str
    command: tuple[str, ...]
    options: str
    iterations: int
    checkpoint_every: int

    def start(self, out: Path) -> list[str]:
        """Arguments that start the run, with the default tracker, TensorBoard."""
        numbers = ["--iterations", self.iterations, "--checkpoint-every", self.checkpoint_every]
        rest = [*numbers, "--out", out]
        return [*self.command, *self.options.split(), *map(str, rest)]

    def resume(self, out: Path) -> list[str]:
        """Arguments that resume the run."""
        return [*self.command, "--resume", "--out", str(out)]


_ON_CPU = "--device cpu --threads 1 --seed 5 --meta-batch-size 2 --hidden-sizes 4"
MAML_TRPO = TinyRun(
    "maml-trpo",
    ("train", "maml-trpo"),
    f"{_ON_CPU} --env PointRobot:pearl --num-episodes 2 --cg-iterations 2 --line-search-steps 4",
    iterations=8,
    checkpoint_every=2,
)
RL2 = TinyRun(
    "rl2",
    ("train", "rl2"),
    f"{_ON_CPU} --env GridNavigation:varibad --num-episodes 2 --memory-size 4 --num-minibatches 2 "
    "--normalize-observations",
    iterations=8,
    checkpoint_every=2,
)
FEWSHOT = TinyRun(
    "fewshot maml",
    ("fewshot", "maml"),
    f"{_ON_CPU} --shots 3 --test-steps 1",
    iterations=200,
    checkpoint_every=50,
)


def fingerprint(path: Path) -> dict[str, object]:
    """Parts that must be equal in equal runs: checkpoints, metrics except times, file names."""
    run = RunDirectory.open(path)
    rows = [
        {k: v for k, v in row.items() if not k.startswith("time/") or k == "time/env_steps"}
        for row in read_metrics(run)
    ]
    return {
        "last": (run.newest_checkpoint().name, run.newest_checkpoint().read_bytes()),
        "best": run.best_checkpoint.read_bytes(),
        "metrics": rows,
        "names": sorted(p.name for p in path.rglob("*") if not p.name.startswith("events")),
    }


@dataclass(frozen=True)
class _Reference:
    fingerprint: dict[str, object]
    seconds: float
    num_operations: int


def kill_runs(tiny_run: TinyRun, count: int, seed: int, folder: Path) -> list[Row]:
    """Kill runs `count` times, half of them at file operations.

    Returns:
        Two rows: kills at random times, and kills at file operations.
    """
    rng = random.Random(f"{seed} {tiny_run.name}")
    reference = _reference(tiny_run, folder)
    tried = {"moment": 0, "file operation": 0}
    failures: dict[str, list[str]] = {kind: [] for kind in tried}
    number = 0
    while sum(tried.values()) < count:
        number += 1
        killed_run = _KilledRun(tiny_run, folder / f"trial_{number}", reference, rng)
        for _ in range(rng.randint(1, 4)):
            kind = min(tried, key=lambda kind: (tried[kind], rng.random()))
            if not killed_run.kill(kind):
                break
            tried[kind] += 1
            failures[kind] += killed_run.problems()
            if failures[kind] or sum(tried.values()) == count:
                break
        failures[kind] += killed_run.finish()
    required = (
        "resumes, loses at most the iterations since the last checkpoint, ends in the same bytes"
    )
    return [
        Row(
            f"`{tiny_run.name}`, SIGKILL at a random {kind}",
            tried[kind],
            tried[kind] - len(failures[kind]),
            required,
            tuple(failures[kind]),
        )
        for kind in tried
    ]


def _reference(tiny_run: TinyRun, folder: Path) -> _Reference:
    out, log, dots = folder / "reference", folder / "log", folder / "operations"
    prepare = count_file_operations(out, dots)
    forked = ForkedCommand.start(tiny_run.start(out), log, prepare=prepare)
    began = time.perf_counter()
    if forked.wait() != 0:
        raise RuntimeError(f"the reference failed: {log.read_text(encoding='utf-8')}")
    seconds = time.perf_counter() - began
    return _Reference(fingerprint(out), seconds, len(dots.read_bytes()))


class _KilledRun:
    """One run, killed a few times."""

    def __init__(
        self, tiny_run: TinyRun, folder: Path, reference: _Reference, rng: random.Random
    ) -> None:
        folder.mkdir()
        self._tiny_run, self._folder, self._reference, self._rng = tiny_run, folder, reference, rng
        self._out, self._log = folder / "run", folder / "log"
        self._newest_iteration = 0

    def kill(self, kind: str) -> bool:
        """Start or resume the run and kill it; False if it ended first."""
        if kind == "moment":
            forked = ForkedCommand.start(self._line(), self._log)
            time.sleep(self._rng.uniform(0, self._reference.seconds))
            forked.send(signal.SIGKILL)
        else:
            at = self._rng.randint(1, self._reference.num_operations)
            prepare = kill_at_file_operation(self._folder, at)
            forked = ForkedCommand.start(self._line(), self._log, prepare=prepare)
        return forked.wait() == -signal.SIGKILL

    def problems(self) -> list[str]:
        """Check the run after a kill; returns no sentence, or one that describes the problem."""
        if not self._out.exists():
            return [] if not self._newest_iteration else [f"{self._out} is gone"]
        try:
            run = RunDirectory.open(self._out)
            kept = int(run.newest_checkpoint().stem.removeprefix("iteration_"))
            logged = max((int(row["iteration"]) for row in read_metrics(run)), default=0)
        except ValueError as error:
            return [f"cannot resume: {error}"]
        if kept < self._newest_iteration or logged - kept > self._tiny_run.checkpoint_every:
            before = self._newest_iteration
            return [f"{logged} iterations were done, {before} kept before, now {kept}"]
        self._newest_iteration = kept
        return []

    def finish(self) -> list[str]:
        """Let the run end and compare it with the reference; returns as `problems`."""
        code = ForkedCommand.start(self._line(), self._log).wait()
        output = self._log.read_text(encoding="utf-8")
        if code and "iterations must be more than" not in output:
            return [f"exit code {code}: {output[-300:]}"]
        found, wanted = fingerprint(self._out), self._reference.fingerprint
        differing = [name for name in wanted if found[name] != wanted[name]]
        differing += [p.name for p in self._folder.iterdir() if p.name not in ("run", "log")]
        return [f"{self._folder}: differs in {', '.join(differing)}"] if differing else []

    def _line(self) -> list[str]:
        if self._out.exists():
            return self._tiny_run.resume(self._out)
        return self._tiny_run.start(self._out)
