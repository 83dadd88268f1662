"""Parts of every published result: its runs, metrics and provenance."""

from __future__ import annotations

import json
import platform
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metarl.runs.directory import RunDirectory
from metarl.runs.seeds import expanded
from metarl.storage.checkpoints import read_header
from metarl.storage.renamed import RENAMED_SETTINGS
from metarl.storage.settings import settings_agree

__all__ = [
    "open_seeds",
    "provenance",
    "refresh_command",
    "require_equal_training",
    "require_measured_runs",
    "write_thinned",
]

_MAX_LINES = 200


def open_seeds(runs: Sequence[Path]) -> list[RunDirectory]:
    """Open the runs of one experiment; a directory of several seeds contributes all of them.

    Raises:
        ValueError: if there are none, they differ in more than their seeds, or seeds are repeated.
    """
    directories = [RunDirectory.open(Path(one)) for path in runs for one in expanded(str(path))]
    configs = [directory.config() for directory in directories]
    kinds = ("agent", "environment", "agent_config", "dataset_options")
    pairs = [(c.get(kind), configs[0].get(kind)) for c in configs for kind in kinds]
    if not pairs or not all(settings_agree(one, first) for one, first in pairs):
        raise ValueError("runs must be seeds of one agent, environment and configuration")
    seeds = [config["seed"] for config in configs]
    if len({*seeds}) < len(seeds):
        raise ValueError(f"runs must have distinct seeds, got {', '.join(map(str, seeds))}")
    return directories


def require_measured_runs(
    file: Path, runs: Sequence[RunDirectory], agent: str, measured: tuple[str, Sequence[str]]
) -> None:
    """Reject an evaluation of other runs.

    Args:
        file: evaluation file, for messages.
        runs: the runs to publish.
        agent: their agent.
        measured: agent and names of the runs in the evaluation.

    Raises:
        ValueError: if the agent or a run differs.
    """
    measured_agent, found = measured
    wanted = [run.path.name for run in runs]
    if measured_agent != agent or sorted(Path(name).name for name in found) != sorted(wanted):
        raise ValueError(
            f"{file} must be an evaluation of {agent}, runs {', '.join(wanted)}, got "
            f"{measured_agent}, runs {', '.join(found)}"
        )


def require_equal_training(runs: Sequence[RunDirectory]) -> int:
    """The number of training iterations, which must be the same for all runs.

    Raises:
        ValueError: if it differs, or a run has no readable checkpoint.
    """
    lengths = [
        int(read_header(run.newest_checkpoint())["counters"]["num_iterations"]) for run in runs
    ]
    if len({*lengths}) > 1:
        raise ValueError(f"runs must have the same number of iterations, got {lengths}")
    return lengths[0]


def write_thinned(file: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write metrics as JSON lines, thinned to about 200 rows including the last."""
    every = -(-len(rows) // _MAX_LINES)
    kept = [row for k, row in enumerate(rows) if k % every == 0 or k == len(rows) - 1]
    file.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")


def provenance(configs: Sequence[Mapping[str, Any]], num_iterations: int, seconds: float) -> str:
    """Command, commit, seeds, hardware and time of a result in one line.

    Args:
        configs: config.json of all seeds; the first one provides the command.
        num_iterations: iterations of one seed.
        seconds: wall time of one seed.
    """
    command = _command(configs[0])
    seeds = ", ".join(str(config["seed"]) for config in configs)
    commits = dict.fromkeys(
        str(part.get("commit") or "unknown")
        for config in configs
        for part in (config, *config.get("resumed", []))
    )
    return (
        f"`{command}` (commit {', '.join(commits)}, seeds {seeds}, "
        f"{platform.machine()} CPU, {configs[0]['device']}; {num_iterations} iterations, "
        f"{seconds / 60:.0f} minutes of wall time for one seed)\n"
    )


def refresh_command(folder: Path) -> None:
    """Write the command in the README of a published folder with the present names of options."""
    file = folder / "README.md"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = file.read_text(encoding="utf-8")
    command = _command(config)
    file.write_text(re.sub("`[^`]*`", lambda _: f"`{command}`", text, count=1), encoding="utf-8")


def _command(config: Mapping[str, Any]) -> str:
    """The command of a run; options that have been renamed have their present names."""
    options = {
        "--" + old.replace("_", "-"): "--" + new.replace("_", "-")
        for old, new in RENAMED_SETTINGS.get(config["agent"], {}).items()
    }
    words = [options.get(word, word) for word in config["command"][1:]]
    command = shlex.join(["metarl", *words])
    return command.replace("--inner-objective likelihood_ratio", "--estimator lvc")
