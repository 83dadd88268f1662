"""The linear baseline against least squares in NumPy, one task at a time.

Estimators against hand-computed numbers, identities, and sums written from the definition.
"""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.rl.returns import discounted_returns, generalized_advantages, linear_feature_values

N, E, T = 3, 5, 40


def random_batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Observations, some beyond the clipping range, returns, and masks of unequal episodes."""
    generator = torch.Generator().manual_seed(seed)
    observations = 6 * torch.randn(N, E, T + 1, 2, generator=generator, dtype=torch.float64)
    returns = torch.randn(N, E, T, generator=generator, dtype=torch.float64)
    lengths = torch.randint(3, T + 1, (N, E, 1), generator=generator)
    return observations, returns, torch.arange(T) < lengths


def features(observations: np.ndarray) -> np.ndarray:
    """φ of one episode, row by row by the formula. [T + 1, 2] ↦ [T + 1, 8]."""
    rows = []
    for t, state in enumerate(observations):
        s = [min(max(number, -10.0), 10.0) for number in state]
        rows.append([*s, *(x * x for x in s), t / 100, (t / 100) ** 2, (t / 100) ** 3, 1.0])
    return np.array(rows)


@pytest.mark.parametrize("regularization", [1e-5, 0.3])
def test_values_are_those_of_ridge_regression_for_each_task(regularization):
    observations, returns, mask = random_batch()
    got = linear_feature_values(observations, returns, mask, regularization=regularization)
    for task in range(N):
        design = [features(observations[task, env].numpy()) for env in range(E)]
        rows = np.concatenate([d[:-1][mask[task, e].numpy()] for e, d in enumerate(design)])
        targets = returns[task][mask[task]].numpy()
        size = rows.shape[1]
        # Ridge regression is least squares with √ρ·w = 0 as further equations.
        augmented = np.concatenate([rows, np.sqrt(regularization) * np.eye(size)])
        weights = np.linalg.lstsq(augmented, np.concatenate([targets, np.zeros(size)]))[0]
        for env in range(E):
            length = int(mask[task, env].sum())
            values, wanted = got[task, env], design[env] @ weights
            np.testing.assert_allclose(
                values[: length + 1], wanted[: length + 1], rtol=0, atol=1e-8
            )
            assert not values[length + 1 :].any()


def test_one_step_gives_the_hand_computed_values():
    # φ(1, t=0) = [1, 1, 0, 0, 0, 1], so w = φ · 3.5 / (3 + .5) = φ; φ(2, t=1) · w = 2 + 4 + 1.
    observations = torch.tensor([[[[1.0], [2.0]]]], dtype=torch.float64)
    returns = torch.tensor([[[3.5]]], dtype=torch.float64)
    got = linear_feature_values(observations, returns, returns > 0, regularization=0.5)
    torch.testing.assert_close(got, torch.tensor([[[3.0, 7.0]]], dtype=torch.float64))


def test_masked_steps_do_not_influence_the_fit():
    observations, returns, mask = random_batch()
    other_observations, other_returns, _ = random_batch(seed=1)
    changed_returns = torch.where(mask, returns, other_returns)
    changed = observations.clone()
    changed[:, :, :-1][~mask] = other_observations[:, :, :-1][~mask]
    changed[:, :, -1] = other_observations[:, :, -1]  # follows the last step, never fitted
    assert int((~mask).sum()) > 100
    before = linear_feature_values(observations, returns, mask)
    after = linear_feature_values(changed, changed_returns, mask)
    assert torch.equal(before[:, :, :-1][mask], after[:, :, :-1][mask])


def test_a_return_that_is_linear_in_the_features_is_reproduced():
    observations, _, mask = random_batch()
    s, time = observations.clamp(-10, 10), torch.arange(T + 1, dtype=torch.float64) / 100
    exact = 2 * s[..., 0] - 0.5 * s[..., 1] ** 2 + 3 - 7 * time + 40 * time**2 - 60 * time**3
    got = linear_feature_values(observations, exact[..., :-1], mask, regularization=1e-11)
    assert exact.abs().max() > 40
    valued = torch.cat([torch.ones_like(mask[..., :1]), mask], -1)
    torch.testing.assert_close(got, torch.where(valued, exact, 0), rtol=0, atol=1e-4)


def test_the_fit_does_not_depend_on_how_much_padding_there_is():
    """40 steps in each of 5 environments: with 360 steps of padding the valid ones are packed."""
    observations, returns, _ = random_batch()
    full = torch.ones_like(returns, dtype=torch.bool)
    want = linear_feature_values(observations, returns, full)
    nonsense = torch.full((N, E, 360), 7.0, dtype=torch.float64)
    longer = torch.cat([observations, nonsense.unsqueeze(-1).expand(-1, -1, -1, 2)], 2)
    padded = torch.cat([full, torch.zeros_like(nonsense, dtype=torch.bool)], -1)
    got = linear_feature_values(longer, torch.cat([returns, nonsense], -1), padded)
    torch.testing.assert_close(got[..., : T + 1], want, rtol=0, atol=1e-10)
    assert not got[..., T + 1 :].any()


def test_steps_in_the_middle_of_an_episode_can_be_fitted():
    observations, returns, mask = random_batch()
    mask = mask & (torch.arange(T) >= 30)
    mask[:, 0] |= torch.arange(T) >= 30
    moved = torch.where(mask, returns, 99.0)
    assert torch.equal(
        linear_feature_values(observations, returns, mask),
        linear_feature_values(observations, moved, mask),
    )
    exact = torch.full_like(returns, 2.5)
    got = linear_feature_values(observations, exact, mask, regularization=1e-11)
    torch.testing.assert_close(got[:, :, :-1][mask], exact[mask], rtol=0, atol=1e-4)


def test_observations_are_clipped_at_ten():
    observations, returns, mask = random_batch()
    clipped = observations.clamp(-10, 10)
    assert not torch.equal(clipped, observations)
    assert torch.equal(
        linear_feature_values(observations, returns, mask),
        linear_feature_values(clipped, returns, mask),
    )


def test_changing_one_task_leaves_the_others_bitwise_equal():
    before, after, other = random_batch(), random_batch(), random_batch(seed=1)
    for mine, theirs in zip(after, other, strict=True):
        mine[1] = theirs[1]
    one, two = linear_feature_values(*before), linear_feature_values(*after)
    assert torch.equal(one[[0, 2]], two[[0, 2]])
    assert not torch.equal(one[1], two[1])


def test_float32_returns_give_float32_values_of_a_float64_fit():
    observations, returns, mask = random_batch()
    exact = linear_feature_values(observations, returns.float().double(), mask)
    got = linear_feature_values(observations, returns.float(), mask)
    assert got.dtype == torch.float32
    assert torch.equal(got, exact.float())


def test_shapes_that_do_not_fit_are_rejected():
    observations, returns, mask = random_batch()
    message = (
        r"observations must have 41 time steps and mask the shape of returns \(3, 5, 40\), "
        r"got \(3, 5, 4.*\) and \(3, 5, "
    )
    with pytest.raises(ValueError, match=message):
        linear_feature_values(observations[:, :, :-1], returns, mask)
    with pytest.raises(ValueError, match=message):
        linear_feature_values(observations, returns, mask[..., :-1])


GAMMA, LAMBDA = 0.9, 0.8


def real(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def flags(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.bool)


def random_batch_returns(seed: int = 0) -> dict[str, Tensor]:
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
    batch = random_batch_returns()
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


def test_next_values_replace_the_value_of_the_next_episode():
    got = generalized_advantages(
        real(1, 2, 3), real(0.5, 1, -1, 4), flags(0, 0, 0), flags(0, 1, 0),
        gamma=0.5, gae_lambda=0.5, next_values=real(1, 2, 4),
    )  # fmt: skip
    torch.testing.assert_close(got, real(1.5, 2.0, 6.0))


def test_advantages_with_lambda_one_are_bootstrapped_returns_minus_values():
    batch = random_batch_returns()
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
    batch = random_batch_returns()
    follows = torch.where(batch["terminated"], 0.0, batch["values"][..., 1:])
    expected = batch["rewards"] + GAMMA * follows - batch["values"][..., :-1]
    del batch["next_values"]
    got = generalized_advantages(**batch, gamma=GAMMA, gae_lambda=0.0)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("own_next_values", [False, True])
def test_advantages_equal_discounted_sums_of_one_step_errors(own_next_values):
    batch = random_batch_returns()
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


def test_changing_one_environment_leaves_the_others_bitwise_equal():
    before, after = random_batch_returns(), random_batch_returns()
    other = random_batch_returns(seed=1)
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
    batch = random_batch_returns()
    batch["rewards"] = batch["rewards"].to(dtype)
    assert discounted_returns(batch["rewards"], batch["terminated"], GAMMA).dtype == dtype
    assert generalized_advantages(**batch, gamma=GAMMA, gae_lambda=LAMBDA).dtype == dtype


def test_arguments_are_not_modified():
    batch, untouched = random_batch_returns(), random_batch_returns()
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
def test_returns_reject_invalid_arguments(ends, gamma, message):
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
def test_advantages_reject_invalid_arguments(change, message):
    arguments = {
        "rewards": real(1, 2, 3), "values": real(1, 2, 3, 4), "terminated": flags(0, 0, 0),
        "truncated": flags(0, 0, 0), "gamma": 0.9, "gae_lambda": 0.9,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        generalized_advantages(**{**arguments, **change})
