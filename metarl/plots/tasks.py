"""Figures of tasks and their scores: returns against task parameters, performance profiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metarl.evaluation.results import Evaluation
from metarl.plots.adaptation import agent_labels
from metarl.plots.style import (
    MUTED,
    PALETTE,
    STYLES,
    figure_style,
    legend_below,
    new_figure,
    padded_range,
)
from metarl.statistics.bootstrap import Scores
from metarl.statistics.profiles import PerformanceProfile, performance_profiles
from metarl.tasks.spaces import Tasks

__all__ = ["profile_figure", "profile_scores", "select_parameters", "task_figure"]

_MAX_PANELS = 4
_NUM_THRESHOLDS = 101


def task_figure(evaluation: Evaluation) -> Figure:
    """The return on each task before and after adaptation, against the task's parameters.

    Each panel shows one parameter; if there are more than four, the four that correlate best with
    the return after adaptation. Returns are means over runs that have the same tasks.
    """
    last = evaluation.protocol.adaptation_steps
    before, after = (evaluation.task_scores(stage) for stage in (0, last))
    tasks = evaluation.task_parameters
    shown = select_parameters(tasks, after)
    count = tasks.shape[1]
    with figure_style():
        figure = new_figure(rows=-(-len(shown) // 2), columns=min(2, len(shown)))
        if len(shown) == 1:
            figure.set_figheight(3.4)
        for axes, parameter in zip(figure.axes, shown, strict=False):
            at = tasks[:, parameter]
            if last:
                axes.vlines(at, before, after, color=MUTED, linewidth=0.6, alpha=0.6)
            _draw_points(axes, at, before, evaluation.stages[0], 1, hollow=True)
            if last:
                _draw_points(axes, at, after, evaluation.stages[last], 0)
            axes.set_xlabel("task" if count == 1 else f"task parameter {parameter + 1} of {count}")
            axes.grid()
        for empty in figure.axes[len(shown) :]:
            empty.remove()
        for axes in figure.axes[:: min(2, len(shown))]:
            axes.set_ylabel("return")
        figure.suptitle(f"{evaluation.environment}, {evaluation.protocol.split} tasks", size=10.5)
        legend_below(figure, figure.axes[0])
    return figure


def select_parameters(tasks: Tasks, returns: Scores) -> list[int]:
    """The parameters of tasks [N, D] to show: all, or the four closest to the returns [N].

    Closeness is the absolute correlation of ranks.
    """
    num_parameters = tasks.shape[1]
    if num_parameters <= _MAX_PANELS:
        return list(range(num_parameters))
    ranks = tasks.argsort(0).argsort(0) - (len(tasks) - 1) / 2
    ranked = returns.argsort().argsort() - (len(tasks) - 1) / 2
    closeness = np.abs(ranks.T @ ranked)
    return sorted(int(k) for k in np.argsort(-closeness, kind="stable")[:_MAX_PANELS])


def profile_figure(evaluations: Sequence[Evaluation]) -> Figure:
    """The share of runs and tasks whose return is above a threshold, for every threshold.

    For one agent before and after adaptation, for several after it; bands are pointwise 95 %
    intervals.

    Raises:
        ValueError: if there are no evaluations.
    """
    if not evaluations:
        raise ValueError("evaluations must have at least one entry, got none")
    scores = profile_scores(evaluations)
    low, high = padded_range([float(v) for matrix in scores.values() for v in matrix.flat])
    thresholds = np.linspace(low, high, _NUM_THRESHOLDS)
    seed = evaluations[0].protocol.seed
    with figure_style():
        figure = new_figure()
        (axes,) = figure.axes
        for k, (label, profile) in enumerate(
            performance_profiles(scores, thresholds, seed=seed).items()
        ):
            _draw_profile(axes, label, profile, k)
        axes.set_xlabel("return τ")
        axes.set_ylabel("share of runs × tasks above τ")
        axes.set_ylim(-0.02, 1.02)
        axes.set_title(evaluations[0].environment)
        axes.grid()
        legend_below(figure, axes)
    return figure


def profile_scores(evaluations: Sequence[Evaluation]) -> dict[str, Scores]:
    """The returns [runs, tasks] behind each curve of `profile_figure`."""
    if len(evaluations) == 1:
        (only,) = evaluations
        last = only.protocol.adaptation_steps
        return {only.stages[stage]: only.scores(stage) for stage in sorted({0, last}, reverse=True)}
    return {
        label: evaluation.scores(evaluation.protocol.adaptation_steps)
        for label, evaluation in agent_labels(evaluations).items()
    }


def _draw_points(
    axes: Axes, at: Scores, returns: Scores, label: str, index: int, *, hollow: bool = False
) -> None:
    color, (_, marker) = PALETTE[index], STYLES[index]
    face = "none" if hollow else color
    axes.plot(
        at, returns, linestyle="none", marker=marker, markersize=4.5, color=color,
        markerfacecolor=face, label=label,
    )  # fmt: skip


def _draw_profile(axes: Axes, label: str, profile: PerformanceProfile, index: int) -> None:
    color, (line, _) = PALETTE[index % len(PALETTE)], STYLES[index % len(STYLES)]
    axes.plot(profile.thresholds, profile.fractions, color=color, linestyle=line, label=label)
    axes.fill_between(
        profile.thresholds, profile.low, profile.high, color=color, alpha=0.2, linewidth=0
    )
