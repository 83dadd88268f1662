"""Gittins indices against the published table, by hand, and against slow recursion."""

import pytest
import torch

from metarl.planning.gittins import discounted_indices, finite_horizon_indices


def slow_index(successes: int, pulls: int, left: int, discount: float | None) -> float:
    """The λ that makes one indifferent, by bisection of the recursion written out.

    Without a discount, of `left` pulls; with one, as if the arm were known after `left` pulls.
    """

    def gain(s: int, n: int, h: int, rate: float) -> float:
        p = (s + 1) / (n + 2)
        if discount is None:
            if h == 0:
                return 0.0
            first, weight = p - rate, 1.0
        else:
            if h == 0:
                return max(0.0, p - rate)
            first, weight = (1 - discount) * (p - rate), discount
        return max(0.0, first + weight * later(s, n, h, rate))

    def later(s: int, n: int, h: int, rate: float) -> float:
        p = (s + 1) / (n + 2)
        won, lost = gain(s + 1, n + 1, h - 1, rate), gain(s, n + 1, h - 1, rate)
        return p * won + (1 - p) * lost

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if gain(successes, pulls, left, middle) > 0 else (low, middle)
    return low


# (discount, prior successes a, prior failures b) of Beta(a, b): the index
PUBLISHED = {
    (0.9, 1, 1): 0.7029,
    (0.9, 2, 1): 0.8001,
    (0.9, 1, 2): 0.5001,
    (0.9, 2, 2): 0.6346,
    (0.9, 3, 3): 0.6010,
    (0.9, 10, 2): 0.8695,
    (0.95, 1, 1): 0.7614,
    (0.99, 1, 1): 0.8699,
}


@pytest.mark.parametrize(("arm", "index"), PUBLISHED.items())
def test_indices_are_those_of_the_published_table(arm, index):
    # Gittins, Glazebrook & Weber 2011, p. 265
    discount, successes, failures = arm
    table = discounted_indices(discount, successes + failures - 2)
    assert float(table[successes + failures - 2, successes - 1]) == pytest.approx(index, abs=6e-5)


@pytest.mark.parametrize("discount", [0.0, 0.3, 0.5])
def test_discounted_indices_agree_with_slow_recursion(discount):
    table = discounted_indices(discount, 3, resolution=2001)
    for pulls in range(4):
        for successes in range(pulls + 1):
            expected = slow_index(successes, pulls, 9, discount)  # .5⁹ weighs .002
            assert float(table[pulls, successes]) == pytest.approx(expected, abs=3e-4)


def test_without_a_future_the_index_is_the_mean():
    pulls = torch.arange(6).unsqueeze(-1)
    means = torch.tril((torch.arange(6) + 1) / (pulls + 2))
    torch.testing.assert_close(discounted_indices(0.0, 5), means.double(), atol=1e-6, rtol=0)
    finite = finite_horizon_indices(6)[1, :6, :6]
    torch.testing.assert_close(finite, means, atol=1e-6, rtol=0)


def test_two_pulls_left_by_hand():
    # ½ − λ + ½ (⅔ − λ) = 0 where failing once is worse than λ: λ = 5 / 9
    assert float(finite_horizon_indices(2)[2, 0, 0]) == pytest.approx(5 / 9, abs=1e-5)


def test_finite_indices_agree_with_slow_recursion():
    table = finite_horizon_indices(6, resolution=4001)
    for left in range(1, 7):
        for pulls in range(7 - left):
            for successes in range(pulls + 1):
                expected = slow_index(successes, pulls, left, None)
                assert float(table[left, pulls, successes]) == pytest.approx(expected, abs=1e-4)


def test_finite_indices_are_0_where_there_is_no_such_arm():
    table = finite_horizon_indices(4)
    assert not table[0].any()
    assert not table[2, :, 3:].any()
    assert not table[3, 2:].any()
    assert not table[1, 1, 2:].any()


def test_more_future_and_more_success_are_worth_more():
    short, long = discounted_indices(0.8, 5), discounted_indices(0.95, 5)
    seen = torch.tril(torch.ones(6, 6, dtype=torch.bool))
    assert (long[seen] > short[seen]).all()
    assert (long.diff(dim=1)[seen[:, 1:]] > 0).all()
    finite = finite_horizon_indices(8)[1:, 0, 0]
    assert (finite.diff() > 0).all()


def test_numbers_out_of_range_are_rejected():
    with pytest.raises(ValueError, match=r"discount must lie in \[0, 1\), got 1"):
        discounted_indices(1.0, 5)
    with pytest.raises(ValueError, match="num_pulls must be 0 or more, got -1"):
        discounted_indices(0.9, -1)
    with pytest.raises(ValueError, match="horizon must be 1 or more, got 0"):
        finite_horizon_indices(0)
    with pytest.raises(ValueError, match="resolution must be 2 or more, got 1"):
        finite_horizon_indices(3, resolution=1)
