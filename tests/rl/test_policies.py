"""Policies: all tasks in one call, any middle axes, and what `action_divisor` means."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from policies import categorical_policy, gaussian_policy
from torch import Tensor

from metarl.rl.distributions import Categorical, DiagonalGaussian
from metarl.rl.policies import NetworkPolicy, make_policy

GAUSSIAN = gaussian_policy(3, 2, hidden_sizes=(8, 6), activation="tanh", initial_std=0.7)
CATEGORICAL = categorical_policy(3, 4, hidden_sizes=(8,), activation="tanh")
both = pytest.mark.parametrize("policy", [GAUSSIAN, CATEGORICAL], ids=["gaussian", "categorical"])


def with_head(**settings: float) -> NetworkPolicy:
    return replace(GAUSSIAN, head=replace(GAUSSIAN.head, **settings))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def params_of(policy: NetworkPolicy, seed: int = 0) -> dict[str, Tensor]:
    """Initial parameters plus noise, so that all tasks and entries differ. float64."""
    initial = policy.init(generator(seed))
    return {
        name: p.double() + 0.2 * randn(*p.shape, seed=1000 * seed + k)
        for k, (name, p) in enumerate(initial.items())
    }


def stacked(policy: NetworkPolicy, num_tasks: int) -> dict[str, Tensor]:
    single = [params_of(policy, seed) for seed in range(num_tasks)]
    return {name: torch.stack([p[name] for p in single]) for name in single[0]}


@both
@pytest.mark.parametrize("middle", [(), (5,), (4, 5), (2, 3, 5)])
def test_all_tasks_in_one_call_equal_a_loop_over_tasks(policy, middle):
    params, observations = stacked(policy, 3), randn(3, *middle, 3, seed=7)
    together = policy.distribution(params, observations)
    assert together.entropy().shape == (3, *middle)
    for task in range(3):
        alone = policy.distribution({k: p[task] for k, p in params.items()}, observations[task])
        for got, expected in zip(together.outputs, alone.outputs, strict=True):
            same = torch.broadcast_tensors(got[task], expected)
            torch.testing.assert_close(*same, rtol=1e-12, atol=1e-14)


@both
@pytest.mark.parametrize("middle", [(), (4, 5)])
def test_one_observation_after_the_other_gives_what_the_batch_gives(policy, middle):
    params, observations = params_of(policy), randn(*middle, 3, seed=7)
    batch = policy.distribution(params, observations).mode().reshape(math.prod(middle), -1)
    for row, observation in enumerate(observations.reshape(-1, 3)):
        single = policy.distribution(params, observation).mode()
        torch.testing.assert_close(batch[row], single.reshape(-1), rtol=1e-12, atol=1e-14)


@both
def test_changing_one_task_leaves_the_others_bitwise_equal(policy):
    params, observations = stacked(policy, 3), randn(3, 5, 3, seed=7)
    changed = {name: p.clone() for name, p in params.items()}
    for p in changed.values():
        p[1] += 0.5
    before = policy.distribution(params, observations).entropy()
    after = policy.distribution(changed, observations).entropy()
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])


def test_action_divisor_divides_mean_and_standard_deviation():
    params, observations = params_of(GAUSSIAN), randn(4, 5, 3, seed=7)
    plain = GAUSSIAN.distribution(params, observations)
    scaled = with_head(action_divisor=10.0).distribution(params, observations)
    torch.testing.assert_close(scaled.mean, plain.mean / 10, rtol=1e-12, atol=0)
    torch.testing.assert_close(scaled.log_std.exp(), plain.log_std.exp() / 10, rtol=1e-12, atol=0)


def test_action_divisor_leaves_ratios_and_divergences_as_they_were():
    scaled_policy = with_head(action_divisor=10.0)
    observations, actions = randn(4, 5, 3, seed=7), randn(4, 5, 2, seed=8)
    old, new = params_of(GAUSSIAN, 0), params_of(GAUSSIAN, 1)

    def ratio_and_kl(policy: NetworkPolicy, taken: Tensor) -> tuple[Tensor, Tensor]:
        before = policy.distribution(old, observations)
        after = policy.distribution(new, observations)
        return after.log_prob(taken) - before.log_prob(taken), after.kl_from(before)

    plain, scaled = ratio_and_kl(GAUSSIAN, actions), ratio_and_kl(scaled_policy, actions / 10)
    assert plain[1].min() > 0.01
    torch.testing.assert_close(scaled, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("action_divisor", [1.0, 10.0])
def test_the_initial_standard_deviation_is_the_given_one(action_divisor):
    policy = with_head(initial_std=0.3, action_divisor=action_divisor)
    distribution = policy.distribution(policy.init(generator()), torch.zeros(5, 3))
    expected = torch.full((1, 2), 0.3 / action_divisor)
    torch.testing.assert_close(distribution.log_std.exp(), expected)


def test_the_standard_deviation_never_falls_below_the_minimum():
    policy = with_head(min_std=0.2)
    params = params_of(policy)
    params["log_std"] = torch.tensor([-50.0, math.log(0.5)], dtype=torch.float64)
    std = policy.distribution(params, randn(5, 3, seed=7)).log_std.exp()
    expected = torch.tensor([[0.2, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(std, expected, rtol=1e-12, atol=0)


@both
def test_the_generator_alone_determines_the_initial_parameters(policy):
    first, second, other = (policy.init(generator(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["weight_0"], other["weight_0"])


@both
def test_gradients_reach_every_parameter_of_its_own_task_only(policy):
    params = {name: p.requires_grad_() for name, p in stacked(policy, 3).items()}
    distribution = policy.distribution(params, randn(3, 5, 3, seed=7))
    log_probs = distribution.log_prob(distribution.detach().sample(generator()))
    gradients = torch.autograd.grad(log_probs[1].sum(), list(params.values()))
    for gradient in gradients:
        assert gradient[1].abs().max() > 0
        assert not gradient[[0, 2]].any()


@both
def test_functional_transforms_give_the_gradients_of_the_batched_call(policy):
    params, observations = stacked(policy, 3), randn(3, 5, 3, seed=7)
    actions = policy.distribution(params, observations).sample(generator())

    def log_likelihood(values: dict[str, Tensor], states: Tensor, taken: Tensor) -> Tensor:
        return policy.distribution(values, states).log_prob(taken).sum()

    got = torch.func.vmap(torch.func.grad(log_likelihood))(params, observations, actions)
    expected = torch.func.grad(log_likelihood)(params, observations, actions)
    for name in params:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-10, atol=1e-12)


def make(observation_space: spaces.Space, action_space: spaces.Space):
    return make_policy(
        observation_space, action_space, hidden_sizes=(8,), activation="tanh",
        initial_std=0.5, min_std=0.1, action_divisor=2.0,
    )  # fmt: skip


def test_make_policy_uses_a_gaussian_for_boxes():
    policy = make(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)))
    assert policy == gaussian_policy(
        3, 2, (8,), "tanh", initial_std=0.5, min_std=0.1, action_divisor=2.0
    )
    distribution = policy.distribution(policy.init(generator()), torch.zeros(5, 3))
    assert isinstance(distribution, DiagonalGaussian)
    assert distribution.mean.shape == (5, 2)


def test_make_policy_uses_a_categorical_for_discrete_actions():
    policy = make(spaces.Box(-1, 1, (3,)), spaces.Discrete(4))
    assert policy.network.sizes == (3, 8, 4)
    distribution = policy.distribution(policy.init(generator()), torch.zeros(5, 3))
    assert isinstance(distribution, Categorical)
    assert distribution.logits.shape == (5, 4)


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (spaces.Discrete(3), spaces.Discrete(2), r"observation_space must be a Box, got Discrete"),
        (
            spaces.Box(-1, 1, (2, 3), np.float32),
            spaces.Discrete(2),
            r"observation_space must be flat, got shape \(2, 3\)",
        ),
        (
            spaces.Box(-1, 1, (3,)),
            spaces.Text(4),
            r"action_space must be built from Box, Discrete, MultiDiscrete and MultiBinary, got Te",
        ),
        (
            spaces.Box(-1, 1, (3,)),
            spaces.Dict(a=spaces.Discrete(2), b=spaces.Sequence(spaces.Discrete(2))),
            r"action_space must be built from .*, got Sequence",
        ),
    ],
)
def test_make_policy_rejects_other_spaces(observation_space, action_space, message):
    with pytest.raises(TypeError, match=message):
        make(observation_space, action_space)
