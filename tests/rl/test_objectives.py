"""Losses and batches of policy gradients, by hand and by loops.

PPO's losses against numbers computed by hand, on both sides of every bound.
"""

from __future__ import annotations

import math

import pytest
import torch
from policies import categorical_policy, gaussian_policy
from policy_batches import (
    LOSSES,
    NUM_TASKS,
    POLICIES,
    batch_of,
    expanded,
    losses,
    none_or_some_masked,
    parameters,
    policies,
)
from torch import Tensor

from metarl.parameters import Params
from metarl.rl.distributions import Distribution
from metarl.rl.masked import masked_mean, standardize, state_weights
from metarl.rl.objectives import (
    PolicyBatch,
    clipped_surrogate,
    clipped_value_loss,
    log_prob_loss,
    policy_batch,
    ratio_loss,
)
from metarl.rl.policies import Policy
from metarl.rl.returns import (
    bootstrapped_feature_values,
    discounted_returns,
    linear_feature_values,
)
from metarl.rollouts.episodes import Episodes

# Losses.

NO_REWARDS = dict.fromkeys(("rewards", "values", "times", "scale"), torch.zeros(1, 1, 1))
"""Fields that the losses of single steps do not use."""


def test_the_losses_of_a_biased_coin_equal_hand_computed_values():
    policy = categorical_policy(1, 2, hidden_sizes=())
    params = {
        "weight_0": torch.zeros(1, 2, 1, dtype=torch.float64),
        "bias_0": torch.tensor([[0.0, math.log(3.0)]], dtype=torch.float64),  # 1/4 and 3/4
    }
    batch = PolicyBatch(
        observations=torch.ones(1, 2, 2, 1, dtype=torch.float64),
        actions=torch.tensor([[[1, 0], [1, 0]]]),
        log_probs=torch.full((1, 2, 2), math.log(0.5), dtype=torch.float64),
        advantages=torch.tensor([[[2.0, -1.0], [0.5, 9.0]]], dtype=torch.float64),
        mask=torch.tensor([[[True, True], [True, False]]]),
        **NO_REWARDS,
    )
    log_prob = -(2.5 * math.log(0.75) - math.log(0.25)) / 3
    ratio = -(2 * 1.5 - 1 * 0.5 + 0.5 * 1.5) / 3
    assert log_prob_loss(policy)(params, batch).tolist() == pytest.approx([log_prob], rel=1e-12)
    assert ratio_loss(policy)(params, batch).tolist() == pytest.approx([ratio], rel=1e-12)


def test_the_losses_of_a_normal_distribution_equal_hand_computed_values():
    policy = gaussian_policy(1, 1, hidden_sizes=())
    params = {
        "weight_0": torch.tensor([[[2.0]]]),  # mean 2 s
        "bias_0": torch.tensor([[0.0]]),
        "log_std": torch.tensor([[math.log(2.0)]]),
    }
    batch = PolicyBatch(
        observations=torch.tensor([[[[1.0], [-1.0]]]]),
        actions=torch.tensor([[[[4.0], [-2.0]]]]),  # one standard deviation away, and the mean
        log_probs=torch.tensor([[[-1.0, -2.0]]]),
        advantages=torch.tensor([[[3.0, -2.0]]]),
        mask=torch.tensor([[[True, True]]]),
        **NO_REWARDS,
    )
    at_mean = -math.log(2) - 0.5 * math.log(2 * math.pi)
    log_prob = -(3 * (at_mean - 0.5) - 2 * at_mean) / 2
    ratio = -(3 * math.exp(at_mean - 0.5 + 1) - 2 * math.exp(at_mean + 2)) / 2
    assert log_prob_loss(policy)(params, batch).tolist() == pytest.approx([log_prob])
    assert ratio_loss(policy)(params, batch).tolist() == pytest.approx([ratio])


