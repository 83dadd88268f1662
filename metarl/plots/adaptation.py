"""Figures of learning and adaptation; each function returns a matplotlib figure.

`metarl.plots.tasks` has figures of single tasks, `metarl.plots.behavior` of behavior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from metarl.evaluation.measured import Metric
from metarl.evaluation.results import Evaluation
from metarl.plots.style import INK, MUTED, PALETTE, STYLES, figure_style, legend_below, new_figure
from metarl.statistics.bootstrap import Scores
from metarl.statistics.estimate import Estimate
from metarl.statistics.intervals import student_band

__all__ = [
    "adaptation_figure",
    "agent_labels",
    "learning_curves_figure",
    "learning_figure",
    "on_common_steps",
    "learning_metrics",
]

Rows: TypeAlias = Sequence[Mapping[str, float]]
"""One mapping per iteration, as `metrics.jsonl` holds them."""

_AXIS = "time/env_steps"
_BEFORE, _AFTER = "rollout/support_return", "rollout/query_return"
_TRIAL = "rollout/trial_return"
_MAX_POINTS = 200


def adaptation_figure(evaluations: Sequence[Evaluation], metric: Metric = "return") -> Figure:
    """Return against adaptation steps or episodes, one line per agent, with 95 % intervals.

    Random actions, the oracle and other references are horizontal lines with bands. If the stages
    of all agents have the same names, the horizontal axis shows them, otherwise the number of
    earlier episodes.

    Args:
        evaluations: one or more evaluations on the same environment.
        metric: return, or success if the family defines it.

    Raises:
        ValueError: if there are none, they differ in environment, or success is not defined.
    """
    _require_one_environment(evaluations)
    with figure_style():
        figure = new_figure()
        (axes,) = figure.axes
        same = len({evaluation.stages for evaluation in evaluations}) == 1
        references = _references(evaluations, metric)
        for k, (name, estimate) in enumerate(references.items()):
            _draw_level(axes, name, estimate, k)
        for k, (label, evaluation) in enumerate(agent_labels(evaluations).items()):
            protocol = evaluation.protocol
            stages = range(protocol.num_stages)
            at = [float(s if same else protocol.episodes_before(s)) for s in stages]
            means = [evaluation.estimate(evaluation.scores(s, metric), metric) for s in stages]
            _draw_estimates(axes, label, at, means, k)
        axes.set_xlabel("" if same else "earlier episodes of the task")
        if same:
            stage_names = evaluations[0].stages
            axes.set_xticks(range(len(stage_names)), stage_names)
            axes.set_xlim(-0.25, len(stage_names) - 0.75)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel("return of an episode" if metric == "return" else "share of successes")
        axes.set_title(f"{evaluations[0].environment}, {_splits(evaluations)} tasks")
        axes.grid(axis="y")
        legend_below(figure, axes)
    return figure


def learning_figure(metrics: Rows, title: str) -> Figure:
    """One run: returns before and after adaptation against environment steps of training.

    For an agent with a memory, these are the returns of a trial's first and last episode.

    Args:
        metrics: one mapping per iteration, as `metrics.jsonl` holds them.
        title: title of the axes.
    """
    return learning_curves_figure({"": [metrics]}, title)


def learning_metrics(seeds: Sequence[Rows]) -> dict[str, str]:
    """The metrics of one agent's learning curves, by label: returns, or its first metric."""
    rows = [row for metrics in seeds for row in metrics]
    if not rows[0].keys() >= {_BEFORE, _AFTER}:
        first = next(name for name in rows[0] if "/" in name)
        return {first.split("/")[1].replace("_", " "): first}
    if _TRIAL not in rows[0]:
        return {"before adaptation": _BEFORE, "after adaptation": _AFTER}
    if all(row[_TRIAL] == row[_AFTER] for row in rows):
        return {"the episode": _AFTER}
    return {"first episode": _BEFORE, "last episode": _AFTER}


def learning_curves_figure(agents: Mapping[str, Sequence[Rows]], title: str = "") -> Figure:
    """Returns against environment steps of training, the mean over seeds with 95 % intervals.

    For one agent, the figure shows the returns before and after adaptation (with a memory: of the
    first and the last episode, if there are two), for several agents the returns after it. For
    agents with other metrics, it shows their first metric. Curves end with an agent's shortest
    run. Intervals are over seeds, so a single run has none.

    Args:
        agents: metrics of one or more seeds, by agent.
        title: title of the axes.

    Raises:
        ValueError: if there are no agents, or an agent has no metrics.
    """
    if not agents or not all(seeds and all(seeds) for seeds in agents.values()):
        raise ValueError("each agent must have at least one run, and each run metrics")
    metrics = [learning_metrics(seeds) for seeds in agents.values()]
    if len(agents) > 1:
        metrics = [{"": _AFTER} if _AFTER in named.values() else named for named in metrics]
    are_returns = all(_AFTER in named.values() for named in metrics)
    with figure_style():
        figure = new_figure()
        (axes,) = figure.axes
        for k, ((name, seeds), keys) in enumerate(zip(agents.items(), metrics, strict=True)):
            for when, key in keys.items():
                label = when if len(agents) == 1 else name
                style = k if len(agents) > 1 else int(key == _BEFORE)
                _draw_curve(axes, label, seeds, key, style)
        axes.set_xlabel("environment steps of training, all tasks")
        axes.xaxis.set_major_formatter(EngFormatter())
        label = "return of an episode" if len(agents) == 1 else "return after adaptation"
        axes.set_ylabel(label if are_returns else "training metric")
        axes.set_title(title)
        axes.grid(axis="y")
        legend_below(figure, axes)
    return figure


