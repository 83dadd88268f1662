"""RL²'s updates by TRPO: the Fisher product, the trust region, the fit of the values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from rl2_batches import (
    BATCH,
    MEMORIES,
    SPACES,
    copied,
    make_context,
    make_generator,
    on_policy_batch,
    randn,
)
from torch import Tensor

from metarl.agents.rl2.updates import UpdateContext, _fisher_product, trpo_update
from metarl.parameters import flatten, unflatten


def make_trpo_learner(
    memory: str = "gru", space: str = "discrete", **settings: Any
) -> UpdateContext:
    return make_context(memory, space, optimizer="trpo", **settings)


def of_policy(context: UpdateContext) -> dict[str, Tensor]:
    return {name: p for name, p in context.params.items() if name.startswith("policy.")}


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("space", SPACES)
def test_the_fisher_product_is_the_second_derivative_of_the_mean_kl(memory, space):
    context = make_trpo_learner(memory, space, fisher_fraction=1.0)
    batch, own = on_policy_batch(context, cleared=True), of_policy(context)

    def mean_kl(vector: Tensor) -> Tensor:
        params = unflatten(vector, own)
        start = context.policy.start(params, BATCH)
        new, _, _ = context.policy.sequence(params, batch.inputs, start, batch.cleared)
        return new.kl_from(batch.old)[batch.mask].mean()

    product = _fisher_product(context.policy, own, batch, context.config)
    point = flatten(copied(own))
    for seed in (10, 11):
        vector = randn(len(point), seed=seed)
        expected = _second_derivative(mean_kl, point, vector)
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(product(vector), expected, rtol=1e-6, atol=1e-6)


def _second_derivative(function: Any, point: Tensor, vector: Tensor) -> Tensor:
    """Along a vector, by central differences of the gradient."""

    def gradient(at: Tensor) -> Tensor:
        leaf = at.clone().requires_grad_()
        return torch.autograd.grad(function(leaf), leaf)[0]

    h = 1e-5
    return (gradient(point + h * vector) - gradient(point - h * vector)) / (2 * h)


def test_a_fraction_of_the_trials_gives_the_product_of_those_trials():
    context = make_trpo_learner(fisher_fraction=0.5)  # 3 of 5
    batch, own = on_policy_batch(context), of_policy(context)
    vector = randn(sum(p.numel() for p in own.values()), seed=10)
    some = replace(context.config, fisher_fraction=1.0)
    first = batch.select_trials(torch.arange(3))
    expected = _fisher_product(context.policy, own, first, some)(vector)
    got = _fisher_product(context.policy, own, batch, context.config)(vector)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("space", SPACES)
def test_a_trust_region_step_raises_the_surrogate_within_the_bound(space):
    context = make_trpo_learner("gru", space, fisher_fraction=1.0, entropy_coefficient=0.0)
    batch = on_policy_batch(context)
    metrics = trpo_update(context, batch, make_generator(0))
    start = context.policy.start(context.params, BATCH)
    with torch.no_grad():
        new, _, _ = context.policy.sequence(context.params, batch.inputs, start)
    ratios = torch.exp(new.log_prob(batch.actions) - batch.log_probs)
    gain = float(((ratios - 1) * batch.advantages)[batch.mask].mean())
    kl = float(new.kl_from(batch.old)[batch.mask].mean())
    assert metrics["meta/accepted"] == 1
    assert gain == pytest.approx(metrics["meta/improvement"], abs=1e-10)
    assert kl == pytest.approx(metrics["meta/kl_nats"], abs=1e-10)
    assert metrics["meta/expected_improvement"] > gain > 1e-2
    assert 0.2 * context.config.max_kl_nats < kl <= context.config.max_kl_nats


def test_a_failed_line_search_leaves_the_policy_bitwise(monkeypatch):
    def uphill(gradient: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return 0.1 * gradient, 0.1 * gradient @ gradient

    monkeypatch.setattr("metarl.agents.rl2.updates.trust_region_step", uphill)
    context = make_trpo_learner(line_search_steps=4)
    before = copied(context.params)
    metrics = trpo_update(context, on_policy_batch(context), make_generator(0))
    assert metrics["meta/accepted"] == metrics["meta/kl_nats"] == metrics["meta/improvement"] == 0
    assert metrics["meta/line_search_steps"] == 4
    for name, p in context.params.items():
        assert torch.equal(p, before[name]) == name.startswith("policy."), name


def test_fitting_the_values_reduces_their_error_and_leaves_the_policy(monkeypatch):
    monkeypatch.setattr(
        "metarl.agents.rl2.updates.trust_region_step",
        lambda gradient, *_, **__: (torch.zeros_like(gradient), gradient.sum() * 0),
    )
    context = make_trpo_learner(num_epochs=30, learning_rate=1e-2)
    batch, before = on_policy_batch(context), copied(context.params)

    def error() -> float:
        with torch.no_grad():
            values = context.policy.values(
                context.params, batch.inputs, batch.inputs, batch.trial_progress, tasks=batch.tasks
            )
        return float((values - batch.returns)[batch.mask].square().mean())

    first = error()
    trpo_update(context, batch, make_generator(0))
    assert error() < 0.7 * first
    for name, p in context.params.items():
        assert torch.equal(p, before[name]) == name.startswith("policy."), name


def test_packed_steps_give_the_update_of_padded_ones(monkeypatch):
    """A policy without a memory; 20 of 30 entries are valid steps."""
    found = []
    for fraction in (0.0, 0.9):
        monkeypatch.setattr("metarl.agents.rl2.batch.MAX_PACKED_FRACTION", fraction)
        context = make_trpo_learner("none", fisher_fraction=0.6)
        batch = on_policy_batch(context)
        assert (batch.without_padding() is batch) == (fraction == 0.0)
        found.append((trpo_update(context, batch, make_generator(0)), copied(context.params)))
    (padded_metrics, padded), (packed_metrics, packed) = found
    assert packed_metrics["meta/accepted"] == 1
    assert packed_metrics == pytest.approx(padded_metrics, abs=1e-9)
    for name, p in padded.items():
        torch.testing.assert_close(packed[name], p, rtol=0, atol=1e-9, msg=name)
