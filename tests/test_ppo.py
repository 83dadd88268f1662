"""PPO's losses against numbers worked out by hand, on both sides of every bound."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from metarl.ppo import clipped_surrogate, clipped_value_loss, masked_mean, standardized


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ε = 0.2; ratios below, within and above the bounds, for advantages of both signs.
RATIOS = [0.5, 0.5, 0.9, 0.9, 1.1, 1.1, 1.5, 1.5]
ADVANTAGES = [2.0, -2.0] * 4
LOSSES = [-1.0, 1.6, -1.8, 1.8, -2.2, 2.2, -2.4, 3.0]
SLOPES = [-1.0, 0.0, -1.8, 1.8, -2.2, 2.2, 0.0, 3.0]  # in the log-probability: −ρ A, or 0


def test_the_surrogate_is_the_worse_of_the_clipped_and_the_unclipped():
    old = numbers(*[-3.0, -0.5] * 4)
    log_probs = (old + numbers(*RATIOS).log()).requires_grad_()
    losses = clipped_surrogate(log_probs, old, numbers(*ADVANTAGES), clip=0.2)
    assert losses.tolist() == pytest.approx(LOSSES)
    (slopes,) = torch.autograd.grad(losses.sum(), log_probs)
    assert slopes.tolist() == pytest.approx(SLOPES)


def test_at_the_old_policy_the_slope_is_the_policy_gradient():
    log_probs = numbers(-1.0, -2.0, -0.1).requires_grad_()
    advantages = numbers(0.5, -3.0, 0.0)
    losses = clipped_surrogate(log_probs, log_probs.detach(), advantages, clip=0.2)
    (slopes,) = torch.autograd.grad(losses.sum(), log_probs)
    assert slopes.tolist() == [-0.5, 3, 0]


@pytest.mark.parametrize(
    ("value", "old", "wanted", "loss", "slope"),
    [
        (1.0, 0.0, 3.0, 2.0, -2.0),  # no bound reached: ½ (1 − 3)²
        (2.0, 0.0, 3.0, 1.125, 0.0),  # moved by 2, counts as 1.5: ½ (1.5 − 3)² is worse
        (-2.0, 0.0, 3.0, 12.5, -5.0),  # moved away: the unclipped ½ (−2 − 3)² is worse
        (5.0, 4.0, 3.0, 2.0, 2.0),
        (2.0, 4.0, 1.0, 1.125, 0.0),  # moved by −2, counts as −1.5: ½ (2.5 − 1)² is worse
        (7.0, 4.0, 3.0, 8.0, 4.0),
    ],
)
def test_the_value_loss_is_the_worse_of_the_clipped_and_the_unclipped(
    value, old, wanted, loss, slope
):
    values = numbers(value).requires_grad_()
    got = clipped_value_loss(values, numbers(old), numbers(wanted), clip=1.5)
    assert got.tolist() == pytest.approx([loss])
    (slopes,) = torch.autograd.grad(got.sum(), values)
    assert slopes.tolist() == pytest.approx([slope])


def test_without_a_bound_the_value_loss_is_half_the_squared_error():
    values, wanted = numbers(1.0, -2.0, 5.0), numbers(3.0, 1.0, 5.0)
    losses = clipped_value_loss(values, torch.full((3,), torch.nan), wanted)
    assert losses.tolist() == [2, 4.5, 0]


def test_the_mean_is_over_what_counts():
    values = torch.tensor([[1.0, 2.0, math.nan], [6.0, math.inf, -7.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert float(masked_mean(values, mask)) == 3


def test_what_does_not_count_has_no_gradient():
    values = numbers(1.0, 2.0, math.inf).requires_grad_()
    mask = torch.tensor([True, True, False])
    (gradient,) = torch.autograd.grad(masked_mean(values, mask), values)
    assert gradient.tolist() == [0.5, 0.5, 0]


def test_standardized_values_have_mean_zero_and_deviation_one_over_what_counts():
    values = torch.tensor([[1.0, 3.0, 100.0], [5.0, -9.0, 7.0]])
    mask = torch.tensor([[True, True, False], [True, False, True]])
    scaled = standardized(values, mask)
    root = math.sqrt(5)  # of the squares 9, 1, 1, 9 around the mean 4
    expected = torch.tensor([[-3, -1, 0], [1, 0, 3]]) / root
    torch.testing.assert_close(scaled, expected)


def test_equal_values_become_zero():
    scaled = standardized(torch.full((2, 3), 7.0), torch.ones(2, 3, dtype=torch.bool))
    assert not scaled.any()
