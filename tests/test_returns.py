"""Estimators against hand-computed numbers, identities, and sums written from the definition."""

from itertools import product

import pytest
import torch
from torch import Tensor

from metarl.returns import discounted_returns, generalized_advantages

GAMMA, LAMBDA = 0.9, 0.8


def real(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def flags(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.bool)


def random_batch(seed: int = 0) -> dict[str, Tensor]:
    """Three tasks, four environments, eleven steps; episodes end at random, some in both ways."""
    generator = torch.Generator().manual_seed(seed)
    shape = (3, 4, 11)
    return {
        "rewards": torch.randn(shape, generator=generator, dtype=torch.float64),
        "values": torch.randn(3, 4, 12, generator=generator, dtype=torch.float64),
        "terminated": torch.rand(shape, generator=generator) < 0.2,
        "truncated": torch.rand(shape, generator=generator) < 0.2,
        "next_values": torch.randn(shape, generator=generator, dtype=torch.float64),
    }


def test_returns_of_one_episode_are_the_hand_computed_sums():
    got = discounted_returns(real(1, 2, 3), flags(0, 0, 1), 0.5)
    torch.testing.assert_close(got, real(2.75, 3.5, 3.0))


def test_no_reward_passes_an_episode_end_inside_the_batch():
    got = discounted_returns(real(1, 2, 3, 4), flags(0, 1, 0, 0), 0.5)
    torch.testing.assert_close(got, real(2, 2, 5, 4))


def test_returns_equal_sums_over_the_rest_of_the_episode():
    batch = random_batch()
    rewards, ends = batch["rewards"], batch["terminated"]
    expected = torch.zeros_like(rewards)
    for lane in product(range(3), range(4)):
        for t in range(11):
            for k in range(t, 11):
                expected[(*lane, t)] += GAMMA ** (k - t) * rewards[(*lane, k)]
                if ends[(*lane, k)]:
                    break
    torch.testing.assert_close(
        discounted_returns(rewards, ends, GAMMA), expected, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        ((0, 0, 0), (0, 0, 0), (1.5, 2.0, 6.0)),
        ((0, 1, 0), (0, 0, 0), (1.25, 1.0, 6.0)),
        ((0, 0, 0), (0, 1, 0), (1.125, 0.5, 6.0)),
        ((0, 0, 1), (0, 0, 1), (1.375, 1.5, 4.0)),  # ended both ways: no value follows
    ],
)
def test_advantages_are_the_hand_computed_ones(terminated, truncated, expected):
    got = generalized_advantages(
        real(1, 2, 3), real(0.5, 1, -1, 4), flags(*terminated), flags(*truncated),
        gamma=0.5, gae_lambda=0.5,
    )  # fmt: skip
    torch.testing.assert_close(got, real(*expected))


def test_next_values_replace_the_value_a_new_episode_would_lend_to_the_old_one():
    got = generalized_advantages(
        real(1, 2, 3), real(0.5, 1, -1, 4), flags(0, 0, 0), flags(0, 1, 0),
        gamma=0.5, gae_lambda=0.5, next_values=real(1, 2, 4),
    )  # fmt: skip
    torch.testing.assert_close(got, real(1.5, 2.0, 6.0))


def test_advantages_with_lambda_one_are_bootstrapped_returns_minus_values():
    batch = random_batch()
    rewards, values = batch["rewards"], batch["values"]
    cut = batch["truncated"].clone()
    cut[..., -1] = True  # the batch itself ends here
    bootstrap = GAMMA * values[..., 1:] * (cut & ~batch["terminated"])
    ends = cut | batch["terminated"]
    expected = discounted_returns(rewards + bootstrap, ends, GAMMA) - values[..., :-1]
    del batch["next_values"]
    got = generalized_advantages(**batch, gamma=GAMMA, gae_lambda=1.0)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_advantages_with_lambda_zero_are_one_step_errors():
    batch = random_batch()
    follows = torch.where(batch["terminated"], 0.0, batch["values"][..., 1:])
    expected = batch["rewards"] + GAMMA * follows - batch["values"][..., :-1]
    del batch["next_values"]
    got = generalized_advantages(**batch, gamma=GAMMA, gae_lambda=0.0)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("own_next_values", [False, True])
