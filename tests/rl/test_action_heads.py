"""Action heads: which distribution a network's outputs stand for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl.rl.action_heads import ActionHead
from metarl.rl.distributions import Categorical, DiagonalGaussian, MultiCategorical
from metarl.rl.policies import GaussianPolicy

BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)
CPU = torch.device("cpu")


def outputs(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_discrete_outputs_are_log_probabilities():
    head = ActionHead(spaces.Discrete(4))
    assert (head.size, head.init(CPU)) == (4, {})
    distribution = head.distribution(outputs(2, 5, 4), {})
    assert isinstance(distribution, Categorical)
    assert torch.equal(distribution.logits, outputs(2, 5, 4))


def test_multi_discrete_outputs_are_log_probabilities_of_each_choice():
    head = ActionHead(spaces.MultiDiscrete([2, 4, 3]))
    assert (head.size, head.init(CPU)) == (9, {})
    distribution = head.distribution(outputs(2, 5, 9), {})
    assert isinstance(distribution, MultiCategorical)
    assert distribution.sizes == (2, 4, 3)
    assert torch.equal(distribution.logits, outputs(2, 5, 9))


def test_continuous_outputs_are_means_and_the_deviation_ignores_them():
    head = ActionHead(BOX, initial_std=0.5)
    params = head.init(CPU)
    assert torch.allclose(params["log_std"].exp(), torch.full((3,), 0.5))
    distribution = head.distribution(outputs(2, 5, 3), params)
    assert isinstance(distribution, DiagonalGaussian)
    assert torch.equal(distribution.mean, outputs(2, 5, 3))
    torch.testing.assert_close(distribution.log_std.exp(), torch.full((2, 5, 3), 0.5))


@pytest.mark.parametrize("log_std", [-9.0, 0.3])
def test_scale_and_bound_are_those_of_the_gaussian_policy(log_std):
    policy = GaussianPolicy(2, 3, hidden_sizes=(), min_std=0.1, action_scale=4.0)
    params = policy.init(torch.Generator().manual_seed(1))
    params["log_std"] = torch.full((3,), log_std)
    observations = outputs(5, 2)
    expected = policy.distribution(params, observations)
    means = observations @ params["weight_0"].T + params["bias_0"]
    head = ActionHead(BOX, min_std=0.1, action_scale=4.0)
    got = head.distribution(means, {"log_std": params["log_std"]})
    torch.testing.assert_close(got.mean, expected.mean)
    torch.testing.assert_close(got.log_std, expected.log_std.expand(5, 3))
    assert got.log_std[0, 0] == pytest.approx(max(log_std, math.log(0.1)) - math.log(4))


def test_the_deviation_is_learnt():
    head = ActionHead(BOX)
    log_std = head.init(CPU)["log_std"].requires_grad_()
    distribution = head.distribution(outputs(5, 3), {"log_std": log_std})
    (gradient,) = torch.autograd.grad(distribution.entropy().mean(), log_std)
    assert gradient.tolist() == pytest.approx([1, 1, 1])
