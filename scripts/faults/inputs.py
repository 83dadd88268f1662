"""Damaged checkpoints and malformed configurations, which must all be rejected."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from metarl.runs.directory import RunDirectory
from metarl.scripts.faults.kills import FEWSHOT, MAML_TRPO
from metarl.scripts.faults.processes import Row, run_command

__all__ = ["corrupt_configs", "damage_checkpoints"]

_REJECTED = "one sentence, exit code 2, nothing written"


def damage_checkpoints(count: int, seed: int, folder: Path) -> list[Row]:
    """Damage the newest checkpoint of a run, then resume and evaluate that run."""
    rng = random.Random(f"{seed} checkpoints")
    run = _finished_run(folder / "run", seed=5)
    other = _finished_run(folder / "other", seed=6)
    few = folder / "few"
    run_command(FEWSHOT.start(few))
    foreign = [other.newest_checkpoint(), RunDirectory.open(few).newest_checkpoint()]
    newest, before = run.newest_checkpoint(), run.checkpoint_path(6)
    kinds = _damages(rng, newest.read_bytes(), before, foreign)
    failures: dict[str, list[str]] = {kind: [] for kind in kinds}
    tried = dict.fromkeys(kinds, 0)
    for number in range(count):
        kind = list(kinds)[number % len(kinds)]
        tried[kind] += 1
        content = kinds[kind]()
        with _replaced(newest, content), _unchanged(folder, failures[kind], f"{kind} {number}"):
            line = MAML_TRPO.resume(run.path) if number % 2 else ["evaluate", str(run.path)]
            result = run_command(line)
            problem = result.rejection_problem()
            if not problem and f"the newest intact checkpoint is {before}" not in result.stderr:
                problem = f"does not name {before.name}: {result.stderr}"
            failures[kind] += [f"{kind} {number}: {problem}"] if problem else []
    return [
        Row(f"checkpoint: {kind}", tried[kind], tried[kind] - len(failures[kind]),
            f"{_REJECTED}, the newest good one named", tuple(failures[kind]))
        for kind in kinds if tried[kind]
    ]  # fmt: skip


def _damages(
    rng: random.Random, content: bytes, before: Path, foreign: list[Path]
) -> dict[str, Callable[[], bytes]]:
    def flipped() -> bytes:
        altered, place = bytearray(content), rng.randrange(8 * len(content))
        altered[place // 8] ^= 1 << place % 8
        return bytes(altered)

    def overwritten() -> bytes:
        start = rng.randrange(len(content) - 16)
        blank = bytes(rng.randrange(256) for _ in range(16))
        return content[:start] + blank + content[start + 16 :]

    def pickled() -> bytes:
        buffer = io.BytesIO()
        torch.save({"weight": torch.zeros(rng.randint(1, 5))}, buffer)
        return buffer.getvalue()

    return {
        "one bit flipped": flipped,
        "cut off": lambda: content[: rng.randrange(len(content))],
        "bytes overwritten": overwritten,
        "bytes added": lambda: content + bytes(rng.randint(1, 64)),
        "an earlier one in its place": before.read_bytes,
        "one of another run": lambda: rng.choice(foreign).read_bytes(),
        "written by torch.save": pickled,
    }


def corrupt_configs(count: int, seed: int, folder: Path) -> list[Row]:
    """Corrupt a run's config.json, then resume the run."""
    rng = random.Random(f"{seed} configs")
    run = _finished_run(folder / "run", seed=5)
    file = run.path / "config.json"
    good = json.loads(file.read_text(encoding="utf-8"))
    failures: list[str] = []
    for number in range(count):
        content = _corrupted(good, rng)
        with _replaced(file, content), _unchanged(folder, failures, f"config {number}"):
            result = run_command([*MAML_TRPO.resume(run.path), "--iterations", "9"])
            problem = result.rejection_problem()
            failures += [f"{content[:200]!r}: {problem}"] if problem else []
    return [Row("malformed config.json", count, count - len(failures), _REJECTED, tuple(failures))]


def _corrupted(good: dict[str, Any], rng: random.Random) -> bytes:
    """The content of a config.json with one error."""
    text, config = json.dumps(good), json.loads(json.dumps(good))
    required = ["agent", "environment", "seed", "agent_config"]
    numbers = ["seed", "iterations", "checkpoint_every", "threads"]
    part = rng.choice([config, config["agent_config"]])
    kind = rng.randrange(6)
    if kind == 0:
        return text[: rng.randrange(len(text))].encode()
    if kind == 1:
        return rng.choice([b"[]", b"3", b"null", b"\xff\xfe\x00", b"[" * 100_000, b"{}", b'"x"'])
    if kind == 2:
        del config[rng.choice(required)]
    elif kind == 3:
        name = rng.choice(list(part if part is not config else [*required, *numbers]))
        wrong: list[Any] = [{"x": 1}, [[1]], "no such thing", None if part is config else {}]
        part[name] = rng.choice(wrong)
    elif kind == 4:
        config[rng.choice(numbers)] = rng.choice([-1, -7, 1.5, True])
    else:
        config["agent_config"][rng.choice(["no_such_setting", "gama", "lr"])] = rng.choice([1, "x"])
    return json.dumps(config).encode()


def _finished_run(path: Path, *, seed: int) -> RunDirectory:
    """A run with checkpoints after 4, 6 and 8 iterations."""
    if not path.exists():
        result = run_command([*MAML_TRPO.start(path), "--seed", str(seed)])
        if result.exit_code:
            raise RuntimeError(f"the run to damage failed: {result.stderr}")
    return RunDirectory.open(path)


@contextmanager
def _replaced(file: Path, content: bytes) -> Iterator[None]:
    """Replace the content of a file, and restore it afterwards."""
    kept = file.with_name(f"{file.name}.kept")
    file.rename(kept)
    file.write_bytes(content)
    try:
        yield
    finally:
        kept.replace(file)


@contextmanager
def _unchanged(folder: Path, failures: list[str], case: str) -> Iterator[None]:
    """Record a failure if the block changes a file, and remove the new folder."""
    before = _contents(folder)
    yield
    after = _contents(folder)
    if before != after:
        differing = {str(path) for path in before.keys() ^ after.keys()}
        failures.append(f"{case} changed {sorted(differing) or 'a file'}")
        shutil.rmtree(folder / "new", ignore_errors=True)


def _contents(folder: Path) -> dict[Path, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files}
