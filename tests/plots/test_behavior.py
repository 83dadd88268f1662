"""Figures of behavior show the places and choices they are given."""

import numpy as np
import pytest

from metarl.evaluation.behavior import Choices, Paths
from metarl.plots.behavior import best_choice_figure, best_share, choices_figure, paths_figure

NAN = np.nan


def two_paths(*, is_grid: bool = False, oracle: bool = True) -> Paths:
    """Two stages, one task, one episode of at most two steps."""
    places = np.array([[[[[0, 0], [1, 0], [NAN, NAN]]]], [[[[0, 0], [0, 1], [2, 1]]]]])
    ways = np.array([[[[0.0, 0.0], [2.0, 2.0], [NAN, NAN]]]])
    returns = np.array([[[-3.0]], [[-1.25]]])
    names = ("before", "after 1 step")
    return Paths(np.zeros((1, 2)), names, places, returns, ways if oracle else None, is_grid)


def lines(axes, label: str) -> list[np.ndarray]:
    return [line.get_xydata() for line in axes.lines if line.get_label() == label]


def test_each_stage_has_its_path_and_the_title_states_the_returns():
    (axes,) = paths_figure(two_paths()).axes
    (before,), (after,) = lines(axes, "before"), lines(axes, "after 1 step")
    assert before[:2].tolist() == [[0, 0], [1, 0]]
    assert np.isnan(before[2]).all()
    assert after.tolist() == [[0, 0], [0, 1], [2, 1]]
    assert axes.get_title() == "task 1: −3 → −1.25"
    assert axes.get_aspect() == 1


def test_the_oracle_ends_at_a_star():
    (axes,) = paths_figure(two_paths()).axes
    assert lines(axes, "oracle")[0].tolist() == [[0, 0], [2, 2]]
    (star,) = (line for line in axes.lines if line.get_marker() == "*")
    assert star.get_xydata().tolist() == [[2, 2]]
    (axes,) = paths_figure(two_paths(oracle=False)).axes
    assert not any(line.get_marker() == "*" for line in axes.lines)


def test_everything_lies_within_the_axes():
    (axes,) = paths_figure(two_paths()).axes
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert left < 0 < right - 2
    assert low < 0 < high - 2
    assert right - left == pytest.approx(high - low)


def test_on_a_grid_paths_are_shifted_within_their_cells():
    (axes,) = paths_figure(two_paths(is_grid=True)).axes
    before, after = lines(axes, "before")[0], lines(axes, "after 1 step")[0]
    assert before[0].tolist() != after[0].tolist()
    for way, cells in ((before[:2], [[0, 0], [1, 0]]), (after, [[0, 0], [0, 1], [2, 1]])):
        assert np.abs(way - cells).max() < 0.5
    assert axes.get_xlim() == (-0.5, 2.5)
    assert axes.get_ylim() == (-0.5, 2.5)


def test_each_task_has_a_panel():
    one = two_paths()
    assert one.oracle is not None
    three = one._replace(
        tasks=np.zeros((3, 2)),
        places=one.places.repeat(3, axis=1),
        returns=one.returns.repeat(3, axis=1),
        oracle=one.oracle.repeat(3, axis=0),
    )
    figure = paths_figure(three)
    assert [axes.get_title()[:6] for axes in figure.axes] == ["task 1", "task 2", "task 3"]


def some_choices(*, best: bool = True) -> Choices:
    """Two stages, two tasks, two episodes of three steps, the last episode ends after one."""
    chosen = np.array(
        [
            [[[0, 1, 1], [0, 0, 2]], [[2, 2, 2], [0, -1, -1]]],
            [[[1, 1, 1], [1, 1, 1]], [[2, 2, 2], [2, -1, -1]]],
        ]
    )
    right = np.where(chosen < 0, -1, np.array([1, 2])[:, None, None])
    returns = np.zeros((2, 2, 2))
    names = ("before", "after 1 step")
    return Choices(np.zeros((2, 1)), names, chosen, returns, right if best else None, 3)


def test_the_share_of_best_choices_is_over_tasks_and_episodes_still_running():
    shares = best_share(some_choices())
    assert shares == pytest.approx(np.array([[1 / 4, 2 / 3, 2 / 3], [1, 1, 1]]))


def test_after_all_episodes_have_ended_there_is_no_share():
    ended = some_choices()
    ended.chosen[..., 2] = -1
    assert np.isnan(best_share(ended)[:, 2]).all()


def test_the_share_of_best_choices_is_plotted_with_the_random_one():
    (axes,) = best_choice_figure(some_choices()).axes
    assert lines(axes, "before")[0] == pytest.approx(np.array([[1, 0.25], [2, 2 / 3], [3, 2 / 3]]))
    assert lines(axes, "random")[0][:, 1] == pytest.approx([1 / 3, 1 / 3])


def test_without_an_oracle_there_is_no_best_choice():
    with pytest.raises(ValueError, match="choices must come from a family with an oracle"):
        best_choice_figure(some_choices(best=False))


def test_frequencies_of_choices_are_plotted_for_each_task_and_stage():
    figure = choices_figure(some_choices())
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 4
    first = panels[0].images[0].get_array()  # task 1 before: actions by steps
    assert first.tolist() == [[1, 0.5, 0], [0, 0.5, 0.5], [0, 0, 0.5]]
    second = panels[2].images[0].get_array()  # task 2 before: one episode is left after a step
    assert second.tolist() == [[0.5, 0, 0], [0, 0, 0], [0.5, 1, 1]]


def test_the_oracles_action_is_marked():
    figure = choices_figure(some_choices())
    marks = [axes.lines[0].get_ydata()[0] for axes in figure.axes if axes.images]
    assert marks == [1, 1, 2, 2]
    unmarked = choices_figure(some_choices(best=False))
    assert not any(axes.lines for axes in unmarked.axes if axes.images)
