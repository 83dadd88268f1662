"""The report page of one or more runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from metarl.console import plain_console
from metarl.devices import DeviceName
from metarl.progress import Activity, Progress, ignore_progress
from metarl.report.agents import agents_part
from metarl.report.fewshot import fewshot_part
from metarl.report.kinds import AGENT, LEARNER
from metarl.report.page import render_page
from metarl.report.runs import group_runs, read_runs
from metarl.storage.files import require_output_file, write_output
from metarl.storage.provenance import library_versions

__all__ = ["ReportConfig", "report", "write_report"]


@dataclass(frozen=True)
class ReportConfig:
    """Write a self-contained page about runs: tables, curves, and the behavior of the agents.

    Runs that differ only in their seed are shown as one agent, with intervals over its runs. Runs
    without a current evaluation file are evaluated with the defaults of `metarl evaluate`. Agents
    and few-shot learners can share a page.
    """

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN ...", help_behavior_hint="(required)"),
    ]
    """Folders of runs, of several seeds, or of published results."""
    out: Path
    """File for the page; it is replaced if it exists."""
    behavior: bool = True
    """Show the behavior of the agents; videos take about a minute."""
    device: DeviceName = "auto"
    """Device of the agents."""

    def __post_init__(self) -> None:
        require_output_file("out", self.out)


def write_report(
    runs: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    behavior: bool = True,
    device: DeviceName = "auto",
    progress: bool = True,
) -> Path:
    """Write a page about runs, as `metarl report` does.

    Args:
        runs: folders of one or more runs.
        out: file for the page; it is replaced if it exists.
        behavior: whether to show the behavior of the agents.
        device: device of the agents.
        progress: show the progress: a bar on a terminal, otherwise lines on standard error if it
            takes long.

    Returns:
        The file.

    Raises:
        ValueError: if a folder is not a run, or is damaged.
    """
    several = [runs] if isinstance(runs, str | Path) else runs
    config = ReportConfig(tuple(map(Path, several)), Path(out), behavior, device)
    with Activity("reading runs", plain_console(quiet=not progress)) as activity:
        page = report(config, progress=activity)
    write_output(config.out, page.encode())
    return config.out


def report(config: ReportConfig, *, progress: Progress = ignore_progress) -> str:
    """The page as HTML.

    Args:
        config: the runs and what is shown of them.
        progress: called before each part of the work.

    Raises:
        ValueError: if a folder is not a run, or is damaged.
    """
    groups = read_runs(config.runs, device=config.device, progress=progress)
    parts = []
    if agents := group_runs(groups, AGENT):
        part = agents_part(
            agents, behavior=config.behavior, device=config.device, progress=progress
        )
        parts.append(part)
    if learners := group_runs(groups, LEARNER):
        progress("drawing figures of few-shot learners")
        parts.append(fewshot_part(learners))
    versions = ", ".join(f"{name} {number}" for name, number in library_versions().items())
    return render_page(parts, footer=f"Written by metarl report with {versions}.")
