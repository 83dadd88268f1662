"""What every published result needs, whatever was trained: its runs, metrics and provenance."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metarl.runs.directory import RunDirectory
from metarl.runs.seeds import expanded
from metarl.storage.checkpoints import read_header
from metarl.storage.settings import settings_agree

__all__ = [
    "open_seeds",
    "provenance",
    "require_equal_training",
    "require_measured_runs",
    "write_thinned",
]

_MOST_LINES = 200


def open_seeds(runs: Sequence[Path]) -> list[RunDirectory]:
    """The runs of one experiment; a directory of several seeds stands for all of them.

    Raises:
        ValueError: if there is none, they differ in more than their seeds, or two have the same.
    """
    directories = [RunDirectory.open(Path(one)) for path in runs for one in expanded(str(path))]
    configs = [directory.config() for directory in directories]
    kinds = ("agent", "environment", "agent_config", "dataset_options")
    pairs = [(c.get(kind), configs[0].get(kind)) for c in configs for kind in kinds]
    if not pairs or not all(settings_agree(one, first) for one, first in pairs):
        raise ValueError("runs must be seeds of one agent, environment and configuration")
    seeds = [config["seed"] for config in configs]
    if len({*seeds}) < len(seeds):
        raise ValueError(f"runs must have seeds of their own, got {', '.join(map(str, seeds))}")
    return directories


def require_measured_runs(
    file: Path, runs: Sequence[RunDirectory], agent: str, measured: tuple[str, Sequence[str]]
) -> None:
    """Refuse an evaluation of others than these.

    Args:
        file: of the evaluation, for messages.
        runs: that are published.
        agent: what they are of.
        measured: what the evaluation says it is of, and the names of its runs.

    Raises:
        ValueError: if the agent or a run differs.
    """
    of, found = measured
    wanted = [run.path.name for run in runs]
    if of != agent or sorted(Path(name).name for name in found) != sorted(wanted):
        raise ValueError(
            f"{file} must be of {agent} and the runs {', '.join(wanted)}, it is of {of} and "
            f"{', '.join(found)}"
        )


def require_equal_training(runs: Sequence[RunDirectory]) -> int:
    """The iterations that all have been trained for.

    Raises:
        ValueError: if they differ, or a run has no checkpoint that can be read.
    """
    lengths = [
        int(read_header(run.newest_checkpoint())["counters"]["num_iterations"]) for run in runs
    ]
    if len({*lengths}) > 1:
        raise ValueError(f"runs must be trained alike, got {lengths} iterations")
    return lengths[0]


def write_thinned(file: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write metrics as JSON lines, 200 or so and the last."""
    every = -(-len(rows) // _MOST_LINES)
    kept = [row for k, row in enumerate(rows) if k % every == 0 or k == len(rows) - 1]
    file.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")


def provenance(configs: Sequence[Mapping[str, Any]], num_iterations: int, seconds: float) -> str:
    """The command, commit, seeds, hardware and time of a result in one line.

    Args:
        configs: of all seeds; the command is the first one's.
        num_iterations: of one seed.
        seconds: that one seed took.
    """
    command = shlex.join(["metarl", *configs[0]["command"][1:]])
    seeds = ", ".join(str(config["seed"]) for config in configs)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return (
        f"`{command}` (commit {commit or 'unknown'}, seeds {seeds}, "
        f"{platform.machine()} CPU, {configs[0]['device']}; {num_iterations} iterations, "
        f"{seconds / 60:.0f} minutes of wall time for one seed)\n"
    )
