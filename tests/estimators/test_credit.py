"""The sampling credit against the exact gradient of the objective with sampled inner steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from metarl.estimators.credit import credit_surrogate, credit_weights
from metarl.estimators.laboratory import Laboratory
from metarl.estimators.support_sets import all_support_sets
from metarl.estimators.surrogates import log_prob
from metarl.estimators.tabular import expected_return, random_mdp

LABORATORY = Laboratory(
    random_mdp(torch.Generator().manual_seed(5), num_states=2, horizon=2),
    torch.tensor([[0.3, -0.2], [0.1, 0.7]], dtype=torch.float64),
    inner_lr=0.7,
)


def credited_gradient(weigh: Callable[..., list[Tensor]], credit: Callable[..., Tensor]) -> Tensor:
    """E[plain estimate + credit], over all ordered pairs of support episodes of one task."""
    lab = LABORATORY
    plain = lab.inner_step(log_prob)
    returns = lab.table.steps(lab.mdp, lab.logits).rewards.sum(-1)
    sets = all_support_sets(lab.probabilities, 2)
    total = sets.expectation(lab.estimates(plain, sets))
    logits = lab.logits.clone().requires_grad_()
    log_probs = lab.table.log_probs(logits)
    for pair in itertools.product(range(len(returns)), repeat=2):
        chosen = list(pair)
        step = plain.gradients[chosen].mean(0).view_as(logits)
        after = expected_return(lab.mdp, lab.logits + lab.inner_lr * step)
        [weights] = weigh([returns[chosen].unsqueeze(0)], after.view(1, 1))
        value = credit(log_probs[chosen].unsqueeze(0), weights.unsqueeze(-1))
        [gradient] = torch.autograd.grad(value.sum(), logits, retain_graph=True)
        total = total + lab.probabilities[chosen].prod() * gradient.flatten()
    return total


def finite_differences() -> Tensor:
    """∇J_II: the derivative of the probabilities of support sets and of the inner step."""
    lab = LABORATORY
    steps = lab.table.steps(lab.mdp, lab.logits)
    sets = all_support_sets(lab.probabilities, 2)

    def objective(flat: Tensor) -> Tensor:
        logits = flat.view_as(lab.logits)
        scores = torch.func.jacrev(lab.table.log_probs)(logits)
        gradients = (scores * steps.advantages[..., None, None]).sum(1)  # advantages are constant
        moved = logits + lab.inner_lr * sets.mean_of(gradients)
        weights = all_support_sets(lab.table.probabilities(logits), 2).weights
        return weights @ expected_return(lab.mdp, moved)

    size, flat = 1e-5, lab.logits.flatten()
    changes = size * torch.eye(len(flat), dtype=flat.dtype)
    return torch.stack([(objective(flat + c) - objective(flat - c)) / (2 * size) for c in changes])


def test_plain_estimate_and_credit_are_the_gradient_of_the_sampled_objective():
    found = credited_gradient(credit_weights, credit_surrogate)
    torch.testing.assert_close(found, finite_differences(), rtol=1e-6, atol=1e-8)
    sets = all_support_sets(LABORATORY.probabilities, 2)
    exact = LABORATORY.sampled_step_gradient(LABORATORY.inner_step(log_prob), sets)
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mistake", ["sign", "mean"])
def test_a_planted_mistake_in_the_credit_is_caught(mistake):
    def wrong(log_probs: Tensor, weights: Tensor) -> Tensor:
        value = credit_surrogate(log_probs, weights)
        return -value if mistake == "sign" else value / log_probs[0].numel()

    exact = finite_differences()
    assert (credited_gradient(credit_weights, wrong) - exact).norm() > 0.05 * exact.norm()


def test_a_baseline_that_holds_the_own_episode_is_biased():
    def wrong(support: list[Tensor], query: Tensor) -> list[Tensor]:
        return [query - returns.mean(1, keepdim=True).expand_as(returns) for returns in support]

    exact = finite_differences()
    assert (credited_gradient(wrong, credit_surrogate) - exact).norm() > 0.05 * exact.norm()


def test_weights_equal_hand_computed_values():
    support = torch.tensor([[1.0, 3.0], [10.0, 20.0]])
    query = torch.tensor([[5.0], [16.0]])
    [weights] = credit_weights([support], query)
    # Improvements 3 and 1; each task is compared with the other one.
    assert weights.tolist() == [[5 - 3 - 1, 5 - 1 - 1], [16 - 20 - 3, 16 - 10 - 3]]


def test_one_episode_of_one_task_has_no_baseline():
    [weights] = credit_weights([torch.tensor([[4.0]])], torch.tensor([[7.0]]))
    assert weights.tolist() == [[7.0]]


def test_the_baseline_of_an_episode_does_not_depend_on_it():
    support = torch.tensor([[1.0, 3.0], [10.0, 20.0]])
    query = torch.tensor([[5.0], [16.0]])
    changed = support.clone()
    changed[0, 0] = 100
    before, after = (credit_weights([s], query)[0] for s in (support, changed))
    assert before[0, 0] == after[0, 0]
    assert before[0, 1] != after[0, 1]
