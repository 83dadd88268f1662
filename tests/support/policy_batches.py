"""Policies of a few parameters in float64, and batches of their steps."""

import pytest
import torch
from policies import categorical_policy, gaussian_policy

from metarl.parameters import Params
from metarl.rl.objectives import PolicyBatch, log_prob_loss, ratio_loss
from metarl.rl.policies import Policy

NUM_TASKS, NUM_ENVS, NUM_STEPS = 3, 2, 4
POLICIES: dict[str, Policy] = {
    "gaussian": gaussian_policy(2, 2, (3,), "tanh", initial_std=0.7),
    "scaled gaussian": gaussian_policy(2, 2, (3,), "tanh", initial_std=0.7, action_divisor=5.0),
    "categorical": categorical_policy(2, 3, (3,), "tanh"),
}
LOSSES = {"log_prob": log_prob_loss, "ratio": ratio_loss}

policies = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
losses = pytest.mark.parametrize("make_loss", LOSSES.values(), ids=LOSSES)
none_or_some_masked = pytest.mark.parametrize("masked", [False, True], ids=["full", "masked"])


def parameters(policy: Policy) -> Params:
    """Initial parameters plus noise, so that no entry is zero. float64, no task axis."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: p.double() + 0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for name, p in policy.init(generator).items()
    }


def expanded(params: Params) -> Params:
    return {name: p.expand(NUM_TASKS, *p.shape) for name, p in params.items()}


def batch_of(policy: Policy, params: Params, seed: int, *, masked: bool = False) -> PolicyBatch:
    """Actions sampled by the policy; masked batches count 8, 5 and 1 states of the three tasks."""
    generator = torch.Generator().manual_seed(seed)
    shape = (NUM_TASKS, NUM_ENVS, NUM_STEPS)
    observations = torch.randn(*shape, 2, generator=generator, dtype=torch.float64)
    behavior = policy.distribution(expanded(params), observations)
    actions = behavior.sample(generator)
    counted = torch.tensor([8, 5, 1] if masked else [8, 8, 8])
    mask = torch.arange(NUM_ENVS * NUM_STEPS).view(shape[1:]) < counted.view(-1, 1, 1)
    return PolicyBatch(
        observations,
        actions,
        behavior.log_prob(actions),
        torch.randn(shape, generator=generator, dtype=torch.float64),
        mask,
        torch.randn(shape, generator=generator, dtype=torch.float64),  # rewards
        torch.randn(shape, generator=generator, dtype=torch.float64),  # values
        torch.where(mask, torch.arange(NUM_STEPS), 0),
        torch.ones(shape, dtype=torch.float64),
    )
