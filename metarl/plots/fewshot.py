"""Figures of few-shot learners."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogFormatter, MaxNLocator

from metarl.evaluation.fewshot_results import FewShotResult
from metarl.plots.style import PALETTE, STYLES, figure_style, legend_below, new_figure

__all__ = ["LEARNING_METRICS", "error_limits", "fewshot_learning_figure", "steps_figure"]


_AXIS = "time/iterations"
LEARNING_METRICS = {
    "validation/accuracy": "accuracy on validation tasks, %",
    "train/accuracy": "accuracy on training tasks, %",
    "meta/query_mse": "mean squared error on training tasks",
}
"""Metrics for learning curves; a curve shows the first of them that a run has."""


def fewshot_learning_figure(
    seeds: Mapping[str, Sequence[Mapping[str, float]]], title: str
) -> Figure:
    """Accuracy, or error on a logarithmic axis, against iterations; a line for each seed.

    Args:
        seeds: rows of `metrics.jsonl`, by seed.
        title: title of the axes.

    Raises:
        ValueError: if there are no seeds, or a seed has no metrics of a few-shot learner.
    """
    known = [
        key for key in LEARNING_METRICS if seeds and all(r and key in r[0] for r in seeds.values())
    ]
    if not known:
        raise ValueError("each seed must have at least one row of metrics of a few-shot learner")
    key = known[0]
    is_error = key == "meta/query_mse"
    with figure_style():
        figure = new_figure()
        (axes,) = figure.axes
        for k, (name, rows) in enumerate(seeds.items()):
            values = [row[key] * (1 if is_error else 100) for row in rows]
            color, (line, _) = PALETTE[k % len(PALETTE)], STYLES[k % len(STYLES)]
            label = name if len(seeds) > 1 else None
            axes.plot(
                [row[_AXIS] for row in rows], values, color=color, linestyle=line, label=label
            )
        if is_error:
            _set_log_scale(axes)
        axes.set_xlabel("iterations")
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.set_ylabel(LEARNING_METRICS[key])
        axes.set_title(title)
        axes.grid(axis="y")
        legend_below(figure, axes)
    return figure


def steps_figure(results: Mapping[str, FewShotResult], title: str) -> Figure:
    """Accuracy in percent, or error, by adaptation steps; learners without steps are levels.

    Errors have a logarithmic axis, which ends at ten times the error before adaptation. Lines have
    gaps at steps after which adaptation diverged.

    Args:
        results: results by name, on the same kind of tasks.
        title: title of the axes.
    """
    with figure_style():
        plot = new_figure()
        (axes,) = plot.axes
        for k, (name, result) in enumerate(results.items()):
            _draw(axes, name, result, k)
        is_error = all(result.is_error for result in results.values())
        if is_error:
            _set_log_scale(axes)
            axes.set_ylim(*error_limits(results.values()))
        axes.set_xlabel("adaptation steps")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel("mean squared error" if is_error else "accuracy, %")
        axes.set_title(title)
        axes.grid(axis="y")
        legend_below(plot, axes)
    return plot


class _PlainFormatter(LogFormatter):
    """Labels such as 0.3 and 20, at the ticks that `LogFormatter` labels."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:.4g}" if super().__call__(x, pos) else ""


def _set_log_scale(axes: Axes) -> None:
    """Use a logarithmic vertical axis with plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_PlainFormatter())
    axes.yaxis.set_minor_formatter(_PlainFormatter(minor_thresholds=(1, 0.4)))


def error_limits(results: Iterable[FewShotResult]) -> tuple[float, float]:
    """Limits of a logarithmic axis for errors.

    They are half the smallest mean and twice the largest, but at most ten times the largest mean
    before adaptation.
    """
    curves = [[i.value for i in result.intervals if i is not None] for result in results]
    positive = [mean for means in curves for mean in means if mean > 0]
    first = max((means[0] for means in curves if means), default=1.0)
    low = min(positive, default=0.1)
    return low / 2, max(min(2 * max(positive, default=1.0), 10 * first), 2 * low)


def _draw(axes: Axes, name: str, result: FewShotResult, index: int) -> None:
    scale = 1 if result.is_error else 100
    lost = (np.nan, np.nan, np.nan)
    rows = scale * np.array([lost if i is None else i[:3] for i in result.intervals])
    color = PALETTE[index % len(PALETTE)]
    line, marker = STYLES[(index + index // len(PALETTE)) % len(STYLES)]  # all styles differ
    if not result.has_steps:
        mean, low, high = rows[0]
        axes.axhline(mean, color=color, linestyle=line, label=name)
        axes.axhspan(low, high, color=color, alpha=0.12, linewidth=0)
        return
    means, low, high = rows.T
    axes.plot(result.steps, means, color=color, linestyle=line, marker=marker, label=name)
    axes.fill_between(result.steps, low, high, color=color, alpha=0.2, linewidth=0)
