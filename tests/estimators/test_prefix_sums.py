"""Prefix sums within episodes against a loop over steps."""

from __future__ import annotations

import pytest
import torch

from metarl.estimators.prefix_sums import prefix_sums

LENGTHS = [[5, 1, 3], [1, 1, 7], [9]]


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Values [3, 9] and times [3, 9] of episodes that follow one another."""
    times = torch.tensor([[t for length in row for t in range(length)] for row in LENGTHS])
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 9, generator=generator, dtype=torch.float64), times


@pytest.mark.parametrize("decay", [1.0, 0.7, 0.0])
def test_sums_of_several_episodes_in_a_row_equal_a_loop(decay):
    values, times = rows()
    expected = torch.zeros_like(values)
    for row in range(3):
        for step in range(9):
            before = expected[row, step - 1] if times[row, step] > 0 else 0
            expected[row, step] = decay * before + values[row, step]
    torch.testing.assert_close(prefix_sums(values, times, decay=decay), expected)


def test_an_episode_does_not_change_the_sums_of_the_next_one():
    values, times = rows()
    changed = values.clone()
    changed[0, :5] = 1e30
    before, after = prefix_sums(values, times), prefix_sums(changed, times)
    assert torch.equal(before[0, 5:], after[0, 5:])
    assert not torch.equal(before[0, :5], after[0, :5])


def test_gradients_are_sums_over_the_later_steps_of_the_episode():
    values, times = rows()
    leaf = values.requires_grad_()
    [gradient] = torch.autograd.grad(prefix_sums(leaf, times).sum(), leaf)
    expected = [[length - t for length in row for t in range(length)] for row in LENGTHS]
    assert gradient.tolist() == expected
