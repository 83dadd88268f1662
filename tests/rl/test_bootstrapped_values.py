"""The bootstrapped linear baseline against exact values, a slow loop, and repeated regressions."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.rl.objectives import policy_batch
from metarl.rl.returns import bootstrapped_feature_values, discounted_returns
from metarl.rollouts.episodes import Episodes

GAMMA = 0.9
lambdas = pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])


def none(values: Tensor) -> Tensor:
    return torch.zeros_like(values, dtype=torch.bool)


def every(values: Tensor) -> Tensor:
    return torch.ones_like(values, dtype=torch.bool)


def episodes_of_constant_reward(horizon: int, *, reward: float = 1.0) -> Episodes:
    """Two tasks × 3 episodes that are truncated; observations carry no information."""
    rewards = torch.full((2, 3, horizon), reward)
    truncated = none(rewards)
    truncated[..., -1] = True
    return Episodes(
        torch.randn(2, 3, horizon + 1, 1, generator=torch.Generator().manual_seed(0)),
        torch.zeros(2, 3, horizon, 1),
        rewards,
        none(rewards),
        truncated,
        every(rewards),
    )


@lambdas
@pytest.mark.parametrize(("horizon", "reward"), [(1, 1.0), (20, 1.0), (100, 1.0), (100, -0.3)])
def test_a_constant_reward_is_worth_its_sum_for_ever_after_the_horizon(horizon, reward, gae_lambda):
    episodes = episodes_of_constant_reward(horizon, reward=reward)
    values = bootstrapped_feature_values(
        episodes.observations,
        episodes.rewards,
        episodes.terminated,
        episodes.mask,
        gamma=0.99,
        gae_lambda=gae_lambda,
    )
    torch.testing.assert_close(values, torch.full_like(values, reward / 0.01), rtol=2e-3, atol=0)


def test_bootstrapped_advantages_of_a_constant_reward_vanish():
    episodes = episodes_of_constant_reward(100)
    log_probs = torch.zeros_like(episodes.rewards)
    advantages = {
        bootstraps: policy_batch(
            episodes, log_probs, normalize=False, bootstrap_truncated=bootstraps
        ).advantages
        for bootstraps in (True, False)
    }
    assert advantages[True].abs().max() < 0.2
    assert float((advantages[True] + 100).mean()) == pytest.approx(100, abs=0.2)


RING = 4
NEXT_REWARD = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)


def ring(horizon: int, *, absorbing: int | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One task: a walk along a ring of states from every state; `absorbing` terminates."""
    states = (torch.arange(RING)[:, None] + torch.arange(horizon + 1)) % RING
    rewards = NEXT_REWARD[states[:, :-1]]
    terminated = none(rewards) if absorbing is None else states[:, 1:] == absorbing
    mask = terminated.cumsum(-1) - terminated.long() == 0
    observations = torch.nn.functional.one_hot(states, RING).double()
    return observations[None], rewards[None], terminated[None] & mask, mask[None]


def exact_values(absorbing: int | None = None) -> Tensor:
    """(I − γ P)⁻¹ r of the ring."""
    transition = torch.zeros(RING, RING, dtype=torch.float64)
    for state in range(RING):
        following = (state + 1) % RING
        transition[state, following] = float(following != absorbing)
    eye = torch.eye(RING, dtype=torch.float64)
    return torch.linalg.solve(eye - GAMMA * transition, NEXT_REWARD)


@lambdas
@pytest.mark.parametrize("absorbing", [None, 2])
@pytest.mark.parametrize("horizon", [1, 3, 10])
def test_values_of_a_chain_are_exact(gae_lambda, absorbing, horizon):
    observations, rewards, terminated, mask = ring(horizon, absorbing=absorbing)
    values = bootstrapped_feature_values(
        observations,
        rewards,
        terminated,
        mask,
        gamma=GAMMA,
        gae_lambda=gae_lambda,
        regularization=1e-10,
    )
    expected = observations @ exact_values(absorbing)
    torch.testing.assert_close(values[..., :-1][mask], expected[..., :-1][mask], rtol=1e-6, atol=0)
    cut = mask[..., -1] & ~terminated[..., -1]
    torch.testing.assert_close(values[..., -1][cut], expected[..., -1][cut], rtol=1e-6, atol=0)


