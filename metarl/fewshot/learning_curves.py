"""The learning curve of few-shot runs, as a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from metarl.plot_style import PALETTE, STYLES, legend_below, new_figure, styled

__all__ = ["fewshot_learning_figure"]

_AXIS = "time/iterations"
_MEANINGS = {
    "validation/accuracy": "accuracy on validation tasks, %",
    "train/accuracy": "accuracy on training tasks, %",
    "meta/query_mse": "mean squared error on training tasks",
}


def fewshot_learning_figure(
    seeds: Mapping[str, Sequence[Mapping[str, float]]], title: str
) -> Figure:
    """Accuracy, or error on a logarithmic axis, against iterations; a line for each seed.

    Args:
        seeds: by name, each one mapping per line of `metrics.jsonl`.
        title: above the axes.

    Raises:
        ValueError: if there is no seed, or one without metrics of a few-shot learner.
    """
    known = [key for key in _MEANINGS if seeds and all(r and key in r[0] for r in seeds.values())]
    if not known:
        raise ValueError("seeds must each hold metrics of a few-shot learner, one line or more")
    key = known[0]
    is_error = key == "meta/query_mse"
    with styled():
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
            axes.set_yscale("log")
        axes.set_xlabel("iterations")
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.set_ylabel(_MEANINGS[key])
        axes.set_title(title)
        axes.grid(axis="y")
        legend_below(figure, axes)
    return figure
