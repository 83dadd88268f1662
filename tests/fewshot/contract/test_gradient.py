"""The contract of gradient-based learners: one with only an inner rule, and all subclasses."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from fewshot_episodes import CURVES, VECTORS, context, episodes, start, task_of
from torch.nn import functional

from metarl.bilevel.rules import InnerRule
from metarl.fewshot.contract.gradient import GradientLearner, GradientSettings
from metarl.fewshot.contract.interface import FewShotLearner
from metarl.fewshot.contract.metric import MetricLearner
from metarl.fewshot.learners.catalog import LEARNERS
from metarl.parameters import Params

SMALL = GradientSettings(
    ways=3, hidden_sizes=(6,), activation="tanh", num_inner_steps=2, inner_lr=0.1
)


class SignLearner(GradientLearner):
    """Steps of one size along the signs of the gradients."""

    config_type: ClassVar[type[GradientSettings]] = GradientSettings

    def inner_rule(self) -> InnerRule:
        def step(params: Params, grads: Params) -> Params:
            return {k: p - self.config.inner_lr * grads[k].sign() for k, p in params.items()}

        return step


def test_a_learner_that_adds_an_inner_rule_adapts_by_it():
    learner = SignLearner(SMALL, VECTORS)
    params, batch = start(learner), episodes(VECTORS)
    adapted = learner.adapt(params, batch.support)
    inputs, targets, _ = task_of(batch, 1).support
    current = {k: p.clone().requires_grad_() for k, p in params.items()}
    for _ in range(2):
        loss = functional.cross_entropy(learner.backbone.logits(current, inputs[0]), targets[0])
        grads = torch.autograd.grad(loss, list(current.values()))
        moved = zip(current.items(), grads, strict=True)
        current = {k: (p - 0.1 * g.sign()).detach().requires_grad_() for (k, p), g in moved}
    for key, p in current.items():
        torch.testing.assert_close(adapted.params[key][1], p.detach())
    assert adapted.shared == {}


@pytest.mark.parametrize("problem", [VECTORS, CURVES], ids=["vectors", "curves"])
def test_its_meta_gradient_passes_through_constant_steps(problem):
    """A sign has no derivative, so the gradient is the query's at the adapted parameters."""
    learner = SignLearner(SMALL, problem)
    params, batch = start(learner), episodes(problem)
    losses, grads = learner.meta_gradient(params, batch, context())
    adapted = learner.adapt(params, batch.support)
    leaves = {k: p.detach().requires_grad_() for k, p in adapted.params.items()}
    wanted = learner.query_loss(adapted._replace(params=leaves), batch.query)
    torch.testing.assert_close(losses, wanted.detach())
    for key, grad in zip(
        leaves, torch.autograd.grad(wanted.mean(), list(leaves.values())), strict=True
    ):
        torch.testing.assert_close(grads[key], grad.sum(0))


def test_a_trajectory_ends_where_adaptation_does():
    learner = SignLearner(SMALL, VECTORS)
    params, batch = start(learner), episodes(VECTORS)
    first, *_, last = learner.trajectory(params, batch.support, 2)
    adapted = learner.adapt(params, batch.support)
    for key, p in params.items():
        assert torch.equal(first.params[key], p.expand(3, *p.shape))
        torch.testing.assert_close(last.params[key], adapted.params[key])


def test_its_facts_describe_steps_rate_and_order():
    facts = SignLearner(SMALL, VECTORS).facts()
    assert facts["adaptation"] == (
        "gradient steps (2 in training), rate 0.1 on the mean loss, fixed; second order"
    )
    assert (facts["batch_norm"], facts["transductive"]) == ("none", False)
    assert "adapted" not in facts


def test_every_learner_inherits_one_of_two_contracts_directly():
    """Inheritance is one level deep."""
    for entry in LEARNERS:
        learner_type: type[FewShotLearner] = entry.load()
        assert learner_type.__bases__ in ((GradientLearner,), (MetricLearner,)), entry.name
        assert learner_type.has_steps is (learner_type.__bases__ == (GradientLearner,))
