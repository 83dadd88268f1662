"""A disk that is really full: commands write to a small file system in memory (Linux, as root)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from metarl.runs.directory import RunDirectory
from metarl.scripts.faults.kills import TinyRun
from metarl.scripts.faults.processes import CommandResult, Row, run_command

__all__ = ["fill_disk"]

_SIZE, _LARGER = "100k", "200k"
_ITERATIONS = "100000"


def fill_disk(tiny_run: TinyRun, run: Path, home: Path) -> list[Row]:
    """Train until a disk is full, resume after it was enlarged, and write other outputs to it.

    Args:
        tiny_run: the training run.
        run: a complete run, which other commands read.
        home: folder for the mount point.

    Returns:
        A row for training and one for the other commands; none if mounting is not allowed.
    """
    disk = home / "disk"
    disk.mkdir()
    with _mounted(disk) as is_mounted:
        if not is_mounted:
            return []
        out = disk / "run"
        long = ["--iterations", _ITERATIONS, "--log-every", "1"]
        problem = _full(run_command([*tiny_run.start(out), *long]), disk)
        _mount("-o", f"remount,size={_LARGER}", str(disk))
        before = RunDirectory.open(out).newest_checkpoint()
        problem = problem or _full(run_command([*tiny_run.resume(out), *long[:2]]), disk)
        if not problem and RunDirectory.open(out).newest_checkpoint() == before:
            problem = f"training did not continue from {before.name}"
        _fill(disk)
        found = [_full(run_command(line), disk) for line in _outputs(run, disk)]
        left = [path.name for path in disk.iterdir() if path.name not in ("run", "filler")]
        found.append(f"left {left}" if left else "")
    return [
        _row(f"`{tiny_run.name}`: small disk, twice full", "the last checkpoint intact", [problem]),
        _row("outputs of other commands on a full disk", "no partial file", found),
    ]


def _outputs(run: Path, disk: Path) -> list[list[str]]:
    measure = ["evaluate", str(run), "--num-tasks", "2", "--device", "cpu"]
    return [
        [*measure, "--json", str(disk / "a.json")],
        [*measure, "--json", "/dev/null", "--plot", str(disk / "a.png")],
        ["report", str(run), "--out", str(disk / "a.html"), "--no-behavior", "--device", "cpu"],
        ["play", str(run), "--out", str(disk / "a.gif"), "--frames", "2", "--device", "cpu"],
    ]


def _full(result: CommandResult, disk: Path) -> str:
    """A description of the difference to exit code 1 and one sentence that names a file."""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("training, ")]
    problem = result._replace(stderr="\n".join(lines)).rejection_problem(1)
    if not problem and not (str(disk) in result.stderr and "No space left" in result.stderr):
        problem = f"the message names no file on the disk: {result.stderr}"
    return problem


def _fill(disk: Path) -> None:
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"0" * 512)


@contextmanager
def _mounted(folder: Path) -> Iterator[bool]:
    """A small file system in memory on a folder; False if it cannot be mounted."""
    is_mounted = _mount("-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(folder))
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", str(folder)], check=True)


def _mount(*words: str) -> bool:
    try:
        return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _row(fault: str, also: str, problems: Sequence[str]) -> Row:
    failures = tuple(problem for problem in problems if problem)
    required = f"one sentence that names the file, exit code 1, {also}"
    return Row(fault, len(problems), len(problems) - len(failures), required, failures)
