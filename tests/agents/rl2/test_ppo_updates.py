"""RL²'s updates by PPO: gradients by finite differences, truncation, whole updates."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from rl2_batches import (
    BATCH,
    MEMORIES,
    SPACES,
    STEPS,
    batch_for,
    make_context,
    make_generator,
    on_policy_batch,
    randn,
)
from torch import Tensor

from metarl.agents.rl2.batch import TrialBatch
from metarl.agents.rl2.updates import (
    UpdateContext,
    _clip_grad_norm,
    _minibatches,
    _ppo_gradient,
    ppo_update,
)
from metarl.rl.trial_policies import TrialPolicy

# PPO.


def ppo_loss(context: UpdateContext, batch: TrialBatch, params: dict[str, Tensor]) -> Tensor:
    """PPO's loss, trial by trial and step by step as in the papers."""
    config, total = context.config, torch.zeros((), dtype=torch.float64)
    start = context.policy.start(params, BATCH)
    new, features, _ = context.policy.sequence(params, batch.inputs, start, batch.cleared)
    given = {"tasks": batch.tasks, "cleared": batch.cleared}
    values = context.policy.values(params, batch.inputs, features, batch.trial_progress, **given)
    log_probs, entropies = new.log_prob(batch.actions), new.entropy()
    for t, b in batch.mask.nonzero().tolist():
        ratio = math.e ** (log_probs[t, b] - batch.log_probs[t, b])
        advantage = batch.advantages[t, b]
        kept = min(max(ratio, 1 - config.clip), 1 + config.clip) * advantage
        error = (values[t, b] - batch.returns[t, b]) ** 2
        if config.value_clip is not None:
            change = values[t, b] - batch.values[t, b]
            near = batch.values[t, b] + min(max(change, -config.value_clip), config.value_clip)
            error = max(error, (near - batch.returns[t, b]) ** 2)
        total = total - min(ratio * advantage, kept)
        total = total + config.value_coefficient * 0.5 * error
        total = total - config.entropy_coefficient * entropies[t, b]
    return total / batch.mask.sum()


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("value_clip", [None, 0.1])
def test_the_ppo_gradient_equals_autograd_of_the_loss(memory, space, value_clip):
    context = make_context(memory, space, value_clip=value_clip, value_coefficient=0.7, clip=0.02)
    batch = batch_for(context, cleared=True, moved=0.05)
    gradients, terms = _ppo_gradient(context, batch)
    loss = ppo_loss(context, batch, context.params)
    expected = torch.autograd.grad(loss, list(context.params.values()))
    for (name, p), wanted in zip(context.params.items(), expected, strict=True):
        torch.testing.assert_close(gradients[name], wanted, rtol=0, atol=1e-12, msg=name)
        assert wanted.shape == p.shape
    total = terms["policy_loss"] + 0.7 * terms["value_loss"] - 0.01 * terms["entropy_nats"]
    assert float(total) == pytest.approx(loss.item(), abs=1e-12)
    assert 0 < float(terms["clip_fraction"]) < 1


def test_the_ppo_gradient_agrees_with_finite_differences_of_the_loss():
    context = make_context(value_clip=0.1, clip=0.1)
    batch = batch_for(context, cleared=True)
    gradients, _ = _ppo_gradient(context, batch)
    for seed in range(3):
        along = {k: randn(*p.shape, seed=20 + seed) for k, p in context.params.items()}
        slope = sum(float((gradients[k] * along[k]).sum()) for k in along)
        ahead, behind = (
            ppo_loss(
                context, batch, {k: p.detach() + h * along[k] for k, p in context.params.items()}
            )
            for h in (1e-6, -1e-6)
        )
        assert float(ahead - behind) / 2e-6 == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_masked_steps_do_not_affect_the_gradient():
    context = make_context()
    batch = batch_for(context)
    gradients, _ = _ppo_gradient(context, batch)
    changed = {
        name: torch.where(batch.mask, getattr(batch, name), 50.0)
        for name in ("advantages", "returns", "values", "log_probs")
    }
    other, _ = _ppo_gradient(context, replace(batch, **changed))
    for name, gradient in gradients.items():
        assert torch.equal(gradient, other[name]), name


