"""The few-shot learning curve shows the numbers it is given; no pixels are compared."""

from __future__ import annotations

import numpy as np
import pytest

from metarl.plots.fewshot import fewshot_learning_figure


def rows(key: str, *values: float) -> list[dict[str, float]]:
    return [{"time/iterations": 50 * (k + 1), key: value} for k, value in enumerate(values)]


def test_accuracy_is_plotted_in_percent_with_a_line_for_each_seed():
    seeds = {
        "seed 0": rows("validation/accuracy", 0.5, 0.75),
        "seed 1": rows("validation/accuracy", 0.25, 0.5, 1.0),
    }
    figure = fewshot_learning_figure(seeds, "title")
    (axes,) = figure.axes
    assert [line.get_xydata().tolist() for line in axes.lines] == [
        [[50, 50], [100, 75]],
        [[50, 25], [100, 50], [150, 100]],
    ]
    assert axes.get_ylabel() == "accuracy on validation tasks, %"
    assert axes.get_title() == "title"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["seed 0", "seed 1"]


def test_error_has_a_logarithmic_axis_and_one_seed_no_legend():
    figure = fewshot_learning_figure({"seed 0": rows("meta/query_mse", 3.0, 0.5)}, "")
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [3.0, 0.5])
    assert figure.legends == []


@pytest.mark.parametrize("values", [(3.0, 2.0), (3.0, 0.5), (40.0, 0.02)])
def test_ticks_of_errors_are_plain_numbers(values):
    figure = fewshot_learning_figure({"seed 0": rows("meta/query_mse", *values)}, "")
    figure.canvas.draw()
    (axes,) = figure.axes
    ticks = axes.get_yticklabels(which="both")
    labels = {text.get_text(): text.get_position()[1] for text in ticks if text.get_text()}
    assert len(labels) >= 2
    for label, place in labels.items():
        assert float(label) == pytest.approx(place, rel=1e-3)


@pytest.mark.parametrize("seeds", [{}, {"a": []}, {"a": rows("rollout/query_return", 1.0)}])
def test_other_metrics_than_those_of_few_shot_learners_are_rejected(seeds):
    with pytest.raises(ValueError, match="each seed must have at least one row of metrics"):
        fewshot_learning_figure(seeds, "")
