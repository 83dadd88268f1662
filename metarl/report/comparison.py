"""Tables and sentences about the comparison of two agents or few-shot learners."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table as TerminalTable

from metarl.evaluation.comparable import AnyMetric, Comparable
from metarl.evaluation.comparison import ComparedRow, Comparison
from metarl.report.numbers import counted, interval_text, percent_text, share_interval_text
from metarl.report.page import Block, Cell, Column, Heading, Measurement, Paragraph, Row, Table
from metarl.statistics.estimate import Estimate

__all__ = ["comparison_blocks", "decision", "heading", "meaning", "print_comparison"]

_WORDS: dict[AnyMetric, str] = {
    "return": "return",
    "success": "success rate",
    "accuracy": "accuracy",
    "mse": "mean squared error",
}
_DECIMALS: dict[AnyMetric, int] = {"success": 0, "accuracy": 2}
"""Decimals of metrics that are shown in percent."""
_MANY = (
    "Each pair was measured on common tasks, and its differences are paired. The first row of a "
    "pair is the last stage, or the whole trial; intervals over tasks only hold for these trained "
    "runs. rliable: its stratified bootstrap, for the same tasks."
)
_DIVERGED, _NONE = "diverged", "—"


def print_comparison(console: Console, comparison: Comparison) -> None:
    """A table with a row for each stage, what its intervals are over, and a closing sentence."""
    console.print(heading(comparison), soft_wrap=True, highlight=False)
    table = TerminalTable(box=box.SIMPLE, padding=(0, 1, 0, 0))
    better = _better(comparison)
    for k, name in enumerate(["", "A", "B", "A − B", "95 %", better, "95 %"]):
        table.add_column(name, justify="right" if k else "left")
    for row in comparison.rows:
        table.add_row(*_terminal_cells(comparison, row))
    console.print(table)
    for sentence in (meaning(comparison), decision(comparison)):
        console.print(sentence, soft_wrap=True, highlight=False)


def comparison_blocks(comparisons: Sequence[Comparison]) -> list[Block]:
    """Parts of a page: a table for each metric, and sentences; [] without any."""
    if not comparisons:
        return []
    blocks: list[Block] = [Heading(3, "Comparison")]
    for metric in dict.fromkeys(one.metric for one in comparisons):
        several = [one for one in comparisons if one.metric == metric]
        blocks.append(_page_table(several))
        if len(several) > 1:
            blocks.append(Paragraph(_MANY, is_note=True))
        else:
            blocks += [Paragraph(decision(*several)), Paragraph(meaning(*several), is_note=True)]
    return blocks


def heading(comparison: Comparison) -> str:
    """Both names, the protocol, and what the intervals are over."""
    a, b = comparison.a, comparison.b
    same = a.description == b.description
    protocol = a.description if same else f"A: {a.description}; B: {b.description}"
    return (
        f"{a.domain}, {_WORDS[comparison.metric]}{_unit(comparison.metric)}: A is {a.name} "
        f"({_runs(a)}), B is {b.name} ({_runs(b)}); {protocol}; 95 % intervals over "
        f"{_over(comparison)}"
    )


def meaning(comparison: Comparison) -> str:
    """The meaning of the intervals, and the tasks that A and B have in common."""
    a, b = comparison.a, comparison.b
    counts = f"{_runs(a)} of {a.name} and {_runs(b)} of {b.name}"
    tasks = counted(a.num_tasks, "task")
    if comparison.design == "paired":
        common = f"Paired: {counts} on the same {tasks}"
    elif comparison.design == "paired by run":
        common = f"Paired by run: {counts}, run i of both on the same {tasks}"
    else:
        common = (
            f"Not paired: {counts} on other tasks ({tasks} and {b.num_tasks:,}), so P is for "
            "different tasks; on common tasks the interval is narrower (metarl evaluate --paired "
            "with the same --num-tasks and --seed)"
        )
    over = (
        "Intervals are over tasks only, for these trained runs"
        if _over(comparison) == "tasks only"
        else f"Intervals are for new {_over(comparison).replace(' and ', ' and new ')}"
    )
    row = comparison.rows[comparison.headline]
    rliable = (
        ""
        if row.rliable is None
        else f"; rliable's stratified bootstrap of P over {row.rliable.over} for {row.name}: "
        f"{_bracketed(*share_interval_text(row.rliable))}"
    )
    transductive = [one.name for one in (a, b) if one.is_transductive]
    note = (
        f" Only {transductive[0]} uses statistics of the query set."
        if len(transductive) == 1
        else ""
    )
    return f"{common}. {over}{rliable}.{note}"


def decision(comparison: Comparison) -> str:
    """The result in one sentence, from the row that decides."""
    row, a, b = comparison.rows[comparison.headline], comparison.a.name, comparison.b.name
    measured = f"{_WORDS[comparison.metric]} ({row.name})"
    if row.difference is None or row.improvement is None:
        lost = " and ".join(name for name, mean in ((a, row.a), (b, row.b)) if mean is None)
        return f"The data do not decide: adaptation of {lost} diverged in the row {row.name}."
    size = row.difference if row.difference.value > 0 else _negated(row.difference)
    if not size.has_interval:
        value, _ = _text(comparison.metric, size)
        return f"The data do not decide: the {measured} differs by {value}, without an interval."
    only = ", for these trained runs" if size.over == "tasks" else ""
    if comparison.sign == 0:
        shown = _bracketed(*_text(comparison.metric, row.difference))
        return (
            f"The data do not decide between {a} and {b}: the interval of the difference in "
            f"{measured}, {shown}{_points(comparison.metric)}, contains 0{only}."
        )
    first, second = (a, b) if comparison.sign > 0 else (b, a)
    improvement = row.improvement if comparison.sign > 0 else _complement(row.improvement)
    more = "higher" if comparison.higher_is_better else "lower"
    return (
        f"{first} is better than {second}: its {measured} is {more} by "
        f"{_bracketed(*_text(comparison.metric, size))}{_points(comparison.metric)}, and the "
        f"probability that it is better on a task is "
        f"{_bracketed(*share_interval_text(improvement))}{only}."
    )


def _bracketed(value: str, interval: str) -> str:
    if interval == _NONE:
        return f"{value} (no interval)"
    return f"{value} [{interval.replace(' … ', ', ')}]"


def _page_table(comparisons: Sequence[Comparison]) -> Table:
    first = comparisons[0]
    columns = [
        Column("A − B"),
        Column("A", "number"),
        Column("B", "number"),
        Column("A − B", "number"),
        Column(_better(first), "number"),
        Column(f"{_better(first)} (rliable)", "number"),
    ]
    rows = [
        Row(f"{one.a.name} − {one.b.name}, {row.name}", _page_cells(one, row), begins_group=k == 0)
        for one in comparisons
        for k, row in enumerate(one.rows)
    ]
    over = " or ".join(dict.fromkeys(map(_over, comparisons)))
    caption = (
        f"Comparison on common tasks, {_WORDS[first.metric]}{_unit(first.metric)}, with 95 % "
        f"intervals over {over}"
    )
    return Table(caption, columns, rows)


def _page_cells(comparison: Comparison, row: ComparedRow) -> list[Cell]:
    means: list[Cell] = [
        _DIVERGED if mean is None else Measurement(*_text(comparison.metric, mean))
        for mean in (row.a, row.b)
    ]
    if row.difference is None or row.improvement is None:
        return [*means, "", "", ""]
    return [
        *means,
        Measurement(*_text(comparison.metric, row.difference, signed=True)),
        Measurement(*share_interval_text(row.improvement)),
        "" if row.rliable is None else Measurement(*share_interval_text(row.rliable)),
    ]


def _terminal_cells(comparison: Comparison, row: ComparedRow) -> list[str]:
    means = [
        _DIVERGED if mean is None else _text(comparison.metric, mean)[0] for mean in (row.a, row.b)
    ]
    if row.difference is None or row.improvement is None:
        return [row.name, *means, *[_NONE] * 4]
    difference = _text(comparison.metric, row.difference, signed=True)
    return [row.name, *means, *difference, *share_interval_text(row.improvement)]


def _text(metric: AnyMetric, estimate: Estimate, *, signed: bool = False) -> tuple[str, str]:
    """A value and its interval; success and accuracy in percent."""
    if metric not in _DECIMALS:
        return interval_text(estimate, signed=signed)
    value, interval = percent_text(estimate, _DECIMALS[metric])
    return (f"+{value}" if signed and estimate.value > 0 else value), interval


def _unit(metric: AnyMetric) -> str:
    return " in %" if metric in _DECIMALS else ""


def _points(metric: AnyMetric) -> str:
    return " percentage points" if metric in _DECIMALS else ""


def _better(comparison: Comparison) -> str:
    return "P(A > B)" if comparison.higher_is_better else "P(A < B)"


def _runs(side: Comparable) -> str:
    return counted(len(side.runs), "run")


def _over(comparison: Comparison) -> str:
    """Units of the intervals of the difference."""
    found = [row.difference.over for row in comparison.rows if row.difference is not None]
    single = min(len(comparison.a.runs), len(comparison.b.runs)) == 1
    over = found[0] if found else "tasks" if single else "runs and tasks"
    return "tasks only" if over == "tasks" else over


def _negated(estimate: Estimate) -> Estimate:
    return Estimate(-estimate.value, -estimate.high, -estimate.low, estimate.over)


def _complement(share: Estimate) -> Estimate:
    return Estimate(1 - share.value, 1 - share.high, 1 - share.low, share.over)
