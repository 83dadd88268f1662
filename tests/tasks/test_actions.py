"""Actions as numbers: one-hot where they are discrete, themselves where they are not.

Discrete actions are one int64 index an environment, or refused.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl.tasks.actions import encode_actions, encoded_size, require_action_indices

FOUR, MANY = spaces.Discrete(4), spaces.MultiDiscrete([2, 4, 3])
BOX = spaces.Box(-2.0, 2.0, (3,), np.float32)


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


def test_each_choice_of_a_multi_discrete_action_has_places_of_its_own():
    actions = torch.tensor([[0, 3, 1], [1, 0, 2]])
    assert encode_actions(MANY, actions).tolist() == [
        [1, 0, 0, 0, 0, 1, 0, 1, 0],
        [0, 1, 1, 0, 0, 0, 0, 0, 1],
    ]


def test_every_multi_discrete_action_has_an_encoding_of_its_own():
    actions = torch.cartesian_prod(*(torch.arange(n) for n in (2, 4, 3)))
    encoded = encode_actions(MANY, actions)
    assert (encoded.sum(-1) == 3).all()
    assert len(encoded.unique(dim=0)) == 2 * 4 * 3


def test_continuous_actions_are_what_they_are():
    actions = torch.tensor([[0.5, -1.25, 2.0]], dtype=torch.float64)
    assert encode_actions(BOX, actions).tolist() == [[0.5, -1.25, 2.0]]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=1),
        spaces.MultiDiscrete([2, 3], start=[0, 1]),
        spaces.MultiDiscrete(np.array([[2, 3], [2, 2]])),
        spaces.Box(-1.0, 1.0, (2, 2)),
        spaces.MultiBinary(3),
    ],
    ids=str,
)
def test_other_spaces_are_refused(space):
    message = "action_space must be Discrete or MultiDiscrete from 0 or a flat Box, got "
    with pytest.raises(TypeError, match=message):
        encoded_size(space)


def test_indices_of_the_right_shape_pass():
    require_action_indices(torch.tensor([[0, 4, 2], [1, 1, 0]]), (2, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.bool])
def test_other_types_are_refused(dtype):
    with pytest.raises(TypeError, match=f"actions must be int64 indices, got {dtype}"):
        require_action_indices(torch.zeros(2, 3, dtype=dtype), (2, 3))


@pytest.mark.parametrize("shape", [(2, 3, 1), (3, 2), (2,)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"must have shape \(2, 3\) \(tasks, envs\), got \("):
        require_action_indices(torch.zeros(shape, dtype=torch.int64), (2, 3))