@policies
@none_or_some_masked
def test_both_losses_have_one_gradient_at_the_parameters_that_acted(policy, masked):
    params = parameters(policy)
    batch = batch_of(policy, params, 1, masked=masked)
    leaves = {name: p.clone().requires_grad_() for name, p in expanded(params).items()}
    gradients = [
        torch.autograd.grad(make_loss(policy)(leaves, batch).sum(), list(leaves.values()))
        for make_loss in LOSSES.values()
    ]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)
    assert all(float(gradient.abs().max()) > 1e-3 for gradient in gradients[0])


@policies
@losses
def test_steps_that_are_masked_do_not_count(policy, make_loss):
    params = parameters(policy)
    batch = batch_of(policy, params, 1, masked=True)
    other = batch_of(policy, params, 2)
    changed = PolicyBatch(
        *(
            torch.where(batch.mask.view(*batch.mask.shape, *[1] * (one.dim() - 3)), one, two)
            for one, two in zip(batch[:4], other[:4], strict=True)
        ),
        *batch[4:],
    )
    results = []
    for data in (batch, changed):
        leaves = {name: p.clone().requires_grad_() for name, p in expanded(params).items()}
        values = make_loss(policy)(leaves, data)
        results.append((values, *torch.autograd.grad(values.sum(), list(leaves.values()))))
    assert not torch.equal(batch.observations, changed.observations)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


@policies
@losses
def test_the_mean_is_over_the_steps_that_count(policy, make_loss):
    params = parameters(policy)
    batch = batch_of(policy, params, 1, masked=True)
    values = make_loss(policy)(expanded(params), batch)
    assert values.shape == (NUM_TASKS,)
    for task in range(NUM_TASKS):
        kept = batch.mask[task]
        alone = PolicyBatch(*(part[task][kept].unsqueeze(0).unsqueeze(0) for part in batch))
        one_task = {name: p.unsqueeze(0) for name, p in params.items()}
        torch.testing.assert_close(
            values[task], make_loss(policy)(one_task, alone)[0], rtol=1e-12, atol=0
        )


def test_state_weights_sum_to_one_over_the_steps_that_count():
    mask = torch.tensor([[[True, True], [False, True]], [[False, True], [False, False]]])
    expected = torch.tensor([[[1 / 3, 1 / 3], [0, 1 / 3]], [[0, 1], [0, 0]]])
    torch.testing.assert_close(state_weights(mask, torch.float32), expected)


# Batches.

GAMMA, GAE_LAMBDA = 0.9, 0.8


def episodes_of(policy: Policy, params: Params) -> tuple[Episodes, Distribution]:
    """3 tasks × 2 environments × 4 steps: one ends early, one terminates, the others are cut."""
    generator = torch.Generator().manual_seed(5)
    observations = torch.randn(NUM_TASKS, 2, 5, 2, generator=generator, dtype=torch.float64)
    behavior = policy.distribution(expanded(params), observations[:, :, :-1])
    rewards = torch.randn(NUM_TASKS, 2, 4, generator=generator, dtype=torch.float64) + 1
    terminated = torch.zeros(NUM_TASKS, 2, 4, dtype=torch.bool)
    truncated = torch.zeros_like(terminated)
    terminated[0, 0, 1] = terminated[1, 1, 3] = True
    truncated[:, :, 3] = ~terminated[:, :, 3]
    truncated[0, 0] = False
    mask = torch.ones_like(terminated)
    mask[0, 0, 2:] = False
    return Episodes(
        observations,
        behavior.sample(generator),
        torch.where(mask, rewards, 0),
        terminated,
        truncated,
        mask,
    ), behavior


def batch_from_episodes(policy: Policy, **settings: object) -> tuple[PolicyBatch, Episodes]:
    episodes, behavior = episodes_of(policy, parameters(policy))
    defaults = {
        "gamma": GAMMA,
        "gae_lambda": GAE_LAMBDA,
        "baseline": "linear",
        "normalize": False,
        "bootstrap_truncated": False,
    }
    log_probs = behavior.log_prob(episodes.actions)
    return policy_batch(episodes, log_probs, **(defaults | settings)), episodes