def test_advantages_equal_discounted_sums_of_one_step_errors(own_next_values):
    batch = random_batch()
    if not own_next_values:
        batch["next_values"] = batch["values"][..., 1:]
    expected = torch.zeros_like(batch["rewards"])
    for lane in product(range(3), range(4)):
        r, v, term, trunc, after = (batch[name][lane].tolist() for name in batch)
        for t in range(11):
            for k in range(t, 11):
                error = r[k] + (0.0 if term[k] else GAMMA * after[k]) - v[k]
                expected[(*lane, t)] += (GAMMA * LAMBDA) ** (k - t) * error
                if term[k] or trunc[k]:
                    break
    if not own_next_values:
        del batch["next_values"]
    got = generalized_advantages(**batch, gamma=GAMMA, gae_lambda=LAMBDA)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_a_single_step_needs_no_recursion():
    rewards, values = real(2.0), real(1.0, 10.0)
    assert discounted_returns(rewards, flags(0), 0.5).tolist() == [2.0]
    for terminated, expected in ((0, 6.0), (1, 1.0)):
        got = generalized_advantages(
            rewards, values, flags(terminated), flags(0), gamma=0.5, gae_lambda=0.7
        )
        assert got.tolist() == [expected]


def test_changing_one_lane_leaves_the_others_bit_equal():
    before, after = random_batch(), random_batch()
    other = random_batch(seed=1)
    for name in after:
        after[name][1, 2] = other[name][1, 2]
    rest = torch.ones(3, 4, dtype=torch.bool)
    rest[1, 2] = False
    for estimate in (
        lambda b: discounted_returns(b["rewards"], b["terminated"], GAMMA),
        lambda b: generalized_advantages(**b, gamma=GAMMA, gae_lambda=LAMBDA),
    ):
        one, two = estimate(before), estimate(after)
        assert torch.equal(one[rest], two[rest])
        assert not torch.equal(one[1, 2], two[1, 2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_have_the_dtype_of_the_rewards(dtype):
    batch = random_batch()
    batch["rewards"] = batch["rewards"].to(dtype)
    assert discounted_returns(batch["rewards"], batch["terminated"], GAMMA).dtype == dtype
    assert generalized_advantages(**batch, gamma=GAMMA, gae_lambda=LAMBDA).dtype == dtype


def test_no_argument_is_written_to():
    batch, untouched = random_batch(), random_batch()
    discounted_returns(batch["rewards"], batch["terminated"], GAMMA)
    generalized_advantages(**batch, gamma=GAMMA, gae_lambda=LAMBDA)
    assert all(torch.equal(batch[name], untouched[name]) for name in batch)


@pytest.mark.parametrize(
    ("ends", "gamma", "message"),
    [
        (torch.zeros(3), 0.9, r"ends must be bool, got torch\.float32"),
        (flags(0, 0), 0.9, r"ends must have the shape of rewards \(3,\), got \(2,\)"),
        (flags(0, 0, 0), 1.5, r"gamma must lie in \[0, 1\], got 1\.5"),
        (flags(0, 0, 0), float("nan"), r"gamma must lie in \[0, 1\], got nan"),
    ],
)
def test_returns_refuse_what_does_not_fit(ends, gamma, message):
    with pytest.raises(ValueError, match=message):
        discounted_returns(real(1, 2, 3), ends, gamma)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truncated": torch.zeros(3)}, "truncated must be bool"),
        ({"terminated": flags(0, 0)}, r"terminated must have the shape of rewards \(3,\)"),
        ({"gamma": -0.1}, r"gamma must lie in \[0, 1\], got -0\.1"),
        ({"gae_lambda": 1.1}, r"gae_lambda must lie in \[0, 1\], got 1\.1"),
        (
            {"values": real(1, 2, 3)},
            r"values must have 4 time steps \(rewards has 3, plus one to bootstrap\), "
            r"got shape \(3,\)",
        ),
        ({"next_values": real(1)}, "next_values must have the shape of rewards"),
    ],
)
def test_advantages_refuse_what_does_not_fit(change, message):
    arguments = {
        "rewards": real(1, 2, 3), "values": real(1, 2, 3, 4), "terminated": flags(0, 0, 0),
        "truncated": flags(0, 0, 0), "gamma": 0.9, "gae_lambda": 0.9,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        generalized_advantages(**{**arguments, **change})
