"""Rows of numbers as points of a task space: bounds, checks, units, and conversions."""

import re

import numpy as np
import pytest
from gymnasium import spaces

from metarl.tasks.spaces import (
    check_rows,
    normalized_rows,
    row_to_task,
    space_bounds,
    task_to_row,
)

BOX = spaces.Box(np.array([-1.0, 2.0]), np.array([3.0, 2.5]), dtype=np.float64)
CHOICE = spaces.Discrete(4, start=-1)
CHOICES = spaces.MultiDiscrete([3, 5], start=[0, 10])
SPACES = [BOX, CHOICE, CHOICES]


@pytest.mark.parametrize(
    ("space", "low", "high"),
    [(BOX, [-1, 2], [3, 2.5]), (CHOICE, [-1], [2]), (CHOICES, [0, 10], [2, 14])],
)
def test_bounds_are_the_lowest_and_the_highest_point(space, low, high):
    bounds = space_bounds(space)
    assert [bound.tolist() for bound in bounds] == [low, high]
    assert [bound.dtype for bound in bounds] == [np.float64, np.float64]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 1, (2, 2)),
        spaces.Box(0, 1, ()),
        spaces.MultiDiscrete([[2, 3], [4, 5]]),
        spaces.MultiBinary(3),
        spaces.Tuple([spaces.Discrete(2)]),
    ],
)
def test_other_spaces_hold_no_tasks(space):
    with pytest.raises(TypeError, match="must be a flat Box, Discrete or MultiDiscrete, got "):
        space_bounds(space)


@pytest.mark.parametrize(
    ("space", "rows"),
    [
        (BOX, [[-1, 2], [3, 2.5], [0.25, 2.125]]),
        (CHOICE, [[-1], [2], [0]]),
        (CHOICES, [[0, 10], [2, 14], [1, 12]]),
    ],
)
def test_rows_up_to_the_bounds_are_accepted(space, rows):
    checked = check_rows(space, rows)
    assert checked.dtype == np.float64
    assert checked.tolist() == rows


def test_checked_rows_are_copies():
    rows = np.array([[0.0, 2.0]])
    checked = check_rows(BOX, rows)
    rows[0, 0] = 9.0
    assert checked.tolist() == [[0.0, 2.0]]


@pytest.mark.parametrize(
    ("space", "bad"),
    [
        (BOX, [3.1, 2.0]),
        (BOX, [-1.1, 2.0]),
        (BOX, [0.0, 1.9]),
        (BOX, [np.nan, 2.0]),
        (BOX, [0.0, np.inf]),
        (CHOICE, [-2]),
        (CHOICE, [3]),
        (CHOICE, [0.5]),
        (CHOICE, [np.nan]),
        (CHOICES, [0, 9]),
        (CHOICES, [3, 10]),
        (CHOICES, [1, 10.5]),
    ],
)
def test_the_first_row_outside_is_shown(space, bad):
    low, high = space_bounds(space)
    shown = re.escape(f"tasks must lie in {space}, got {np.array(bad, float).tolist()}")
    with pytest.raises(ValueError, match=f"^{shown}$"):
        check_rows(space, [low, bad, high + 1])


@pytest.mark.parametrize("tasks", [[0.0, 2.0], [[0.0]], [[[0.0, 2.0]]], np.zeros((0, 2)), 1.0])
def test_rows_of_another_shape_are_rejected_with_their_shape(tasks):
    shape = re.escape(str(np.shape(tasks)))
    with pytest.raises(ValueError, match=rf"tasks must have shape \[tasks, 2\], got {shape}"):
        check_rows(BOX, tasks)


def test_rows_are_measured_in_units_of_the_space():
    np.testing.assert_allclose(
        normalized_rows(BOX, np.array([[-1.0, 2.0], [0.0, 2.25], [3.0, 2.5]])),
        [[-1, -1], [-0.5, 0], [1, 1]],
    )
    np.testing.assert_allclose(
        normalized_rows(CHOICE, np.array([[-1.0], [0], [2]])), [[-1], [-1 / 3], [1]]
    )
    np.testing.assert_allclose(normalized_rows(CHOICES, np.array([[1.0, 13.0]])), [[0, 0.5]])


def test_a_coordinate_that_cannot_vary_is_zero_in_units_of_the_space():
    one = spaces.MultiDiscrete([1, 3])
    assert normalized_rows(one, np.array([[0.0, 2.0]])).tolist() == [[0, 1]]
    assert normalized_rows(spaces.Discrete(1, start=4), np.array([[4.0]])).tolist() == [[0]]


@pytest.mark.parametrize("space", SPACES)
def test_a_point_of_the_space_becomes_a_row_and_the_same_point_again(space):
    space.seed(0)
    for _ in range(20):
        point = space.sample()
        row = task_to_row(space, point)
        assert row.dtype == np.float64
        back = row_to_task(space, row)
        assert space.contains(back)
        assert np.array_equal(back, point)


def test_a_choice_becomes_one_integer_and_a_box_a_new_array():
    assert isinstance(row_to_task(CHOICE, np.array([2.0])), np.int64)
    row = np.array([0.0, 2.0])
    point = row_to_task(BOX, row)
    point[0] = 9.0
    assert row.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("space", "point", "message"),
    [
        (CHOICE, 3, r"tasks must lie in Discrete\(4, start=-1\), got \[3\.0\]"),
        (CHOICE, 0.5, r"tasks must lie in Discrete\(4, start=-1\), got \[0\.5\]"),
        (BOX, [0.0, 3.0], r"tasks must lie in Box.*got \[0\.0, 3\.0\]"),
        (BOX, [0.0], r"tasks must have shape \[tasks, 2\], got \(1, 1\)"),
        (BOX, [[0.0, 2.0]], r"tasks must have shape \[tasks, 2\], got \(1, 1, 2\)"),
    ],
)
def test_a_point_outside_the_space_has_no_row(space, point, message):
    with pytest.raises(ValueError, match=message):
        task_to_row(space, point)
