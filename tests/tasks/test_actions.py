"""Actions of every space as rows: encoded, checked, and given to an environment."""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, iterate

sys.path.append(str(Path(__file__).parents[1] / "support"))

from odd_actions import SPACES

from metarl.tasks.actions import (
    ActionLayout,
    encode_actions,
    encoded_size,
    require_action_indices,
)

FOUR, MANY = spaces.Discrete(4), spaces.MultiDiscrete([2, 4, 3])
BOX = spaces.Box(-2.0, 2.0, (3,), np.float32)
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


@every_space
def test_points_of_a_space_become_rows_and_points_again(space):
    layout = ActionLayout(space)
    space.seed(0)
    for _ in range(20):
        point = space.sample()
        row = layout.to_rows(point)
        assert row.shape == layout.row_shape
        assert (row.dtype == torch.int64) is layout.is_discrete
        again = layout.from_row(row.numpy())
        assert space.contains(again)
        flat = (spaces.flatten(space, one) for one in (point, again))
        np.testing.assert_allclose(*flat, rtol=1e-6)


@every_space
def test_a_batch_of_points_becomes_the_rows_of_its_points(space):
    layout, batched = ActionLayout(space), batch_space(space, 3)
    batched.seed(1)
    points = batched.sample()
    rows = layout.to_rows(points, 3)
    assert rows.shape == (3, *layout.row_shape)
    for row, point in zip(rows, iterate(batched, points), strict=True):
        assert torch.equal(row, layout.to_rows(point))


@every_space
def test_different_points_have_different_encodings_of_the_stated_size(space):
    layout = ActionLayout(space)
    space.seed(2)
    rows = torch.stack([layout.to_rows(space.sample()) for _ in range(30)])
    for in_box_units in (False, True):
        encoded = layout.encode(rows, in_box_units=in_box_units)
        assert encoded.shape == (30, layout.encoded_size)
        assert encoded.dtype == torch.float32
        assert len(encoded.unique(dim=0)) == len(rows.view(30, -1).unique(dim=0)) > 1


def test_boxes_are_encoded_in_units_of_their_half_width_around_their_center():
    layout = ActionLayout(SPACES["off-center box"])
    rows = torch.tensor([[500.0], [1250.0], [2000.0]])
    assert layout.encode(rows, in_box_units=True).tolist() == [[-1], [0], [1]]
    assert layout.encode(rows).tolist() == [[500], [1250], [2000]]


@pytest.mark.parametrize(
    ("bounds", "center", "half_width"),
    [
        ((-1, 1), 0, 1),
        ((500, 2000), 1250, 750),
        ((3, np.inf), 4, 1),
        ((-np.inf, 3), 2, 1),
        ((-np.inf, np.inf), 0, 1),
        ((2, 2), 2, 1),
        ((-3.4e38, 3.4e38), 0, 1),
    ],
)
def test_center_and_half_width_are_those_of_the_range(bounds, center, half_width):
    low, high = np.float32(bounds)
    (part,) = ActionLayout(spaces.Box(low, high, (2,))).parts
    assert part.center.tolist() == [center] * 2
    assert part.half_width.tolist() == [half_width] * 2


def test_neighbors_of_a_kind_are_one_part():
    space = spaces.Tuple((SPACES["multi-binary"], FOUR, BOX, SPACES["off-center box"], FOUR))
    choices, boxes, last = ActionLayout(space).parts
    assert choices.sizes == (2, 2, 2, 4)
    assert boxes.high.tolist() == [2, 2, 2, 2000]
    assert last.sizes == (4,)
    assert ActionLayout(space).num_columns == 9


def test_boxes_are_clipped_and_integers_rounded():
    layout = ActionLayout(SPACES["tuple"])
    rows = np.float32([[-3, 2], [1.6, 5], [9, 3]])
    assert layout.clip(rows).tolist() == [[0, 2], [2, 5], [4, 3]]
    indices = np.array([2, 0])
    assert layout.clip(np.float32([[np.pi, 4]])).tolist() == [[3, 4]]
    assert ActionLayout(FOUR).clip(indices) is indices


