"""Several runs that differ only in their seeds: directory, names and training.

The directory holds seeds.json with the shared settings, and a run for each seed: seed_0, seed_1, …
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metarl.runs.loop import TrainingStopped
from metarl.storage.files import create_whole, locked, read_json_object, write_atomically

__all__ = [
    "SEEDS_FILE",
    "TrainedRun",
    "create_seeds",
    "existing_seeds",
    "expanded",
    "has_started",
    "holds_seeds",
    "require_one_experiment",
    "run_names",
    "train_seeds",
]

SEEDS_FILE = "seeds.json"


def holds_seeds(path: Path) -> bool:
    """Whether a directory holds several seeds."""
    return (path / SEEDS_FILE).is_file()


def has_started(path: Path) -> bool:
    """Whether the run in a directory has started."""
    return (path / "config.json").is_file()


def expanded(word: str) -> list[str]:
    """The runs in a directory of several seeds, in their order; other words are returned as is.

    Raises:
        ValueError: if no seed has started.
    """
    if not holds_seeds(Path(word)):
        return [word]
    folders = [path.parent for path in Path(word).glob("seed_*/config.json")]
    if not folders:
        raise ValueError(f"run {word} has no seed that has started")
    return [str(path) for path in sorted(folders, key=lambda path: (len(path.name), path.name))]


class TrainedRun(NamedTuple):
    """The facts that determine whether runs belong to one experiment."""

    settings: Any
    num_iterations: int
    seed: int


def require_one_experiment(words: Sequence[str], runs: Sequence[TrainedRun]) -> None:
    """Reject runs that differ in more than their seed, since they will be averaged.

    Checkpoint files may have different numbers of iterations, such as the best of several seeds.

    Args:
        words: the directories or checkpoints.
        runs: the run of each.
    """
    facts: list[tuple[str, list[Any]]] = [("settings", [run.settings for run in runs])]
    if all(Path(word).is_dir() for word in words):
        facts.append(("iterations", [run.num_iterations for run in runs]))
    for name, found in facts:
        for word, other in zip(words, found, strict=True):
            if other != found[0]:
                difference = _difference(name, (words[0], found[0]), (word, other))
                raise ValueError(
                    f"targets must have the same {name}, as runs of one experiment do, but "
                    f"{difference}; evaluate them separately"
                )
    seeds = [run.seed for run in runs]
    if len({*seeds}) < len(seeds):
        raise ValueError(
            f"targets must have different seeds, as runs of one experiment do, got seeds "
            f"{', '.join(map(str, seeds))}; evaluate them separately"
        )


def _difference(name: str, one: tuple[str, Any], other: tuple[str, Any]) -> str:
    """The first setting that differs, with both values and targets."""
    (first, held), (second, found) = one, other
    if dataclasses.is_dataclass(held) and type(held) is type(found):
        names = (each.name for each in dataclasses.fields(held))
        pairs = ((each, getattr(held, each), getattr(found, each)) for each in names)
        name, held, found = next(pair for pair in pairs if pair[1] != pair[2])
    return f"{name} is {held!r} in {first} and {found!r} in {second}"


def run_names(words: Sequence[str]) -> list[str]:
    """Paths relative to their common folder, so that they do not depend on the machine."""
    if not all(Path(word).exists() for word in words):
        return list(words)
    paths = [Path(word).absolute() for word in words]
    parent = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(parent).as_posix() for path in paths]


def create_seeds(out: Path, described: Mapping[str, Any]) -> None:
    """Create a directory for several seeds.

    Args:
        out: the directory.
        described: the shared settings, including the number of `seeds`.

    Raises:
        ValueError: if the path exists.
    """
    content = _content(described)
    create_whole(out, lambda new: write_atomically(new / SEEDS_FILE, content))


def existing_seeds(out: Path) -> Path:
    """The file with the shared settings of several seeds.

    Raises:
        ValueError: if the directory does not hold several seeds.
    """
    if not holds_seeds(out):
        file = out / SEEDS_FILE
        raise ValueError(f"run must have several seeds, but there is no {file}; omit --seeds")
    return out / SEEDS_FILE


def train_seeds(
    out: Path,
    seeds: Sequence[int],
    train_one: Callable[[int, Path], None],
    *,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Train several runs, one after another; an error in one does not stop the others.

    Args:
        out: directory of the seeds.
        seeds: the seeds, in the order of training.
        train_one: starts or continues the run of one seed in a directory.
        changes: settings that replace the stored ones in seeds.json.

    Raises:
        TrainingStopped: immediately after a signal; after the other seeds if a seed stopped early
            or has damaged files.
        ValueError: if another process holds the directory, or all seeds fail for the same reason.
    """
    ends: dict[int, Exception] = {}
    with locked(out):
        if changes is not None:
            file = out / SEEDS_FILE
            write_atomically(file, _content({**read_json_object(file), **changes}))
        for seed in seeds:
            try:
                train_one(seed, out / f"seed_{seed}")
            except TrainingStopped as stop:
                if stop.exit_code != 1:
                    raise
                ends[seed] = stop
            except ValueError as error:
                ends[seed] = error
    sentences = {str(end) for end in ends.values()}
    if len(sentences) == 1 and len(ends) == len(seeds):  # the same for all seeds
        raise ends[seeds[0]]
    if ends:
        raise TrainingStopped(" | ".join(f"seed {seed}: {ends[seed]}" for seed in ends), 1)


def _content(described: Mapping[str, Any]) -> bytes:
    return json.dumps(described, indent=2).encode()
