"""Packing of valid steps: a rearrangement that loses nothing, and only if it saves something."""

import pytest
import torch
from torch import Tensor

from metarl.rl.masked import step_packing

LENGTHS = torch.tensor([[2, 1], [1, 4], [1, 1]])  # [tasks, envs]


def mask_of(lengths: Tensor, steps: int) -> Tensor:
    return torch.arange(steps) < lengths.unsqueeze(-1)


def test_steps_of_a_task_follow_one_another_by_environment_and_time():
    packing = step_packing(mask_of(LENGTHS, 4))
    places = torch.arange(24).view(3, 2, 4)
    assert packing.mask.tolist() == [
        [[True] * 3 + [False] * 2],
        [[True] * 5],
        [[True] * 2 + [False] * 3],
    ]
    packed = packing.gather(places)
    assert packed.shape == (3, 1, 5)
    assert packed[packing.mask].tolist() == [0, 1, 4, 8, 12, 13, 14, 15, 16, 20]
    assert packed[~packing.mask].tolist() == [0, 0, 16, 16, 16]


@pytest.mark.parametrize("trailing", [(), (3,), (2, 2)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_scattering_undoes_gathering(trailing, dtype):
    mask = mask_of(LENGTHS, 7)
    values = torch.randint(1, 100, (*mask.shape, *trailing), generator=torch.Generator()).to(dtype)
    packing = step_packing(mask)
    back = packing.scatter(packing.gather(values))
    assert back.dtype == dtype
    kept = mask.view(*mask.shape, *(1,) * len(trailing))
    assert torch.equal(back, torch.where(kept, values, 0))


def test_a_task_may_begin_with_an_invalid_step():
    mask = torch.zeros(2, 2, 5, dtype=torch.bool)
    mask[0, 0, 3] = mask[1, 1, 4] = True
    packing = step_packing(mask)
    assert packing.gather(torch.arange(20).view(2, 2, 5)).tolist() == [[[3]], [[19]]]


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(2, 3, 4, dtype=torch.bool),
        mask_of(torch.tensor([[10, 10], [10, 9]]), 10),
        mask_of(torch.tensor([[1, 1], [10, 10]]), 10),
        mask_of(torch.tensor([[1, 1], [0, 0]]), 10),
    ],
    ids=["full", "nearly full", "one long task", "a task without steps"],
)
def test_nothing_is_packed_if_that_saves_nothing(mask):
    assert step_packing(mask) is None