def agent_labels(evaluations: Sequence[Evaluation]) -> dict[str, Evaluation]:
    """Evaluations by a distinct name: the agent, if necessary followed by split and runs."""
    for parts in (("agent",), ("agent", "split"), ("agent", "split", "runs")):
        labels = [_label(evaluation, parts) for evaluation in evaluations]
        if len(set(labels)) == len(labels):
            break
    else:
        labels = [f"{label} ({k + 1})" for k, label in enumerate(labels)]
    return dict(zip(labels, evaluations, strict=True))


def _label(evaluation: Evaluation, parts: Sequence[str]) -> str:
    texts = {
        "agent": evaluation.agent,
        "split": f"{evaluation.protocol.split} tasks",
        "runs": " and ".join(evaluation.runs[:2]),
    }
    return ", ".join(texts[part] for part in parts)


def _splits(evaluations: Sequence[Evaluation]) -> str:
    names = dict.fromkeys(evaluation.protocol.split for evaluation in evaluations)
    return " and ".join(names)


def _references(evaluations: Sequence[Evaluation], metric: Metric) -> dict[str, Estimate]:
    """Random, oracle and other references, each from the first evaluation that has it."""
    found: dict[str, Estimate] = {}
    for evaluation in evaluations:
        for name, other in evaluation.references.items():
            if name not in found and (metric == "return" or other.success is not None):
                found[name] = evaluation.reference_estimate(name, metric)
    return found


def _draw_level(axes: Axes, name: str, estimate: Estimate, index: int) -> None:
    """A horizontal line with a band; random and oracle look the same in every figure."""
    looks = {"random": (MUTED, ":"), "oracle": (INK, "--")}
    color, line = looks.get(name, (PALETTE[-1 - index % len(PALETTE)], "-."))
    axes.axhline(estimate.value, color=color, linestyle=line, linewidth=1.4, label=name)
    if estimate.has_interval:
        axes.axhspan(estimate.low, estimate.high, color=color, alpha=0.12, linewidth=0)


def _draw_estimates(
    axes: Axes, label: str, at: Sequence[float], means: Sequence[Estimate], index: int
) -> None:
    line, marker = STYLES[index % len(STYLES)]
    color = PALETTE[index % len(PALETTE)]
    axes.plot(at, [m.value for m in means], color=color, linestyle=line, marker=marker, label=label)
    # An interval with infinite ends is not drawn.
    low, high = (
        [getattr(m, end) if m.has_interval else m.value for m in means] for end in ("low", "high")
    )
    axes.fill_between(at, low, high, color=color, alpha=0.2, linewidth=0)
    axes.vlines(at, low, high, color=color, linewidth=1.2)


def _draw_curve(axes: Axes, label: str, seeds: Sequence[Rows], key: str, index: int) -> None:
    steps, values = on_common_steps(seeds, key)
    color, (line, _) = PALETTE[index % len(PALETTE)], STYLES[index % len(STYLES)]
    marker = "o" if len(steps) == 1 else None  # a line needs two points
    axes.plot(steps, values.mean(0), color=color, linestyle=line, marker=marker, label=label)
    if len(values) > 1:
        low, high = student_band(values)
        axes.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)


def on_common_steps(seeds: Sequence[Rows], key: str) -> tuple[Scores, Scores]:
    """Steps [K] up to the end of the shortest run, and each seed's values there [seeds, K]."""
    curves = [
        (np.array([row[_AXIS] for row in rows], float), np.array([row[key] for row in rows], float))
        for rows in seeds
    ]
    steps = min((curve[0] for curve in curves), key=lambda axis: axis[-1])
    every = -(-len(steps) // _MAX_POINTS)
    steps = np.unique(np.append(steps[::every], steps[-1]))
    return steps, np.stack([np.interp(steps, *curve) for curve in curves])


def _require_one_environment(evaluations: Sequence[Evaluation]) -> None:
    names = dict.fromkeys(evaluation.environment for evaluation in evaluations)
    if len(names) != 1:
        got = ", ".join(names) or "none"
        raise ValueError(f"evaluations must have the same environment, got {got}")