def padded(batch: TrialBatch, more: int) -> TrialBatch:
    """The batch with further steps of nonsense that are not valid."""

    def longer(part: Tensor) -> Tensor:
        filling = torch.full((more, *part.shape[1:]), 1, dtype=part.dtype)
        return torch.cat([part, torch.zeros_like(filling) if part.dtype == torch.bool else filling])

    names = ("inputs", "trial_progress", "actions", "log_probs", "values", "advantages")
    names += ("returns", "mask")
    changed = {name: longer(getattr(batch, name)) for name in names}
    cleared = None if batch.cleared is None else longer(batch.cleared)
    return replace(batch, cleared=cleared, **changed)


@pytest.mark.parametrize("memory", ["gru", "lstm", "none"])
@pytest.mark.parametrize("length", [None, 2])
def test_padding_has_no_part_in_the_gradient(memory, length):
    context = make_context(memory, backprop_steps=length)
    batch = batch_for(context, cleared=True)
    want, terms = _ppo_gradient(context, batch)
    longer = padded(batch, 14)
    for given in (longer, longer.select_trials(torch.arange(BATCH))):
        gradients, others = _ppo_gradient(context, given)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, want[name], rtol=0, atol=1e-10, msg=name)
        for name, term in terms.items():
            assert float(others[name]) == pytest.approx(float(term), abs=1e-10)


def test_some_trials_are_cut_to_the_longest_of_them():
    batch = batch_for(make_context(), cleared=True)
    assert batch.mask.sum(0).tolist() == [6, 2, 5, 6, 1]
    some = batch.select_trials(torch.tensor([4, 1]))
    assert some.mask.tolist() == [[True, True], [False, True]]
    assert torch.equal(some.inputs, batch.inputs[:2, [4, 1]])
    assert torch.equal(some.cleared, batch.cleared[:2, [4, 1]])
    assert torch.equal(some.tasks, batch.tasks[:, [4, 1]])


def test_valid_steps_become_trials_of_one_step():
    batch = batch_for(make_context("none"))
    steps = batch.without_padding()
    assert steps.mask.shape == (1, 20)
    assert steps.mask.all()
    places = batch.mask.nonzero().tolist()
    assert torch.equal(steps.inputs[0], torch.stack([batch.inputs[t, b] for t, b in places]))
    assert torch.equal(steps.returns[0], torch.stack([batch.returns[t, b] for t, b in places]))
    assert torch.equal(steps.tasks[0], torch.stack([batch.tasks[0, b] for _, b in places]))
    full = batch.select_trials(torch.tensor([0, 3]))
    assert full.without_padding() is full


# Truncated backpropagation.


@pytest.mark.parametrize("memory", ["gru", "lstm", "none"])
@pytest.mark.parametrize("length", [STEPS, STEPS + 3])
def test_chunks_as_long_as_the_trial_do_not_truncate(memory, length):
    whole, cut = make_context(memory), make_context(memory, backprop_steps=length)
    batch = batch_for(whole, cleared=True)
    (gradients, terms), (others, other_terms) = (_ppo_gradient(w, batch) for w in (whole, cut))
    assert all(torch.equal(gradients[name], others[name]) for name in whole.params)
    assert all(torch.equal(terms[name], other_terms[name]) for name in terms)


@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_chunks_change_the_gradient_but_not_the_loss(memory):
    whole, cut = make_context(memory), make_context(memory, backprop_steps=2)
    batch = batch_for(whole, cleared=True)
    (gradients, terms), (others, other_terms) = (_ppo_gradient(w, batch) for w in (whole, cut))
    for name, term in terms.items():
        assert float(term) == pytest.approx(float(other_terms[name]), abs=1e-12)
    name = "policy.memory.weight_hh"
    assert (gradients[name] - others[name]).abs().max() > 1e-4


