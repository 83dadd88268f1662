"""The linear baseline against least squares in NumPy, one task at a time."""

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.baselines import linear_feature_values

N, E, T = 3, 5, 40


def random_batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Observations, some beyond the clipping range, returns, and masks of unequal episodes."""
    generator = torch.Generator().manual_seed(seed)
    observations = 6 * torch.randn(N, E, T + 1, 2, generator=generator, dtype=torch.float64)
    returns = torch.randn(N, E, T, generator=generator, dtype=torch.float64)
    lengths = torch.randint(3, T + 1, (N, E, 1), generator=generator)
    return observations, returns, torch.arange(T) < lengths


def features(observations: np.ndarray) -> np.ndarray:
    """φ of one episode, row by row as the formula says. [T + 1, 2] ↦ [T + 1, 8]."""
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
            np.testing.assert_allclose(got[task, env], design[env] @ weights, rtol=0, atol=1e-8)


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
    torch.testing.assert_close(got, exact, rtol=0, atol=1e-4)


def test_observations_count_no_further_than_ten():
    observations, returns, mask = random_batch()
    clipped = observations.clamp(-10, 10)
    assert not torch.equal(clipped, observations)
    assert torch.equal(
        linear_feature_values(observations, returns, mask),
        linear_feature_values(clipped, returns, mask),
    )


def test_changing_one_task_leaves_the_others_bit_equal():
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


def test_shapes_that_do_not_fit_are_refused():
    observations, returns, mask = random_batch()
    message = (
        r"observations must have 41 time steps and mask the shape of returns \(3, 5, 40\), "
        r"got \(3, 5, 4.*\) and \(3, 5, "
    )
    with pytest.raises(ValueError, match=message):
        linear_feature_values(observations[:, :, :-1], returns, mask)
    with pytest.raises(ValueError, match=message):
        linear_feature_values(observations, returns, mask[..., :-1])
