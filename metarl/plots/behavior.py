"""Figures of behavior: paths through the plane, and choices over the steps of an episode."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from metarl.evaluation.behavior import Choices, Paths
from metarl.plots.style import (
    INK,
    MUTED,
    PALETTE,
    STYLES,
    figure_style,
    format_number,
    legend_below,
    new_figure,
)

__all__ = ["best_choice_figure", "best_share", "choices_figure", "paths_figure"]

_JITTER_CELLS = 0.15
_MAX_TASKS = 4


def paths_figure(paths: Paths) -> Figure:
    """Paths through the plane, one panel per task, before and after adaptation.

    The oracle's path is dashed; a star marks its end, which has the highest reward.
    """
    num_tasks = len(paths.tasks)
    columns = min(2, num_tasks)
    with figure_style():
        figure = new_figure(rows=-(-num_tasks // columns), columns=columns, height=2.6)
        for axes in figure.axes[num_tasks:]:
            axes.remove()
        for task, axes in enumerate(figure.axes):
            _draw_paths(axes, paths, task)
            _frame(axes, paths)
            returns = " → ".join(format_number(stage[task].mean()) for stage in paths.returns)
            axes.set_title(f"task {task + 1}: {returns}", size=9.5)
        legend_below(figure, figure.axes[0])
    return figure


def best_choice_figure(choices: Choices) -> Figure:
    """Share of choices that agree with the oracle at each step, over all tasks and episodes.

    Raises:
        ValueError: if the family has no oracle.
    """
    shares = best_share(choices)
    steps = np.arange(1, shares.shape[1] + 1)
    with figure_style():
        figure = new_figure()
        (axes,) = figure.axes
        for k, (name, share) in enumerate(zip(choices.stages, shares, strict=True)):
            look = len(choices.stages) - 1 - k  # the last stage has the same style in all figures
            color, (line, _) = PALETTE[look % len(PALETTE)], STYLES[look % len(STYLES)]
            axes.plot(steps, share, color=color, linestyle=line, label=name)
        random = 1 / choices.num_choices
        axes.axhline(random, color=MUTED, linestyle=":", linewidth=1.4, label="random")
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("step of the episode")
        axes.set_ylabel("agreement with the oracle")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
        legend_below(figure, axes)
    return figure


def choices_figure(choices: Choices) -> Figure:
    """Frequency of each action at each step, with a row for each of up to four tasks.

    Columns are stages. A triangle marks the action that the oracle chooses most.
    """
    num_tasks, num_stages = min(_MAX_TASKS, len(choices.tasks)), len(choices.stages)
    with figure_style():
        figure = new_figure(rows=num_tasks, columns=num_stages, height=1.5)
        for panel, axes in enumerate(figure.axes):
            task, stage = divmod(panel, num_stages)
            image = axes.imshow(
                _frequencies(choices, stage, task), vmin=0, vmax=1, cmap="cividis",
                aspect="auto", origin="lower", interpolation="nearest",
                extent=(0.5, choices.chosen.shape[-1] + 0.5, -0.5, choices.num_choices - 0.5),
            )  # fmt: skip
            _mark_best(axes, choices, stage, task)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.tick_params(labelbottom=task == num_tasks - 1, labelleft=stage == 0)
            if task == 0:
                axes.set_title(choices.stages[stage], size=9.5)
            if stage == 0:
                axes.set_ylabel(f"task {task + 1}\naction", size=9.5)
        figure.supxlabel("step of the episode", size=10)
        figure.colorbar(image, ax=figure.axes, label="share of episodes", shrink=0.8, pad=0.02)
    return figure


def best_share(choices: Choices) -> NDArray[np.float64]:
    """Share of tasks × episodes that agree with the oracle, [stages, T]; NaN after all have ended.

    Raises:
        ValueError: if the family has no oracle.
    """
    if choices.best is None:
        raise ValueError("choices must come from a family with an oracle")
    counts = choices.chosen >= 0
    agree = (choices.chosen == choices.best) & counts
    running = counts.sum((1, 2))
    share: NDArray[np.float64] = np.where(
        running, agree.sum((1, 2)) / np.maximum(running, 1), np.nan
    )
    return share


def _frequencies(choices: Choices, stage: int, task: int) -> NDArray[np.float64]:
    """Share of a task's episodes that take each action at each step, [actions, T]."""
    chosen = choices.chosen[stage, task]  # [E, T]
    each = chosen == np.arange(choices.num_choices)[:, None, None]
    running = np.maximum((chosen >= 0).sum(0), 1)
    shares: NDArray[np.float64] = each.sum(1) / running
    return shares


def _mark_best(axes: Axes, choices: Choices, stage: int, task: int) -> None:
    if choices.best is None:
        return
    best = choices.best[stage, task]
    most = np.bincount(best[best >= 0], minlength=choices.num_choices).argmax()
    axes.plot(
        0.99, most, marker="<", markersize=7, color="#ffffff", markeredgecolor="#000000",
        transform=axes.get_yaxis_transform(), clip_on=False,
    )  # fmt: skip


def _draw_paths(axes: Axes, paths: Paths, task: int) -> None:
    """Draw the paths of each stage, later ones on top; on a grid, shift them to stay visible."""
    num_stages, _, num_episodes = paths.returns.shape
    if paths.oracle is not None:
        path = paths.oracle[task, 0]
        path = path[~np.isnan(path[:, 0])]
        axes.plot(
            *path.T, color=INK, linestyle=(0, (2, 2)), linewidth=1.2, label="oracle", zorder=4
        )
        axes.plot(*path[-1], color=INK, marker="*", markersize=11, linestyle="none", zorder=5)
    for stage, name in enumerate(paths.stages):
        color = PALETTE[num_stages - 1 - stage]
        for episode in range(num_episodes):
            path = paths.places[stage, task, episode]
            if paths.is_grid:
                path = path + _shift(stage * num_episodes + episode, num_stages * num_episodes)
            label = name if episode == 0 else None
            axes.plot(
                *path.T, color=color, linewidth=1, alpha=0.8, label=label, zorder=2 + stage / 10
            )
            axes.plot(*path[0], color=MUTED, marker="o", markersize=4, zorder=3)


def _shift(index: int, count: int) -> float:
    """Shift of path `index` out of `count` from the center of its cells, in cells."""
    return _JITTER_CELLS * (2 * (index + 0.5) / count - 1)


def _frame(axes: Axes, paths: Paths) -> None:
    """Show the same part of the plane in every panel, with equal scales."""
    oracle = np.empty((0, 2)) if paths.oracle is None else paths.oracle.reshape(-1, 2)
    points = np.concatenate([paths.places.reshape(-1, 2), oracle])
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    if paths.is_grid:
        low, high = low - 0.5, high + 0.5  # the edges of the cells
        axes.set_xticks(np.arange(low[0], high[0] + 0.5), labels=[])
        axes.set_yticks(np.arange(low[1], high[1] + 0.5), labels=[])
        axes.tick_params(length=0)
    else:
        middle, half = (low + high) / 2, 0.55 * (high - low).max()
        low, high = middle - half, middle + half
        axes.tick_params(labelsize=8)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.grid()
    axes.set_aspect("equal")
