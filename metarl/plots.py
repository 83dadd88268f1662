"""Figures of adaptation and learning; each function returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from metarl.evaluation import Evaluation

__all__ = ["adaptation_figure", "learning_figure"]


def adaptation_figure(evaluation: Evaluation) -> Figure:
    """Return against adaptation steps with 95 % intervals, random and oracle as lines."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    steps = range(evaluation.num_steps + 1)
    intervals = [evaluation.interval(evaluation.returns[k]) for k in steps]
    means = [i.mean for i in intervals]
    below = [i.mean - i.low for i in intervals]
    above = [i.high - i.mean for i in intervals]
    axes.plot(steps, evaluation.returns, color="tab:blue", alpha=0.15, linewidth=0.8)
    axes.errorbar(steps, means, (below, above), marker="o", capsize=4, color="tab:blue",
                  label=f"mean of {len(evaluation.tasks)} tasks, 95 % interval")  # fmt: skip
    axes.axhline(evaluation.random.mean(), color="tab:gray", linestyle=":", label="random")
    if evaluation.oracle is not None:
        axes.axhline(evaluation.oracle.mean(), color="tab:green", linestyle="--", label="oracle")
    axes.set_xticks(list(steps))
    axes.set_xlabel("gradient steps on the task")
    axes.set_ylabel("return of an episode")
    axes.set_title(f"{evaluation.environment}, {evaluation.split} tasks")
    axes.legend()
    return figure


def learning_figure(metrics: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Returns before and after adaptation against environment steps of training.

    Args:
        metrics: one mapping per iteration, as `metrics.jsonl` holds them.
        title: above the axes.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    steps = [row["time/env_steps"] for row in metrics]
    for key, label in (
        ("rollout/support_return", "before adaptation"),
        ("rollout/query_return", "after adaptation"),
    ):
        axes.plot(steps, [row[key] for row in metrics], label=label)
    axes.set_xlabel("environment steps, all tasks")
    axes.set_ylabel("return of an episode")
    axes.set_title(title)
    axes.legend()
    return figure
