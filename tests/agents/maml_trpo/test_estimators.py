"""Every estimator in training: all action spaces, and its derivative against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from maml_agents import agent, batch_of, episodes_of, trained, unadapted
from odd_actions import OddActions

from metarl.bilevel.adaptation import adapt
from metarl.bilevel.linearized import linearize_adaptation
from metarl.estimators.catalog import ESTIMATORS
from metarl.rl.objectives import PolicyBatch

every_estimator = pytest.mark.parametrize("name", ESTIMATORS)


@pytest.mark.parametrize("space", ["discrete from 1", "multi-discrete", "dict"])
@every_estimator
def test_every_kind_of_action_gives_a_step_that_should_improve(name, space):
    learner = agent(family=OddActions(space), estimator=name, num_inner_steps=2)
    metrics = learner.iterate()
    assert metrics["meta/gradient_norm"] > 0
    assert metrics["meta/expected_improvement"] > 0
    assert all(math.isfinite(value) for value in metrics.values())
    assert all(p.isfinite().all() for p in learner.params.values())


@every_estimator
def test_the_linearized_adaptation_has_the_derivative_of_the_surrogate(name):
    learner = agent(estimator=name)
    support = batch_of(learner, unadapted(learner), episodes_of(learner, unadapted(learner)))
    support = PolicyBatch(*(p.double() if p.is_floating_point() else p for p in support))
    params = {key: p.double() for key, p in learner.params.items()}
    generator = torch.Generator().manual_seed(1)
    tangent = {
        key: torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for key, p in params.items()
    }
    near = linearize_adaptation(params, support, learner._inner)
    pushed = near.push({key: t.expand(3, *t.shape) for key, t in tangent.items()})
    if ESTIMATORS[name].is_first_order:
        assert all(torch.allclose(pushed[key], t) for key, t in tangent.items())
        return
    leaves = {key: p.requires_grad_() for key, p in params.items()}
    adapted = adapt(leaves, support, learner._inner)
    generator = torch.Generator().manual_seed(2)
    cotangent = {
        key: torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for key, p in adapted.items()
    }
    value = sum((adapted[key] * c).sum() for key, c in cotangent.items())
    gradient = torch.autograd.grad(value, list(leaves.values()))
    along = sum((g * t).sum() for g, t in zip(gradient, tangent.values(), strict=True))
    expected = sum((pushed[key] * c).sum() for key, c in cotangent.items())
    torch.testing.assert_close(along, expected)


def test_estimators_have_different_second_derivatives():
    params = [trained(1, estimator=name).params["weight_0"] for name in ("log_prob", "lvc", "dr")]
    assert not torch.allclose(params[0], params[1])
    assert not torch.allclose(params[1], params[2])


def test_the_sampling_credit_changes_the_step():
    plain, credited = trained(1), trained(1, sampling_credit="on")
    assert not torch.allclose(plain.params["weight_0"], credited.params["weight_0"])