REJECTED = [
    (SPACES["box"], np.zeros((1, 2)), r"actions must have shape \(2,\), got \(1, 2\)"),
    (SPACES["box"], [np.nan, 0], r"actions must be finite, got \[nan, 0.0\]"),
    (spaces.Discrete(3), 1.5, "actions must be integers, got dtype float64"),
    (spaces.Discrete(3), 3, r"actions must lie in Discrete\(3\), got 3"),
    (spaces.Discrete(3, start=1), 0, r"actions must lie in Discrete\(3, start=1\), got 0"),
    (spaces.MultiDiscrete([2, 2]), [0, -1], r"must lie in MultiDiscrete.*, got \[0, -1\]"),
    (spaces.MultiBinary(2), [0, 2], r"must lie in MultiBinary\(2\), got \[0, 2\]"),
    (SPACES["dict"], {"grip": 1}, r"actions must be a dict with keys \['grip', 'arm', 'keys'\]"),
    (SPACES["tuple"], (1,), "actions must be a tuple of 2, got "),
]


@pytest.mark.parametrize(("space", "action", "message"), REJECTED)
def test_actions_outside_the_space_are_rejected(space, action, message):
    with pytest.raises(ValueError, match=message):
        ActionLayout(space).to_rows(action)


def test_rows_of_a_discrete_space_are_indices():
    row = ActionLayout(spaces.Discrete(3)).to_rows(np.int32(2))
    assert (row.dtype, row.shape, int(row)) == (torch.int64, (), 2)


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (0,)), spaces.Dict({}), spaces.Tuple(())])
def test_empty_spaces_are_rejected(space: gymnasium.Space):
    with pytest.raises(
        TypeError, match="action_space must hold at least one number or choice, got "
    ):
        encoded_size(space)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(3),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Graph(spaces.Discrete(2), None),
        spaces.Dict(a=spaces.Discrete(2), b=spaces.OneOf((spaces.Discrete(2),))),
    ],
    ids=lambda space: type(space).__name__,
)
def test_other_spaces_are_rejected(space: gymnasium.Space):
    message = "action_space must be built from Box, Discrete, MultiDiscrete and MultiBinary, got "
    with pytest.raises(TypeError, match=message):
        encoded_size(space)


@pytest.mark.parametrize(("space", "size"), [(FOUR, 4), (MANY, 9), (BOX, 3)])
def test_the_size_is_that_of_the_encoding(space, size):
    assert encoded_size(space) == size
    actions = torch.as_tensor(np.stack([space.sample() for _ in range(5)]))
    encoded = encode_actions(space, actions)
    assert encoded.shape == (5, size)
    assert encoded.dtype == torch.float32


def test_discrete_actions_are_one_hot_under_any_leading_axes():
    actions = torch.tensor([[[3, 0], [1, 2]]])
    encoded = encode_actions(FOUR, actions)
    assert encoded.tolist() == [[[[0, 0, 0, 1], [1, 0, 0, 0]], [[0, 1, 0, 0], [0, 0, 1, 0]]]]


def test_each_choice_of_a_multi_discrete_action_has_separate_entries():
    actions = torch.tensor([[0, 3, 1], [1, 0, 2]])
    assert encode_actions(MANY, actions).tolist() == [
        [1, 0, 0, 0, 0, 1, 0, 1, 0],
        [0, 1, 1, 0, 0, 0, 0, 0, 1],
    ]


def test_every_multi_discrete_action_has_a_different_encoding():
    actions = torch.cartesian_prod(*(torch.arange(n) for n in (2, 4, 3)))
    encoded = encode_actions(MANY, actions)
    assert (encoded.sum(-1) == 3).all()
    assert len(encoded.unique(dim=0)) == 2 * 4 * 3


def test_continuous_actions_are_not_changed():
    actions = torch.tensor([[0.5, -1.25, 2.0]], dtype=torch.float64)
    assert encode_actions(BOX, actions).tolist() == [[0.5, -1.25, 2.0]]


def test_indices_of_the_right_shape_pass():
    require_action_indices(torch.tensor([[0, 4, 2], [1, 1, 0]]), (2, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.bool])
def test_other_types_are_rejected(dtype):
    with pytest.raises(TypeError, match=f"actions must be int64 indices, got {dtype}"):
        require_action_indices(torch.zeros(2, 3, dtype=dtype), (2, 3))


@pytest.mark.parametrize("shape", [(2, 3, 1), (3, 2), (2,)])
def test_other_shapes_are_rejected(shape):
    with pytest.raises(ValueError, match=r"must have shape \(2, 3\) \(tasks, envs\), got \("):
        require_action_indices(torch.zeros(shape, dtype=torch.int64), (2, 3))
