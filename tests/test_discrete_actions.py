"""Discrete actions are one int64 index an environment, or refused."""

import pytest
import torch

from metarl.discrete_actions import require_action_indices


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
