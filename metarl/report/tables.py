"""The parts of a page that agents and few-shot learners share: runs, settings, titles."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metarl.report.kinds import Result
from metarl.report.page import (
    Block,
    Cell,
    Code,
    Column,
    Heading,
    Paragraph,
    Row,
    Table,
    slug,
)
from metarl.report.runs import ReportedRun, RunGroup

__all__ = ["facts_table", "measured_now", "page_title", "runs_blocks", "runs_text"]

Groups = Mapping[str, Sequence[RunGroup[Result]]]
"""Groups of runs by environment or data set."""


def page_title(groups: Groups[Result]) -> str:
    """The names of all groups and of their environments or data sets."""
    names = dict.fromkeys(group.name for domain in groups.values() for group in domain)
    return f"{', '.join(names)} on {', '.join(groups)}"


def runs_text(groups: Groups[Result], adjective: str = "") -> str:
    """The number of runs in words."""
    count = sum(len(group.runs) for domain in groups.values() for group in domain)
    return f"one {adjective}run" if count == 1 else f"{count} {adjective}runs"


def runs_blocks(
    groups: Groups[Result],
    *,
    title: str,
    caption: str,
    domain: str,
    extra: Mapping[Column, Callable[[ReportedRun], str]],
) -> list[Block]:
    """A table of all runs: algorithm, environment or data set, length and command.

    Args:
        groups: the runs.
        title: heading of the table.
        caption: caption of the table.
        domain: heading of the column with environments or data sets.
        extra: additional columns, each with a function that returns the text of a run.
    """
    several = [group for domain in groups.values() for group in domain]
    columns = [
        Column("run"),
        Column(several[0].kind.noun),
        Column(domain),
        Column("seed", "number"),
        Column("iterations", "number"),
        *extra,
        Column("command", "long"),
    ]
    rows = [
        _run_row(run, group.name, [text(run) for text in extra.values()], begins_group=k == 0)
        for group in several
        for k, run in enumerate(group.runs)
    ]
    versions = dict.fromkeys(_versions(run) for group in several for run in group.runs)
    return [
        Heading(2, title, id=slug(title)),
        Table(caption, columns, rows),
        Paragraph(f"Trained with {'; '.join(versions)}.", is_note=True),
    ]


def facts_table(
    caption: str, facts: Iterable[tuple[str, Mapping[str, Any]]], details: Mapping[str, str]
) -> Table:
    """A table of settings or protocol facts, with a column for each distinct set.

    Args:
        caption: caption of the table.
        facts: facts by the label of their runs; equal ones share a column.
        details: explanations, by fact.
    """
    columns: list[tuple[Mapping[str, Any], list[str]]] = []
    for label, own in facts:
        for other, labels in columns:
            if other == own:
                labels.append(label)
                break
        else:
            columns.append((own, [label]))
    names = ["value"] if len(columns) == 1 else [", ".join(labels) for _, labels in columns]
    rows = [
        Row(key, [_value(own, key) for own, _ in columns], details.get(key, ""))
        for key in dict.fromkeys(key for own, _ in columns for key in own)
    ]
    return Table(caption, [Column("setting"), *(Column(name, "words") for name in names)], rows)


def measured_now(groups: Iterable[RunGroup[Result]]) -> list[Paragraph]:
    """A note about the runs that had no current evaluation file, if there are any."""
    paths = ", ".join(path for group in groups for path in group.measured_now)
    text = f"Evaluated for this report, with the defaults of metarl evaluate: {paths}."
    return [Paragraph(text, is_note=True)] if paths else []


def _run_row(run: ReportedRun, name: str, extra: Sequence[str], *, begins_group: bool) -> Row:
    config = run.config
    program, *arguments = config.get("command") or ["unknown"]
    cells: list[Cell] = [
        Code(name),
        Code(config["environment"]),
        str(config["seed"]),
        f"{run.num_iterations:,}",
        *extra,
        Code(shlex.join([Path(program).name, *arguments])),
    ]
    resumed = ", ".join(f"{entry['iteration']:,}" for entry in config.get("resumed", ()))
    detail = f"resumed after {resumed} iterations" if resumed else ""
    return Row(run.path, cells, detail, begins_group)


def _versions(run: ReportedRun) -> str:
    versions = run.config.get("versions", {})
    shown = ", ".join(f"{name} {number}" for name, number in versions.items())
    return shown or "unknown versions"


def _value(facts: Mapping[str, Any], key: str) -> Cell:
    return Code(str(facts[key])) if key in facts else ""
