"""Figures of single tasks show the numbers they are given."""

import numpy as np
import pytest
from shown_evaluations import RETURNS, evaluation

from metarl.plots.tasks import profile_figure, profile_scores, select_parameters, task_figure


def points(axes, label: str) -> list[list[float]]:
    (found,) = (one for one in axes.lines if one.get_label() == label)
    return found.get_xydata().tolist()


def test_each_task_is_a_point_before_and_a_point_after():
    (axes,) = task_figure(evaluation()).axes
    assert points(axes, "before") == [[0, -4], [0.5, -6], [1, -11]]
    assert points(axes, "after 2 steps") == [[0, -1], [0.5, 0], [1, -2]]
    assert axes.get_xlabel() == "task"


def test_returns_are_means_over_runs():
    (axes,) = task_figure(evaluation(runs=("a", "b", "c"))).axes
    assert points(axes, "after 2 steps") == [[0, 0], [0.5, 1], [1, -1]]


def test_each_parameter_has_a_panel_up_to_four():
    tasks = np.arange(9.0).reshape(3, 3)
    figure = task_figure(evaluation(tasks=tasks))
    assert [axes.get_xlabel() for axes in figure.axes] == [
        f"task parameter {k} of 3" for k in (1, 2, 3)
    ]
    assert points(figure.axes[1], "before") == [[1, -4], [4, -6], [7, -11]]


def test_without_adaptation_there_is_one_point_a_task():
    (axes,) = task_figure(evaluation(returns=RETURNS[:1])).axes
    assert [line.get_label() for line in axes.lines] == ["before"]


def test_of_many_parameters_the_most_correlated_with_the_return_are_shown():
    rng = np.random.default_rng(0)
    tasks, returns = rng.normal(size=(200, 9)), rng.normal(size=200)
    wanted = (1, 4, 5, 8)
    for k, sign in zip(wanted, (1, -1, 1, -1), strict=True):
        tasks[:, k] = sign * np.exp(returns) + 0.1 * tasks[:, k]
    assert select_parameters(tasks, returns) == list(wanted)
    assert select_parameters(tasks[:, :4], returns) == [0, 1, 2, 3]


def test_the_profile_of_one_agent_is_before_and_after_adaptation():
    figure = profile_figure([evaluation()])
    (axes,) = figure.axes
    (after, before) = axes.lines
    assert (after.get_label(), before.get_label()) == ("after 2 steps", "before")
    thresholds, shares = before.get_xdata(), before.get_ydata()
    assert shares.tolist() == [np.mean(np.array([-4, -6, -11]) > tau) for tau in thresholds]
    assert thresholds[0] < -11
    assert thresholds[-1] > 0
    assert axes.get_ylabel() == "share of runs × tasks above τ"


def test_several_agents_are_compared_after_adaptation():
    better = evaluation(agent="jumper", runs=("a", "b"))
    scores = profile_scores([evaluation(), better])
    assert {name: matrix.tolist() for name, matrix in scores.items()} == {
        "slider": [[-1, 0, -2]],
        "jumper": [[-1, 0, -2], [0, 1, -1]],
    }
    (axes,) = profile_figure([evaluation(), better]).axes
    assert [line.get_label() for line in axes.lines] == ["slider", "jumper"]


def test_an_empty_profile_is_rejected():
    with pytest.raises(ValueError, match="evaluations must have at least one entry, got none"):
        profile_figure([])
