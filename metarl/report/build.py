"""The report of several runs: one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from metarl.devices import DeviceName
from metarl.report.behaviour import behaviour_blocks
from metarl.report.fewshot import fewshot_part
from metarl.report.fewshot_runs import group_fewshot_runs, is_fewshot, read_fewshot_runs
from metarl.report.page import Block, Part, render_page, slug
from metarl.report.runs import AgentRuns, group_runs, read_runs, require_runs
from metarl.report.sections import environment_section
from metarl.report.tables import runs_blocks
from metarl.storage.files import require_output_file, write_output
from metarl.storage.provenance import library_versions

__all__ = ["ReportConfig", "report", "write_report"]


@dataclass(frozen=True)
class ReportConfig:
    """Write one self-contained page about runs: tables, curves, and what the agents do.

    Runs that differ in their seed only are shown as one agent, with intervals over its runs. Those
    without an evaluation.json are measured as `metarl evaluate` does by itself. Few-shot runs may
    stand beside runs of agents.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Directories of runs."""
    out: Path
    """The page's file; it is replaced if it exists."""
    behaviour: bool = True
    """Show what the agents do; videos take a minute."""
    device: DeviceName = "auto"
    """Where the agents compute."""

    def __post_init__(self) -> None:
        require_output_file("out", self.out)


def write_report(
    runs: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    behaviour: bool = True,
    device: DeviceName = "auto",
) -> Path:
    """Write one page about runs, as `metarl report` does.

    Args:
        runs: folders of one or more runs.
        out: the page's file; it is replaced if it exists.
        behaviour: show what the agents do.
        device: where the agents compute.

    Returns:
        The file.

    Raises:
        ValueError: if a folder holds no run, or what it holds is damaged.
    """
    several = [runs] if isinstance(runs, str | Path) else runs
    config = ReportConfig(tuple(map(Path, several)), Path(out), behaviour, device)
    write_output(config.out, report(config).encode())
    return config.out


def report(config: ReportConfig) -> str:
    """The page.

    Raises:
        ValueError: if a directory holds no run, or what it holds is damaged.
    """
    require_runs(config.runs)
    fewshot = [path for path in config.runs if is_fewshot(path)]
    others = [path for path in config.runs if path not in fewshot]
    parts = []
    if others:
        agents = group_runs(read_runs(others, device=config.device))
        parts.append(_agents_part(agents, config))
    if fewshot:
        learners = group_fewshot_runs(read_fewshot_runs(fewshot, device=config.device))
        parts.append(fewshot_part(learners))
    versions = ", ".join(f"{name} {number}" for name, number in library_versions().items())
    return render_page(parts, footer=f"Written by metarl report with {versions}.")


def _agents_part(agents: Mapping[str, Sequence[AgentRuns]], config: ReportConfig) -> Part:
    """All about the runs of agents, by environment."""
    sections: list[Block] = runs_blocks(agents)
    for environment, groups in agents.items():
        behaviour = behaviour_blocks(groups, device=config.device) if config.behaviour else []
        sections.append(environment_section(environment, groups, behaviour))
    return Part(
        _title(agents),
        lead=_lead(agents),
        links=[("runs", "Runs"), *((slug(environment), environment) for environment in agents)],
        blocks=sections,
    )


def _title(agents: Mapping[str, Sequence[AgentRuns]]) -> str:
    names = dict.fromkeys(group.name for groups in agents.values() for group in groups)
    return f"{', '.join(names)} on {', '.join(agents)}"


def _lead(agents: Mapping[str, Sequence[AgentRuns]]) -> str:
    num_runs = sum(len(group.runs) for groups in agents.values() for group in groups)
    runs = "one run" if num_runs == 1 else f"{num_runs} runs"
    return (
        f"How {runs} learnt, and how they adapt to tasks never seen in training: tables first, "
        "then curves, single tasks and behaviour."
    )