def random_batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Three tasks × 5 episodes of unequal lengths; a third of them terminate."""
    generator = torch.Generator().manual_seed(3)
    observations = torch.randn(3, 5, 13, 2, generator=generator, dtype=torch.float64)
    rewards = torch.randn(3, 5, 12, generator=generator, dtype=torch.float64)
    lengths = torch.randint(2, 13, (3, 5, 1), generator=generator)
    mask = torch.arange(12) < lengths
    last = torch.arange(12) == lengths - 1
    terminated = last & (torch.rand(3, 5, 1, generator=generator) < 0.33)
    return observations, rewards, terminated, mask


@lambdas
def test_values_are_the_fixed_point_of_regressions_on_their_own_returns(gae_lambda):
    """Each task by NumPy: returns from the present values, ridge regression, until it converges."""
    observations, rewards, terminated, mask = random_batch()
    ridge, gamma = 0.5, 0.6
    values = bootstrapped_feature_values(
        observations,
        rewards,
        terminated,
        mask,
        gamma=gamma,
        gae_lambda=gae_lambda,
        regularization=ridge,
    ).numpy()
    for task in range(3):
        state = observations[task].numpy()
        phi = np.concatenate([state, state**2, np.ones_like(state[..., :1])], -1)
        weights = np.zeros(5)
        for _ in range(200):
            rows, targets = [], []
            for env in range(5):
                length = int(mask[task, env].sum())
                following = 0.0
                for t in reversed(range(length)):
                    value = phi[env, t + 1] @ weights
                    share = 0.0 if t == length - 1 else gae_lambda
                    ahead = (1 - share) * value + share * following
                    alive = not bool(terminated[task, env, t])
                    following = float(rewards[task, env, t]) + gamma * alive * ahead
                    rows.append(phi[env, t])
                    targets.append(following)
            gram = np.array(rows).T @ np.array(rows) + ridge * np.eye(5)
            weights = np.linalg.solve(gram, np.array(rows).T @ np.array(targets))
        for env in range(5):
            length = int(mask[task, env].sum())
            np.testing.assert_allclose(
                values[task, env, : length + 1], phi[env, : length + 1] @ weights, rtol=1e-9
            )
            assert (values[task, env, length + 1 :] == 0).all()


@lambdas
def test_masked_steps_and_other_tasks_do_not_matter(gae_lambda):
    observations, rewards, terminated, mask = random_batch()
    settings = {"gamma": GAMMA, "gae_lambda": gae_lambda}
    before = bootstrapped_feature_values(observations, rewards, terminated, mask, **settings)
    observations[:, :, 1:][~mask] = math.nan
    rewards[~mask] = math.nan
    rewards[1, 0, 0] += 1
    after = bootstrapped_feature_values(observations, rewards, terminated, mask, **settings)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])


def test_values_stay_within_the_limits_of_the_rewards():
    """States that grow in time by a factor of 1/γ make the system singular."""
    observations = (GAMMA ** -torch.arange(9.0, dtype=torch.float64)).view(1, 1, 9, 1)
    rewards = torch.rand(1, 1, 8, generator=torch.Generator().manual_seed(1)).double()
    values = bootstrapped_feature_values(
        observations, rewards, none(rewards), every(rewards), gamma=GAMMA, gae_lambda=1.0
    )
    assert values.min() >= 0
    assert values.max() <= float(rewards.max()) / (1 - GAMMA) + 1e-9


def test_terminated_episodes_are_worth_their_returns():
    """Without a truncation the targets are the discounted returns."""
    observations, rewards, _, mask = random_batch()
    last = torch.arange(12) == mask.sum(-1, keepdim=True) - 1
    values = bootstrapped_feature_values(observations, rewards, last, mask, gamma=GAMMA)
    returns = discounted_returns(rewards, last, GAMMA)
    state = observations[0, :, :-1][mask[0]]
    phi = torch.cat([state, state**2, torch.ones_like(state[:, :1])], -1)
    weights = torch.linalg.lstsq(phi, returns[0][mask[0]].unsqueeze(-1)).solution
    torch.testing.assert_close(
        values[0, :, :-1][mask[0]], (phi @ weights).squeeze(-1), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 1.0}, "gamma must .* 1"),
        ({"gae_lambda": 1.1}, "gae_lambda must"),
        ({"regularization": 0.0}, "regularization must"),
        ({"mask": torch.ones(1, 2, 3).bool()}, "mask must have the shape of rewards"),
        ({"terminated": torch.zeros(1, 2, 4)}, "terminated must be bool"),
        ({"observations": torch.zeros(1, 2, 4, 1)}, "observations must have 5 time steps"),
    ],
)
def test_invalid_arguments_are_rejected(change, message):
    arguments = {
        "observations": torch.zeros(1, 2, 5, 1),
        "rewards": torch.zeros(1, 2, 4),
        "terminated": torch.zeros(1, 2, 4).bool(),
        "mask": torch.ones(1, 2, 4).bool(),
        "gamma": 0.9,
    }
    with pytest.raises(ValueError, match=message):
        bootstrapped_feature_values(**{**arguments, **change})
