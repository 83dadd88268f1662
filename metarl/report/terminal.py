"""Tables of an evaluation for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from metarl.evaluation.fewshot_results import MeasuredRuns, tasks_in_words
from metarl.evaluation.files import AnyEvaluation
from metarl.evaluation.measured import Metric
from metarl.evaluation.results import Evaluation
from metarl.report import words
from metarl.report.numbers import half_text, interval_text, percent_text, share_text
from metarl.statistics.estimate import Estimate
from metarl.statistics.numbers import fixed_text, number_text

__all__ = ["print_table", "print_evaluation"]


def print_table(console: Console, measured: MeasuredRuns) -> None:
    """The protocol in words, and a row for each number of adaptation steps."""
    protocol, first = measured.protocol, measured.first
    for name, fact in protocol.items():
        console.print(f"{name}: {fact}", soft_wrap=True, highlight=False)
    num_runs = len(measured.runs)
    runs = f" × {num_runs} runs" if num_runs > 1 else ""
    title = (
        f"{first.dataset}, {first.learner}, {tasks_in_words(first.metric, protocol)}, "
        f"{protocol['num_tasks']} {protocol['split']} tasks{runs}"
    )
    console.print(title, soft_wrap=True, highlight=False)
    table = Table(box=box.SIMPLE)
    is_error = first.metric == "mse"
    table.add_column("steps", justify="right")
    table.add_column("query MSE" if is_error else "accuracy %", justify="right")
    table.add_column("±", justify="right")
    if num_runs > 1:
        table.add_column("each run", justify="right")
    scale, digits = (1, 3) if is_error else (100, 2)
    rows = zip(first.steps, measured.intervals(), measured.scores, strict=True)
    for step, interval, scores in rows:
        if interval is None:
            lost = (~np.isfinite(scores)).any(0).sum()
            cells = ["diverged", f"{lost} of {scores.shape[-1]} tasks"]
        else:
            mean = fixed_text(interval.value * scale, digits)
            cells = [mean, half_text(interval, scale, digits)]
        if num_runs > 1:
            means = scores.mean(-1)
            cells.append("  ".join(fixed_text(mean * scale, digits) for mean in means))
        table.add_row(str(step), *cells)
    console.print(table)


def print_evaluation(console: Console, evaluation: AnyEvaluation) -> None:
    """Tables of an evaluation, with an explanation of their intervals.

    Agents have a table for the return and, if the family defines it, one for success.
    """
    if isinstance(evaluation, MeasuredRuns):
        print_table(console, evaluation)
        return
    for metric in evaluation.metrics:
        console.print(_table(evaluation, metric))
    if len(evaluation.runs) > 1:
        console.print(_own_means(evaluation), soft_wrap=True, highlight=False)
    console.print(_meaning_of_intervals(evaluation), soft_wrap=True, highlight=False)
    console.print(words.finding(evaluation), soft_wrap=True, highlight=False)


def _table(evaluation: Evaluation, metric: Metric) -> Table:
    count = len(evaluation.runs)
    runs = f"{count} runs of {evaluation.agent}" if count > 1 else evaluation.agent
    table = Table(
        title=f"{evaluation.environment}, {runs}: "
        f"{evaluation.protocol.describe(evaluation.tasks_in_words)}",
        title_justify="left",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    name = "return" if metric == "return" else "success %"
    headings = ("", name, "95 %", "IQM", "gain", "95 %", "gap closed")
    rows = [[*row, *[""] * (len(headings) - len(row))] for row in _rows(evaluation, metric)]
    own_rows = [row for row in rows if row[0] != "oracle"]
    shown = [k for k in range(len(headings)) if k == 0 or any(row[k] for row in own_rows)]
    for k in shown:
        table.add_column(headings[k], justify="right" if k else "left")
    for row in rows:
        table.add_row(*(row[k] for k in shown))
    return table


def _rows(evaluation: Evaluation, metric: Metric) -> Iterator[list[str]]:
    """The cells of each row, without empty ones at its end."""
    for other in _others(evaluation, metric):
        yield [other, *_reference_cells(evaluation, other, metric)]
    for stage, label in enumerate(evaluation.stages):
        yield [label, *_stage_cells(evaluation, stage, metric)]
    if metric == "return" and (together := evaluation.trial_returns) is not None:
        cells = _cells(
            evaluation.estimate(together), evaluation.interquartile_estimate(together), metric
        )
        yield ["all episodes", *cells]
        for other in evaluation.totals:
            middle = evaluation.interquartile_estimate(evaluation.total(other))
            cells = _cells(evaluation.total_estimate(other), middle, metric)
            yield [f"{other}, all episodes", *cells]
    if "oracle" in evaluation.references and _has(evaluation, "oracle", metric):
        cells = _reference_cells(evaluation, "oracle", metric)
        yield ["oracle", *cells, "", "", "100%" if metric == "return" else ""]


def _others(evaluation: Evaluation, metric: Metric) -> list[str]:
    """References above the rows of the stages."""
    names = (name for name in evaluation.references if name != "oracle")
    return [name for name in names if _has(evaluation, name, metric)]


def _has(evaluation: Evaluation, name: str, metric: Metric) -> bool:
    return metric == "return" or evaluation.references[name].success is not None


def _reference_cells(evaluation: Evaluation, name: str, metric: Metric) -> list[str]:
    middle = evaluation.interquartile_estimate(evaluation.reference(name, metric))
    return _cells(evaluation.reference_estimate(name, metric), middle, metric)


def _cells(mean: Estimate, middle: Estimate, metric: Metric) -> list[str]:
    return [*_shown(mean, metric), _shown(middle, metric)[0]]


def _stage_cells(evaluation: Evaluation, stage: int, metric: Metric) -> list[str]:
    scores = evaluation.scores(stage, metric)
    cells = _cells(
        evaluation.estimate(scores, metric), evaluation.interquartile_estimate(scores), metric
    )
    if stage == 0:
        return cells
    closed = evaluation.gap_closed(stage) if metric == "return" else None
    gain = _shown(evaluation.gain(stage, metric), metric)
    return [*cells, *gain, share_text(closed)]


def _shown(estimate: Estimate, metric: Metric) -> tuple[str, str]:
    """Value and interval; success in percent."""
    return interval_text(estimate) if metric == "return" else percent_text(estimate)


def _own_means(evaluation: Evaluation) -> str:
    """The mean return of each run at the last stage, or over the trial."""
    together = evaluation.trial_returns
    label = evaluation.stages[-1] if together is None else "all episodes"
    scores = evaluation.scores(len(evaluation.stages) - 1) if together is None else together
    means = (number_text(float(mean)) for mean in scores.mean(-1))
    return f"return of each run, {label}: {', '.join(means)}"


def _meaning_of_intervals(evaluation: Evaluation) -> str:
    """The meaning of the intervals, and rliable's for the interquartile mean."""
    middle = evaluation.interquartile_estimate(evaluation.scores(len(evaluation.stages) - 1))
    value, interval = interval_text(middle)
    return (
        f"{words.interval_meaning(evaluation)}. IQM: mean of the middle half of runs and tasks; "
        f"rliable's stratified bootstrap over {middle.over} for {evaluation.stages[-1]}: {value} "
        f"[{interval}]."
    )
