"""The part of a report about few-shot learners, with a section for each data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metarl.evaluation.comparable import as_comparable
from metarl.evaluation.comparison import comparisons_of
from metarl.evaluation.fewshot_results import FewShotResult
from metarl.fewshot.datasets.catalog import DATASETS
from metarl.report.comparison import comparison_blocks
from metarl.report.fewshot_figures import learning_parts, result_labels, steps_parts
from metarl.report.numbers import score_text
from metarl.report.page import (
    Block,
    Cell,
    Column,
    Figures,
    Heading,
    Measurement,
    Paragraph,
    Part,
    Row,
    Section,
    Table,
    slug,
)
from metarl.report.published import published_figure
from metarl.report.runs import ReportedRun, RunGroup
from metarl.report.tables import (
    Groups,
    facts_table,
    measured_now,
    page_title,
    runs_blocks,
    runs_text,
)

__all__ = ["fewshot_part"]

_FACTS = {
    "num_tasks": "tasks",
    "split": "split of their classes",
    "ways": "classes of a task; regression has one",
    "shots": "support points per class",
    "query": "query points of each task",
    "seed": "seed of the tasks",
    "iterations": "meta-updates of training",
    "trained_on": "episodes of training",
    "net": "the backbone",
    "interval": "the meaning of ±",
    "adaptation": "how a learner adapts to a task",
    "batch_norm": "statistics of batch norm",
    "transductive": "whether query points share information",
    "train_split": "training classes",
}
"""The facts of a protocol that all learners record, in words."""
_TASK_FACTS = ("num_tasks", "split", "ways", "shots", "query", "seed")
_ELSEWHERE = {  # in other tables of the page
    "agent", "environment", "seed", "agent_config", "protocol", "versions", "command", "resumed",
}  # fmt: skip


def fewshot_part(learners: Groups[FewShotResult]) -> Part:
    """The part of a page about few-shot learners, with a section for each data set."""
    runs = runs_blocks(
        learners,
        title="Few-shot runs",
        caption="Training runs of few-shot learners",
        domain="data set",
        extra={
            Column("minutes", "number"): _minutes,
            Column("device"): lambda run: str(run.config.get("device", "")),
        },
    )
    return Part(
        page_title(learners),
        lead=f"Training of {runs_text(learners, 'few-shot ')}, and scores on test tasks with a few "
        "examples: tables, curves and settings.",
        links=[
            ("few-shot-runs", "Few-shot runs"),
            *((slug(dataset), dataset) for dataset in learners),
        ],
        blocks=[*runs, *(_dataset_section(dataset, one) for dataset, one in learners.items())],
    )


def _minutes(run: ReportedRun) -> str:
    seconds = run.metrics[-1].get("time/seconds", 0.0) if run.metrics else 0.0
    return f"{seconds / 60:.1f}"


def _dataset_section(dataset: str, learners: Sequence[RunGroup[FewShotResult]]) -> Section:
    results = [result for learner in learners for result in learner.results]
    labels = result_labels(results)
    blocks: list[Block] = [Heading(2, dataset, id=slug(dataset)), *_description(dataset)]
    blocks += [Paragraph(_finding(result)) for result in results]
    blocks += [Heading(3, "Results"), _results_table(labels)]
    if any(result.has_steps for result in results):
        blocks.append(_steps_table(labels))
    blocks += [
        Paragraph(_results_note(results), is_note=True),
        *comparison_blocks(
            comparisons_of([as_comparable(name, one.measured) for name, one in labels.items()])
        ),
        Heading(3, "Protocol"),
        _protocol_table(labels, learners),
    ]
    blocks += measured_now(learners)
    if curves := [*learning_parts(learners, dataset), *steps_parts(results)]:
        blocks += [Heading(3, "Learning and adaptation"), Figures(curves)]
    blocks += [Heading(3, "Settings"), _settings_table(learners)]
    return Section(slug(dataset), blocks)


def _description(dataset: str) -> list[Paragraph]:
    found = [entry.description for entry in DATASETS if entry.name == dataset]
    return [Paragraph(f"{text[:1].upper()}{text[1:]}.", is_note=True) for text in found]


def _finding(result: FewShotResult) -> str:
    """The result of an evaluation as a sentence."""
    what = "mean squared error" if result.is_error else "accuracy"
    row, protocol = result.usual_row, result.protocol
    start = (
        f"{result.name} on {protocol['num_tasks']:,} {protocol['split']} tasks of "
        f"{result.measured.first.dataset}, {result.tested_on}, query {protocol['query']}: {what}"
    )
    if not result.has_steps:
        return f"{start} {_score_words(result, row)}."
    before, steps = _score_words(result, 0), result.steps[row]
    if steps == 0:
        return f"{start} {before} before adaptation."
    after = "1 step" if steps == 1 else f"{steps} steps"
    return f"{start} {before} before adaptation, {_score_words(result, row)} after {after}."


def _score_words(result: FewShotResult, row: int) -> str:
    score, half = score_text(result, row)
    if result.intervals[row] is None:
        return f"{score} on {half}"
    return f"{score} {half}" if result.is_error else f"{score} {half} %"


def _results_table(labels: Mapping[str, FewShotResult]) -> Table:
    """A row for each result, after the learner's usual number of adaptation steps."""
    results = list(labels.values())
    several = any(len(result.measured.runs) > 1 for result in results)
    columns = [
        Column("learner"),
        Column("tested on"),
        Column("query", "words"),
        Column("tasks × runs", "number"),
        Column("adaptation steps", "words"),
        Column(_metric(results), "number"),
        *([Column("each run", "words")] if several else []),
        Column("batch norm", "words"),
        Column("transductive"),
        Column("published", "words"),
    ]
    rows = [
        Row(label, _result_cells(result, several), begins_group=True)
        for label, result in labels.items()
    ]
    what = "Mean squared error" if results[0].is_error else "Accuracy"
    return Table(f"{what} on unseen tasks, and published results", columns, rows)