@policies
def test_a_batch_keeps_the_axes_of_environments_and_time(policy):
    batch, episodes = batch_from_episodes(policy)
    behavior = episodes_of(policy, parameters(policy))[1]
    assert torch.equal(batch.observations, episodes.observations[:, :, :4])
    assert torch.equal(batch.actions, episodes.actions)
    assert torch.equal(batch.mask, episodes.mask)
    assert torch.equal(batch.log_probs, behavior.log_prob(episodes.actions))
    assert batch.advantages.shape == (NUM_TASKS, 2, 4)
    assert all(part.is_contiguous() for part in batch)


@policies
def test_the_first_environments_are_a_view_of_the_batch(policy):
    batch, _ = batch_from_episodes(policy)
    first = batch.first_envs(1)
    for whole, part in zip(batch, first, strict=True):
        assert torch.equal(part, whole[:, :1])
        assert part.data_ptr() == whole.data_ptr()


@policies
@losses
def test_a_loss_does_not_depend_on_how_steps_are_split_into_episodes(policy, make_loss):
    """Bitwise: all reductions run over the steps of a task in one order."""
    params = parameters(policy)
    batch = batch_of(policy, params, 1, masked=True)
    joined = PolicyBatch(*(part.flatten(1, 2).unsqueeze(1) for part in batch))
    results = []
    for data in (batch, joined):
        leaves = {name: p.clone().requires_grad_() for name, p in expanded(params).items()}
        values = make_loss(policy)(leaves, data)
        results.append((values, *torch.autograd.grad(values.sum(), list(leaves.values()))))
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_a_batch_has_no_graph():
    policy = POLICIES["gaussian"]
    params = parameters(policy)
    episodes, _ = episodes_of(policy, params)
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    behavior = policy.distribution(expanded(leaves), episodes.observations[:, :, :-1])
    batch = policy_batch(
        episodes,
        behavior.log_prob(episodes.actions),
        gamma=GAMMA,
        gae_lambda=GAE_LAMBDA,
        baseline="linear",
        normalize=True,
        bootstrap_truncated=False,
    )
    assert not any(part.requires_grad for part in batch)


@pytest.mark.parametrize("bootstrap_truncated", [False, True])
def test_advantages_without_a_baseline_are_discounted_returns(bootstrap_truncated):
    batch, episodes = batch_from_episodes(
        POLICIES["gaussian"],
        baseline="none",
        gae_lambda=1.0,
        bootstrap_truncated=bootstrap_truncated,
    )
    returns = discounted_returns(episodes.rewards, episodes.terminated | episodes.truncated, GAMMA)
    counted = episodes.mask
    torch.testing.assert_close(batch.advantages[counted], returns[counted])


@pytest.mark.parametrize("bootstrap_truncated", [False, True])
def test_advantages_follow_their_definition_and_bootstrap_truncation_only_if_requested(
    bootstrap_truncated,
):
    batch, episodes = batch_from_episodes(
        POLICIES["gaussian"], bootstrap_truncated=bootstrap_truncated
    )
    ends = episodes.terminated | episodes.truncated
    returns = discounted_returns(episodes.rewards, ends, GAMMA)
    values = linear_feature_values(episodes.observations, returns, episodes.mask)
    if bootstrap_truncated:
        values = bootstrapped_feature_values(
            episodes.observations,
            episodes.rewards,
            episodes.terminated,
            episodes.mask,
            gamma=GAMMA,
            gae_lambda=GAE_LAMBDA,
        )
    advantages = batch.advantages
    for task, env, t in episodes.mask.nonzero().tolist():
        here = (task, env, t)
        expected, factor = 0.0, 1.0
        for k in range(t, 4):  # Σ (γλ)^(k − t) δ_k up to the episode's end
            step = (task, env, k)
            valued = not episodes.terminated[step] and (
                bootstrap_truncated or not episodes.truncated[step]
            )
            following = GAMMA * float(values[task, env, k + 1]) if valued else 0.0
            expected += factor * float(episodes.rewards[step] + following - values[step])
            factor *= GAMMA * GAE_LAMBDA
            if ends[step]:
                break
        assert float(advantages[here]) == pytest.approx(expected, rel=1e-9)


