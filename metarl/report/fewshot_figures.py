"""Figures of few-shot learners for a report, each with its numbers in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metarl.evaluation.fewshot_results import FewShotResult
from metarl.plots.fewshot import (
    LEARNING_METRICS,
    error_limits,
    fewshot_learning_figure,
    steps_figure,
)
from metarl.plots.style import PALETTE, figure_svg
from metarl.report.numbers import score_text
from metarl.report.page import Figure
from metarl.report.runs import RunGroup
from metarl.statistics.numbers import fixed_text

__all__ = ["learning_parts", "result_labels", "steps_parts"]


_MAX_LINES = len(PALETTE)


def learning_parts(learners: Sequence[RunGroup[FewShotResult]], dataset: str) -> list[Figure]:
    """Learning curves, split into figures with at most one line per color."""
    parts = []
    for key, meaning in LEARNING_METRICS.items():
        curves = {learner.name: _seeds(learner, key) for learner in learners}
        for names in _by_lines({name: len(seeds) for name, seeds in curves.items() if seeds}):
            several = len(names) > 1
            lines = {
                _line_name(name, seed, several, len(curves[name]) > 1): rows
                for name in names
                for seed, rows in curves[name].items()
            }
            title = dataset if several else f"{dataset}, {names[0]}"
            parts.append(_learning(title, meaning, key, lines))
    return parts


def result_labels(results: Sequence[FewShotResult]) -> dict[str, FewShotResult]:
    """Results by a distinct name: the learner, then the parts of test and runs that differ."""
    labels: dict[str, FewShotResult] = {}
    for result in results:
        rivals = [_label_parts(r) for r in results if r is not result and r.name == result.name]
        words = [result.name]
        for k, part in enumerate(_label_parts(result)):
            if any(rival[k] != part for rival in rivals):
                words.append(part)
                rivals = [rival for rival in rivals if rival[k] == part]
        label = ", ".join(words)
        labels[f"{label} ({len(labels) + 1})" if label in labels else label] = result
    return labels


def _label_parts(result: FewShotResult) -> tuple[str, ...]:
    protocol, runs = result.protocol, " and ".join(result.measured.runs[:2])
    return result.tested_on, f"query {protocol['query']}", f"{protocol['split']} tasks", runs


def _line_name(learner: str, seed: str, several_learners: bool, several_seeds: bool) -> str:
    """The label of a line."""
    if several_learners and several_seeds:
        return f"{learner}, {seed}"
    return learner if several_learners else seed


def _by_lines(counts: Mapping[str, int]) -> list[list[str]]:
    """Groups of learners with at most `_MAX_LINES` lines, unless one learner alone has more."""
    groups: list[list[str]] = []
    room = 0
    for name, count in counts.items():
        if count > room:
            groups.append([])
            room = _MAX_LINES
        groups[-1].append(name)
        room -= count
    return groups


def _learning(
    title: str, meaning: str, key: str, seeds: Mapping[str, Sequence[Mapping[str, float]]]
) -> Figure:
    scale, digits = (1, 3) if key.endswith("mse") else (100, 2)
    sentences = [f"Line chart of {meaning}, against iterations."]
    for name, rows in seeds.items():
        first, last = (fixed_text(rows[k][key] * scale, digits) for k in (0, -1))
        length = f"{int(rows[-1]['iteration']):,} iterations"
        sentences.append(f"{name}: from {first} to {last} after {length}.")
    svg = figure_svg(fewshot_learning_figure(seeds, title))
    runs = "one run" if len(seeds) == 1 else f"{len(seeds)} runs, a line for each"
    caption = f"Learning curve, {runs}: {meaning}."
    return Figure(svg, alt=" ".join(sentences), caption=caption)


def _first_key(rows: Sequence[Mapping[str, float]]) -> str | None:
    return next((key for key in LEARNING_METRICS if rows and key in rows[0]), None)


def _seeds(learner: RunGroup[FewShotResult], key: str) -> dict[str, list[dict[str, float]]]:
    """The metrics of each seed whose learning curve shows this key."""
    return {
        f"seed {run.config['seed']}": run.metrics
        for run in learner.runs
        if _first_key(run.metrics) == key
    }


def steps_parts(results: Sequence[FewShotResult]) -> list[Figure]:
    """Adaptation curves, a figure for each kind of tasks on which a learner takes steps."""
    kinds: dict[tuple[str, ...], list[FewShotResult]] = {}
    for result in results:
        test = (result.tested_on, str(result.protocol["query"]), str(result.protocol["split"]))
        kinds.setdefault(test, []).append(result)
    parts = []
    for (tested_on, query, split), group in kinds.items():
        if not any(result.has_steps for result in group):
            continue
        labels, dataset = result_labels(group), group[0].measured.first.dataset
        what = "Mean squared error" if group[0].is_error else "Accuracy"
        svg = figure_svg(steps_figure(labels, f"{dataset}, {tested_on}, {split} tasks"))
        caption = (
            f"{what} on {split} tasks, {tested_on}, query {query}, by the number of adaptation "
            "steps, with 95 % intervals"
        )
        flat = [name for name, result in labels.items() if not result.has_steps]
        level = f"; {', '.join(flat)} without steps as a level" if flat else ""
        far = "; lines leave the figure if errors diverge" if _leaves(group) else ""
        text = _steps_text(labels)
        parts.append(Figure(svg, alt=text, caption=f"{caption}{level}{far}."))
    return parts


def _leaves(results: Sequence[FewShotResult]) -> bool:
    """Whether a mean error is infinite or larger than the figure shows."""
    top = error_limits(results)[1]
    intervals = [interval for result in results for interval in result.intervals]
    return results[0].is_error and any(i is None or i.value > top for i in intervals)


def _steps_text(results: Mapping[str, FewShotResult]) -> str:
    """Every number of the figure."""
    first = next(iter(results.values()))
    what = "the mean squared error" if first.is_error else "the accuracy in percent"
    sentences = [f"Line chart of {what} by adaptation steps."]
    for name, result in results.items():
        points = []
        for row, step in enumerate(result.steps):
            score, half = score_text(result, row)
            words = f"{score} {half}" if result.intervals[row] else f"{score} on {half}"
            points.append(f"{step}: {words}" if result.has_steps else f"without steps {words}")
        sentences.append(f"{name}: {'; '.join(points)}.")
    return " ".join(sentences)
