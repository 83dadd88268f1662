"""Action heads: the distribution that a network's outputs define."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from policies import gaussian_policy

from metarl.rl.action_heads import ActionHead
from metarl.rl.distributions import (
    Categorical,
    DiagonalGaussian,
    JointDistribution,
    MultiCategorical,
)

BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)
CPU = torch.device("cpu")


def outputs(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_discrete_outputs_are_log_probabilities():
    head = ActionHead(spaces.Discrete(4))
    assert (head.size, head.init(CPU)) == (4, {})
    distribution = head.distribution(outputs(2, 5, 4))
    assert isinstance(distribution, Categorical)
    assert torch.equal(distribution.logits, outputs(2, 5, 4))


def test_multi_discrete_outputs_are_log_probabilities_of_each_choice():
    head = ActionHead(spaces.MultiDiscrete([2, 4, 3]))
    assert (head.size, head.init(CPU)) == (9, {})
    distribution = head.distribution(outputs(2, 5, 9))
    assert isinstance(distribution, MultiCategorical)
    assert distribution.sizes == (2, 4, 3)
    assert torch.equal(distribution.logits, outputs(2, 5, 9))


def test_continuous_outputs_are_means_and_the_deviation_ignores_them():
    head = ActionHead(BOX, initial_std=0.5)
    params = head.init(CPU)
    assert torch.allclose(params["log_std"].exp(), torch.full((3,), 0.5))
    distribution = head.distribution(outputs(2, 5, 3), params["log_std"])
    assert isinstance(distribution, DiagonalGaussian)
    assert torch.equal(distribution.mean, outputs(2, 5, 3))
    torch.testing.assert_close(distribution.log_std.exp(), torch.full((2, 5, 3), 0.5))


@pytest.mark.parametrize("log_std", [-9.0, 0.3])
def test_divisor_and_bound_apply_to_the_gaussian_policy(log_std):
    policy = gaussian_policy(2, 3, hidden_sizes=(), min_std=0.1, action_divisor=4.0)
    params = policy.init(torch.Generator().manual_seed(1))
    params["log_std"] = torch.full((3,), log_std)
    observations = outputs(5, 2)
    expected = policy.distribution(params, observations)
    means = observations @ params["weight_0"].T + params["bias_0"]
    head = ActionHead(BOX, min_std=0.1, action_divisor=4.0)
    got = head.distribution(means, params["log_std"])
    torch.testing.assert_close(got.mean, expected.mean)
    torch.testing.assert_close(got.log_std, expected.log_std.expand(5, 3))
    assert got.log_std[0, 0] == pytest.approx(max(log_std, math.log(0.1)) - math.log(4))


def test_the_deviation_is_learnt():
    head = ActionHead(BOX)
    log_std = head.init(CPU)["log_std"].requires_grad_()
    distribution = head.distribution(outputs(5, 3), log_std)
    (gradient,) = torch.autograd.grad(distribution.entropy().mean(), log_std)
    assert gradient.tolist() == pytest.approx([1, 1, 1])


MIXED = spaces.Dict(
    a=spaces.Discrete(3, start=2), b=spaces.Box(-1.0, 3.0, (2,)), c=spaces.MultiBinary(2)
)


def mixed(seed: int = 0) -> JointDistribution:
    """Outputs and deviations in float64, all entries different. [2, 5, ...]"""
    generator = torch.Generator().manual_seed(seed)
    head = ActionHead(MIXED)
    assert (head.size, head.init(CPU)["log_std"].shape) == (9, (2,))
    values = torch.randn(2, 5, 9, generator=generator, dtype=torch.float64)
    distribution = head.distribution(values, torch.tensor([0.3, -0.6], dtype=torch.float64))
    assert isinstance(distribution, JointDistribution)
    return distribution


def test_a_joint_distribution_is_the_product_of_its_parts():
    joint, old = mixed(), mixed(1)
    first, numbers, last = joint.parts
    assert (first.sizes, first.starts, last.sizes) == ((3,), (2,), (2, 2))
    actions = joint.sample(torch.Generator().manual_seed(3))
    assert actions.shape == (2, 5, 5)
    assert actions[..., 0].min() >= 2
    expected = (
        first.log_prob(actions[..., :1].long())
        + numbers.log_prob(actions[..., 1:3])
        + last.log_prob(actions[..., 3:].long())
    )
    torch.testing.assert_close(joint.log_prob(actions), expected, rtol=1e-12, atol=0)
    kl = sum(part.kl_from(other) for part, other in zip(joint.parts, old.parts, strict=True))
    torch.testing.assert_close(joint.kl_from(old), kl, rtol=1e-12, atol=0)
    entropy = first.entropy() + numbers.entropy() + last.entropy()
    torch.testing.assert_close(joint.entropy(), entropy, rtol=1e-12, atol=0)
    modes = [first.mode().double(), numbers.mode(), last.mode().double()]
    assert torch.equal(joint.mode(), torch.cat(modes, -1))


def test_the_probabilities_of_all_choices_of_a_joint_distribution_add_up_to_1():
    joint = mixed()
    choices = torch.cartesian_prod(torch.tensor([2.0, 3, 4]), *[torch.tensor([0.0, 1])] * 2)
    total = torch.zeros(2, 5, dtype=torch.float64)
    mean, log_std = joint.parts[1].outputs
    density = -log_std.sum(-1) - math.log(2 * math.pi)  # of the normal at its mean
    for choice in choices.double():
        row = torch.cat([choice[:1].expand(2, 5, 1), mean, choice[1:].expand(2, 5, 2)], -1)
        total += (joint.log_prob(row) - density).exp()
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-12, atol=0)


def test_the_fisher_metric_of_a_joint_distribution_is_the_hessian_of_its_divergence():
    base = mixed()
    flat = torch.cat([output.flatten() for output in base.outputs]).detach()

    def rebuilt(values: torch.Tensor) -> JointDistribution:
        pieces = list(values.split([output.numel() for output in base.outputs]))
        logits, mean, log_std, last = (
            piece.view_as(output) for piece, output in zip(pieces, base.outputs, strict=True)
        )
        parts = (
            replace(base.parts[0], logits=logits),
            DiagonalGaussian(mean, log_std),
            replace(base.parts[2], logits=last),
        )
        return JointDistribution(parts, base.widths)

    hessian = torch.autograd.functional.hessian(
        lambda values: rebuilt(values).kl_from(rebuilt(flat)).sum(), flat
    )
    tangent = torch.randn_like(flat)
    tangents = rebuilt(tangent).outputs
    product = torch.cat([part.flatten() for part in base.fisher_metric(tangents)])
    torch.testing.assert_close(product, hessian @ tangent, rtol=1e-9, atol=1e-12)


def test_outputs_are_in_units_of_the_box_around_its_center():
    head = ActionHead(spaces.Box(np.float32([500, -1, 3]), np.float32([2000, 0, np.inf])))
    distribution = head.distribution(torch.tensor([[0.0, 1, 0.5]]), torch.zeros(1, 3))
    assert distribution.mean.tolist() == [[1250, 0, 4.5]]
    assert distribution.log_std.exp().flatten().tolist() == pytest.approx([750, 0.5, 1])


def test_a_box_from_minus_1_to_1_leaves_outputs_and_deviations_as_they_are():
    head, plain = ActionHead(BOX), ActionHead(BOX, action_divisor=1.0)
    values, log_std = outputs(2, 5, 3), outputs(1, 1, 3)
    for one, other in zip(
        head.distribution(values, log_std).outputs,
        plain.distribution(values, log_std).outputs,
        strict=True,
    ):
        assert torch.equal(one, other)


def test_choices_start_at_the_start_of_the_space():
    distribution = ActionHead(spaces.Discrete(3, start=5)).distribution(outputs(4, 3))
    assert torch.equal(distribution.mode(), outputs(4, 3).argmax(-1) + 5)
    log_probs = torch.log_softmax(outputs(4, 3), -1)
    for index in range(3):
        taken = torch.full((4,), 5 + index)
        assert torch.equal(distribution.log_prob(taken), log_probs[:, index])
    sampled = distribution.sample(torch.Generator().manual_seed(0))
    assert ((sampled >= 5) & (sampled < 8)).all()


@pytest.mark.parametrize("name", ["initial_std", "min_std", "action_divisor"])
def test_settings_of_a_head_must_be_above_0(name):
    with pytest.raises(ValueError, match=rf"{name} must lie in \(0, ∞\), got 0"):
        ActionHead(BOX, **{name: 0.0})
