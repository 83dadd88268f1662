"""Figures of few-shot learners for a report, each with its numbers in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from metarl.fewshot.learning_curves import fewshot_learning_figure
from metarl.plot_style import PALETTE, STYLES, figure_svg, legend_below, new_figure, styled
from metarl.scripts.number_text import fixed_text
from metarl.scripts.report_fewshot_runs import FewShotResult, LearnerRuns, result_labels
from metarl.scripts.report_page import figure

__all__ = ["learning_parts", "score_text", "steps_figure", "steps_parts"]

_LEARNING = {
    "validation/accuracy": "accuracy on validation tasks, %",
    "train/accuracy": "accuracy on training tasks, %",
    "meta/query_mse": "mean squared error on training tasks",
}
_MOST_LINES = len(PALETTE)


def score_text(result: FewShotResult, row: int) -> tuple[str, str]:
    """A row's mean and half width, as `metarl evaluate` prints them."""
    interval, scores = result.intervals[row], result.measured.scores[row]
    if interval is None:
        lost = int((~np.isfinite(scores)).any(0).sum())
        return "diverged", f"{lost} of {scores.shape[-1]} tasks"
    scale, digits = (1, 3) if result.is_error else (100, 2)
    half = interval.high - interval.mean
    return fixed_text(interval.mean * scale, digits), f"± {fixed_text(half * scale, digits)}"


def learning_parts(learners: Sequence[LearnerRuns], dataset: str) -> list[str]:
    """Learning curves: as many learners in a figure as there are lines to tell apart."""
    parts = []
    for key, meaning in _LEARNING.items():
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


def _line_name(learner: str, seed: str, several_learners: bool, several_seeds: bool) -> str:
    """What tells a line apart."""
    if several_learners and several_seeds:
        return f"{learner}, {seed}"
    return learner if several_learners else seed


def _by_lines(counts: Mapping[str, int]) -> list[list[str]]:
    """Learners in groups, each of as many lines as there are looks, if a learner has not more."""
    groups: list[list[str]] = []
    room = 0
    for name, count in counts.items():
        if count > room:
            groups.append([])
            room = _MOST_LINES
        groups[-1].append(name)
        room -= count
    return groups


def _learning(
    title: str, meaning: str, key: str, seeds: Mapping[str, Sequence[Mapping[str, float]]]
) -> str:
    scale, digits = (1, 3) if key.endswith("mse") else (100, 2)
    sentences = [f"Line chart of {meaning}, against iterations."]
    for name, rows in seeds.items():
        first, last = (fixed_text(rows[k][key] * scale, digits) for k in (0, -1))
        length = f"{int(rows[-1]['iteration']):,} iterations"
        sentences.append(f"{name}: from {first} to {last} after {length}.")
    svg = figure_svg(fewshot_learning_figure(seeds, title))
    runs = "one run" if len(seeds) == 1 else f"{len(seeds)} runs, a line for each"
    caption = f"Learning curve, {runs}: {meaning}."
    return figure(svg, alt=" ".join(sentences), caption=caption)


def _first_key(rows: Sequence[Mapping[str, float]]) -> str | None:
    return next((key for key in _LEARNING if rows and key in rows[0]), None)


def _seeds(learner: LearnerRuns, key: str) -> dict[str, list[dict[str, float]]]:
    """The metrics of each seed whose learning is told by this key."""
    return {
        f"seed {run.config['seed']}": run.metrics
        for run in learner.runs
        if _first_key(run.metrics) == key
    }


def steps_parts(results: Sequence[FewShotResult]) -> list[str]:
    """Adaptation curves, a figure for each kind of tasks; none where no learner takes steps."""
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
        far = "; lines leave it where errors grow without bound" if _leaves(group) else ""
        text = _steps_text(labels)
        parts.append(figure(svg, alt=text, caption=f"{caption}{level}{far}."))
    return parts


def _leaves(results: Sequence[FewShotResult]) -> bool:
    """Whether a mean error is larger than the figure shows, or none."""
    top = _error_limits(results)[1]
    intervals = [interval for result in results for interval in result.intervals]
    return results[0].is_error and any(i is None or i.mean > top for i in intervals)


def steps_figure(results: Mapping[str, FewShotResult], title: str) -> Figure:
    """Accuracy in per cent, or error, by adaptation steps; a level for learners without steps.

    Errors stand on a logarithmic axis that ends where an error is ten times that before adaptation.
    A line is broken where adaptation diverged.

    Args:
        results: by name, on tasks of one kind.
        title: above the axes.
    """
    with styled():
        plot = new_figure()
        (axes,) = plot.axes
        for k, (name, result) in enumerate(results.items()):
            _draw(axes, name, result, k)
        is_error = all(result.is_error for result in results.values())
        if is_error:
            axes.set_yscale("log")
            axes.set_ylim(*_error_limits(results.values()))
        axes.set_xlabel("adaptation steps")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel("mean squared error" if is_error else "accuracy, %")
        axes.set_title(title)
        axes.grid(axis="y")
        legend_below(plot, axes)
    return plot


def _error_limits(results: Iterable[FewShotResult]) -> tuple[float, float]:
    """Room for the smallest mean, and for ten times the largest before adaptation."""
    curves = [[i.mean for i in result.intervals if i is not None] for result in results]
    positive = [mean for means in curves for mean in means if mean > 0]
    first = max((means[0] for means in curves if means), default=1.0)
    low = min(positive, default=0.1)
    return low / 2, max(min(2 * max(positive, default=1.0), 10 * first), 2 * low)


def _draw(axes: Axes, name: str, result: FewShotResult, index: int) -> None:
    scale = 1 if result.is_error else 100
    lost = (np.nan, np.nan, np.nan)
    rows = scale * np.array([lost if i is None else tuple(i) for i in result.intervals])
    color = PALETTE[index % len(PALETTE)]
    line, marker = STYLES[(index + index // len(PALETTE)) % len(STYLES)]  # no look comes twice
    if not result.has_steps:
        mean, low, high = rows[0]
        axes.axhline(mean, color=color, linestyle=line, label=name)
        axes.axhspan(low, high, color=color, alpha=0.12, linewidth=0)
        return
    means, low, high = rows.T
    axes.plot(result.steps, means, color=color, linestyle=line, marker=marker, label=name)
    axes.fill_between(result.steps, low, high, color=color, alpha=0.2, linewidth=0)


def _steps_text(results: Mapping[str, FewShotResult]) -> str:
    """Every number of the figure."""
    first = next(iter(results.values()))
    what = "the mean squared error" if first.is_error else "the accuracy in per cent"
    sentences = [f"Line chart of {what} by adaptation steps."]
    for name, result in results.items():
        points = []
        for row, step in enumerate(result.steps):
            score, half = score_text(result, row)
            words = f"{score} {half}" if result.intervals[row] else f"{score} on {half}"
            points.append(f"{step}: {words}" if result.has_steps else f"without steps {words}")
        sentences.append(f"{name}: {'; '.join(points)}.")
    return " ".join(sentences)
