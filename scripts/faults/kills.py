"""Kills at random times: every run must resume, lose little, and end with the same bytes."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import read_metrics
from metarl.scripts.faults.processes import (
    Forked,
    Row,
    count_file_operations,
    kill_at_file_operation,
)

__all__ = ["FEWSHOT", "MAML_TRPO", "RL2", "Learner", "fingerprint", "kills"]


@dataclass(frozen=True)
class Learner:
    """A tiny run."""

    name: str
    command: tuple[str, ...]
    options: str
    iterations: int
    checkpoint_every: int

    def start(self, out: Path) -> list[str]:
        """The command line that starts it, with the default tracker, TensorBoard."""
        numbers = ["--iterations", self.iterations, "--checkpoint-every", self.checkpoint_every]
        rest = [*numbers, "--out", out]
        return [*self.command, *self.options.split(), *map(str, rest)]

    def resume(self, out: Path) -> list[str]:
        """The command line that resumes it."""
        return [*self.command, "--resume", "--out", str(out)]


_ON_CPU = "--device cpu --threads 1 --seed 5 --meta-batch-size 2 --hidden-sizes 4"
MAML_TRPO = Learner(
    "maml-trpo",
    ("train", "maml-trpo"),
    f"{_ON_CPU} --env PointRobot:pearl --num-episodes 2 --cg-iterations 2 --line-search-steps 4",
    iterations=8,
    checkpoint_every=2,
)
RL2 = Learner(
    "rl2",
    ("train", "rl2"),
    f"{_ON_CPU} --env GridNavigation:varibad --num-episodes 2 --memory-size 4 --num-minibatches 2 "
    "--normalize-observations",
    iterations=8,
    checkpoint_every=2,
)
FEWSHOT = Learner(
    "fewshot maml",
    ("fewshot", "maml"),
    f"{_ON_CPU} --shots 3 --test-steps 1",
    iterations=200,
    checkpoint_every=50,
)


def fingerprint(path: Path) -> dict[str, object]:
    """Facts that two runs must share: last and best checkpoint, metrics but times, file names."""
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


def kills(learner: Learner, count: int, seed: int, folder: Path) -> list[Row]:
    """Kill runs `count` times, half of them at file operations.

    Returns:
        Two rows: kills at random times, and kills at file operations.
    """
    rng = random.Random(f"{seed} {learner.name}")
    reference = _reference(learner, folder)
    tried = {"moment": 0, "file operation": 0}
    failures: dict[str, list[str]] = {kind: [] for kind in tried}
    number = 0
    while sum(tried.values()) < count:
        number += 1
        trial = _Trial(learner, folder / f"trial_{number}", reference, rng)
        for _ in range(rng.randint(1, 4)):
            kind = min(tried, key=lambda kind: (tried[kind], rng.random()))
            if not trial.kill(kind):
                break
            tried[kind] += 1
            failures[kind] += trial.faults()
            if failures[kind] or sum(tried.values()) == count:
                break
        failures[kind] += trial.finish()
    meaning = (
        "resumes, loses at most the iterations since the last checkpoint, ends in the same bytes"
    )
    return [
        Row(
            f"`{learner.name}`, SIGKILL at a random {kind}",
            tried[kind],
            tried[kind] - len(failures[kind]),
            meaning,
            tuple(failures[kind]),
        )
        for kind in tried
    ]


def _reference(learner: Learner, folder: Path) -> _Reference:
    out, log, dots = folder / "reference", folder / "log", folder / "operations"
    prepare = count_file_operations(out, dots)
    forked = Forked.start(learner.start(out), log, prepare=prepare)
    began = time.perf_counter()
    if forked.wait() != 0:
        raise RuntimeError(f"the reference failed: {log.read_text(encoding='utf-8')}")
    seconds = time.perf_counter() - began
    return _Reference(fingerprint(out), seconds, len(dots.read_bytes()))


class _Trial:
    """One run, killed a few times."""

    def __init__(
        self, learner: Learner, folder: Path, reference: _Reference, rng: random.Random
    ) -> None:
        folder.mkdir()
        self._learner, self._folder, self._reference, self._rng = learner, folder, reference, rng
        self._out, self._log = folder / "run", folder / "log"
        self._last_kept = 0

    def kill(self, kind: str) -> bool:
        """Start or resume the run and kill it; False if it ended before."""
        if kind == "moment":
            forked = Forked.start(self._line(), self._log)
            time.sleep(self._rng.uniform(0, self._reference.seconds))
            forked.send(signal.SIGKILL)
        else:
            at = self._rng.randint(1, self._reference.num_operations)
            prepare = kill_at_file_operation(self._folder, at)
            forked = Forked.start(self._line(), self._log, prepare=prepare)
        return forked.wait() == -signal.SIGKILL

    def faults(self) -> list[str]:
        """The faults of the run after a kill: none, or one sentence."""
        if not self._out.exists():
            return [] if not self._last_kept else [f"{self._out} is gone"]
        try:
            run = RunDirectory.open(self._out)
            kept = int(run.newest_checkpoint().stem.removeprefix("iteration_"))
            logged = max((int(row["iteration"]) for row in read_metrics(run)), default=0)
        except ValueError as error:
            return [f"cannot resume: {error}"]
        if kept < self._last_kept or logged - kept > self._learner.checkpoint_every:
            return [f"{logged} iterations were done, {self._last_kept} kept before, now {kept}"]
        self._last_kept = kept
        return []

    def finish(self) -> list[str]:
        """Let the run end; its faults: none, or one sentence."""
        code = Forked.start(self._line(), self._log).wait()
        output = self._log.read_text(encoding="utf-8")
        if code and "iterations must be more than" not in output:
            return [f"exit code {code}: {output[-300:]}"]
        found, wanted = fingerprint(self._out), self._reference.fingerprint
        differing = [name for name in wanted if found[name] != wanted[name]]
        differing += [p.name for p in self._folder.iterdir() if p.name not in ("run", "log")]
        return [f"{self._folder}: differs in {', '.join(differing)}"] if differing else []

    def _line(self) -> list[str]:
        if self._out.exists():
            return self._learner.resume(self._out)
        return self._learner.start(self._out)