def test_advantages_are_standardized_task_by_task_over_the_steps_that_count():
    policy = POLICIES["gaussian"]
    plain, _ = batch_from_episodes(policy)
    batch, _ = batch_from_episodes(policy, normalize=True)
    for task in range(NUM_TASKS):
        kept = batch.mask[task]
        raw, standardized = plain.advantages[task, kept], batch.advantages[task, kept]
        expected = (raw - raw.mean()) / raw.std(correction=0)
        torch.testing.assert_close(standardized, expected, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(plain.advantages, batch.advantages, atol=0.1)


def test_a_task_does_not_depend_on_the_episodes_of_another():
    policy = POLICIES["gaussian"]
    episodes, behavior = episodes_of(policy, parameters(policy))
    log_probs = behavior.log_prob(episodes.actions)
    settings = {"gamma": GAMMA, "gae_lambda": GAE_LAMBDA, "baseline": "linear"}
    batches = []
    for reward in (0.0, 3.0):
        episodes.rewards[1, 0, 2] += reward
        batches.append(
            policy_batch(episodes, log_probs, normalize=True, bootstrap_truncated=False, **settings)
        )
    assert torch.equal(batches[0].advantages[[0, 2]], batches[1].advantages[[0, 2]])
    assert not torch.equal(batches[0].advantages[1], batches[1].advantages[1])


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ε = 0.2; ratios below, within and above the bounds, for advantages of both signs.
RATIOS = [0.5, 0.5, 0.9, 0.9, 1.1, 1.1, 1.5, 1.5]
ADVANTAGES = [2.0, -2.0] * 4
LOSSES_PPO = [-1.0, 1.6, -1.8, 1.8, -2.2, 2.2, -2.4, 3.0]
SLOPES = [-1.0, 0.0, -1.8, 1.8, -2.2, 2.2, 0.0, 3.0]  # in the log-probability: −ρ A, or 0


def test_the_surrogate_is_the_worse_of_the_clipped_and_the_unclipped():
    old = numbers(*[-3.0, -0.5] * 4)
    log_probs = (old + numbers(*RATIOS).log()).requires_grad_()
    losses = clipped_surrogate(log_probs, old, numbers(*ADVANTAGES), clip=0.2)
    assert losses.tolist() == pytest.approx(LOSSES_PPO)
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


def test_masked_steps_have_no_gradient():
    values = numbers(1.0, 2.0, math.inf).requires_grad_()
    mask = torch.tensor([True, True, False])
    (gradient,) = torch.autograd.grad(masked_mean(values, mask), values)
    assert gradient.tolist() == [0.5, 0.5, 0]


def test_standardized_values_have_mean_zero_and_deviation_one_over_what_counts():
    values = torch.tensor([[1.0, 3.0, 100.0], [5.0, -9.0, 7.0]])
    mask = torch.tensor([[True, True, False], [True, False, True]])
    scaled = standardize(values, mask)
    root = math.sqrt(5)  # of the squares 9, 1, 1, 9 around the mean 4
    expected = torch.tensor([[-3, -1, 0], [1, 0, 3]]) / root
    torch.testing.assert_close(scaled, expected)


def test_equal_values_become_zero():
    scaled = standardize(torch.full((2, 3), 7.0), torch.ones(2, 3, dtype=torch.bool))
    assert not scaled.any()