def _result_cells(result: FewShotResult, several: bool) -> list[Cell]:
    protocol, row = result.protocol, result.usual_row
    steps = str(result.steps[row]) if result.has_steps else "none"
    if result.has_steps and result.steps[row] == result.usual_steps:
        steps += f", {result.usual_word}"
    published = ""
    if protocol["split"] == "test":
        first, ways, shots = result.measured.first, int(protocol["ways"]), int(protocol["shots"])
        published = published_figure(first.dataset, first.learner, ways, shots)
    return [
        f"{result.tested_on}, {protocol['split']}",
        str(protocol["query"]),
        f"{protocol['num_tasks']:,} × {len(result.measured.runs)}",
        steps,
        Measurement(*score_text(result, row)),
        *([_each_run(result, row)] if several else []),
        str(protocol["batch_norm"]),
        "yes" if protocol["transductive"] else "no",
        published,
    ]


def _each_run(result: FewShotResult, row: int) -> str:
    """The mean of each run, from the rounded scores of files."""
    if result.intervals[row] is None:
        return ""
    scale, digits = (1, 3) if result.is_error else (100, 2)
    return ", ".join(f"{scale * mean:.{digits}f}" for mean in result.measured.scores[row].mean(-1))


def _steps_table(labels: Mapping[str, FewShotResult]) -> Table:
    """A row for each number of adaptation steps, a column for each learner with steps."""
    shown = {label: result for label, result in labels.items() if result.has_steps}
    columns = [Column("adaptation steps"), *(Column(label, "number") for label in shown)]
    rows = []
    for step in sorted({step for result in shown.values() for step in result.steps}):
        cells = [
            Measurement(*score_text(result, result.steps.index(step)))
            if step in result.steps
            else ""
            for result in shown.values()
        ]
        rows.append(Row(str(step), cells))
    metric = _metric(list(shown.values()))
    return Table(f"After each number of adaptation steps: {metric}", columns, rows)


def _metric(results: Sequence[FewShotResult]) -> str:
    return "mean squared error" if results[0].is_error else "accuracy, %"


def _results_note(results: Sequence[FewShotResult]) -> str:
    """The meaning of the numbers and their intervals."""
    tasks = {tuple(result.protocol[key] for key in _TASK_FACTS) for result in results}
    apart = "Results are not all on the same tasks, see below. " if len(tasks) > 1 else ""
    meanings = " Or: ".join(
        f"{text}." for text in dict.fromkeys(str(r.protocol["interval"]) for r in results)
    )
    return (
        f"{apart}Results of the newest checkpoints. Intervals are 95 % intervals: {meanings} "
        "Published results are from the papers, with their training lengths."
    )


def _protocol_table(
    labels: Mapping[str, FewShotResult], learners: Sequence[RunGroup[FewShotResult]]
) -> Table:
    """All facts that affect the scores, a column for each protocol."""
    configs = {result.name: one for one in learners for result in one.results}
    facts = [
        (label, {**result.protocol, **_trained_by(configs[result.name], result.protocol)})
        for label, result in labels.items()
    ]
    return facts_table("Training and evaluation protocol", facts, _FACTS)


def _trained_by(learner: RunGroup[FewShotResult], measured: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of the protocol in config.json that the evaluation does not repeat."""
    stored: Mapping[str, Any] = learner.runs[0].config.get("protocol", {})
    return {
        f"training: {key}": fact
        for key, fact in stored.items()
        if fact not in (measured.get(key), measured.get(f"data_{key}"))
    }


def _settings_table(learners: Sequence[RunGroup[FewShotResult]]) -> Table:
    """Every setting of a run, a column for each learner."""
    settings = []
    for learner in learners:
        config = learner.runs[0].config
        rest = {key: value for key, value in config.items() if key not in _ELSEWHERE}
        settings.append((learner.name, {**config["agent_config"], **rest}))
    title = "Training settings (of the first run, if there are several)"
    return facts_table(title, settings, {})