@pytest.mark.parametrize("memory", ["gru", "lstm"])
@pytest.mark.parametrize("length", [2, 4])
def test_no_gradient_crosses_a_cut(memory, length):
    """The gradient of a chunk is the trial's gradient if earlier memories are constants."""
    context = make_context(memory, backprop_steps=length)
    batch = batch_for(context)
    gradients, _ = _ppo_gradient(context, batch)
    plain = make_context(memory)
    total = {name: torch.zeros_like(p) for name, p in context.params.items()}
    for first in range(0, STEPS, length):
        times = slice(first, first + length)
        mask = torch.zeros_like(batch.mask)
        mask[times] = batch.mask[times]
        frozen = _FrozenBefore(plain.policy, first)
        found, _ = _ppo_gradient(replace(plain, policy=frozen), replace(batch, mask=mask))
        for name, gradient in found.items():
            total[name] += gradient * mask.sum() / batch.mask.sum()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, total[name], rtol=0, atol=1e-12, msg=name)


class _FrozenBefore:
    """A policy whose memory, up to a step, is constant."""

    def __init__(self, policy: TrialPolicy, last_step: int) -> None:
        self._policy, self._last_step = policy, last_step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def sequence(self, params: Any, inputs: Tensor, state: Any, cleared: Any) -> Any:
        assert cleared is None
        fixed = {name: p.detach() for name, p in params.items()}
        if self._last_step == 0:
            return self._policy.sequence(params, inputs, state, None)
        _, early, state = self._policy.sequence(fixed, inputs[: self._last_step], state, None)
        _, late, state = self._policy.sequence(params, inputs[self._last_step :], state, None)
        features = torch.cat([early, late])
        return self._policy._distribution(params, features, inputs), features, state


# Whole updates by PPO.


def test_every_pass_takes_each_trial_once_in_a_different_order():
    context = make_context(num_epochs=3, num_minibatches=2)
    pieces = list(_minibatches(batch_for(context), context.config, make_generator(0)))
    assert [len(rows) for rows in pieces] == [3, 2] * 3
    orders = [torch.cat(pieces[k : k + 2]) for k in (0, 2, 4)]
    assert all(sorted(order.tolist()) == list(range(BATCH)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 3


def test_an_update_is_a_step_of_adam_for_each_minibatch():
    context, by_hand = make_context(max_gradient_norm=0.05), make_context(max_gradient_norm=0.05)
    batch = batch_for(context)
    metrics = ppo_update(context, batch, make_generator(0))
    params = list(by_hand.params.values())
    reference = torch.optim.Adam(params, lr=context.config.learning_rate, eps=1e-5)
    norms, rows_seen = [], list(_minibatches(batch, context.config, make_generator(0)))
    for rows in rows_seen:
        gradients, _ = _ppo_gradient(by_hand, batch.select_trials(rows))
        for name, p in by_hand.params.items():
            p.grad = gradients[name]
        norms.append(float(torch.nn.utils.clip_grad_norm_(params, 0.05)))
        reference.step()
    assert len(rows_seen) == 4
    assert min(norms) > 0.05  # each was clipped
    for name, p in by_hand.params.items():
        torch.testing.assert_close(context.params[name], p, rtol=0, atol=1e-8, msg=name)
    assert metrics["meta/gradient_norm"] == pytest.approx(sum(norms) / 4, rel=1e-6)


def test_updates_raise_the_surrogate_and_move_the_values_towards_the_returns():
    context = make_context(
        entropy_coefficient=0.0, learning_rate=1e-2, num_epochs=20, num_minibatches=1
    )
    batch = on_policy_batch(context)
    before = ppo_loss(context, batch, context.params).item()
    ppo_update(context, batch, make_generator(0))
    assert ppo_loss(context, batch, context.params).item() < before - 0.05


def test_only_large_gradients_are_clipped():
    gradients = {"a": torch.tensor([3.0]), "b": torch.tensor([0.0, -4.0])}
    assert float(_clip_grad_norm(gradients, 10.0)) == pytest.approx(5)
    assert gradients["a"].tolist() == [3]
    assert float(_clip_grad_norm(gradients, 0.5)) == pytest.approx(5)
    assert gradients["a"].tolist() == pytest.approx([0.3])
    assert gradients["b"].tolist() == pytest.approx([0, -0.4])


def test_parameters_that_are_not_finite_stop_an_update():
    context = make_context()
    batch = batch_for(context)
    batch.advantages[0, 0] = math.nan
    message = "parameter .* must be finite; try a smaller learning_rate, or normalize_rewards"
    with pytest.raises(FloatingPointError, match=message):
        ppo_update(context, batch, make_generator(0))
