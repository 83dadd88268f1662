"""The sampling credit of an agent's batches against a loop over episodes."""

from __future__ import annotations

import torch
from policies import categorical_policy
from policy_batches import batch_of, expanded, parameters

from metarl.agents.maml_trpo.credited import credited_loss, credited_query
from metarl.bilevel.inner_loop import InnerLoop, PerStep
from metarl.bilevel.meta_gradients import meta_gradient
from metarl.bilevel.rules import sgd
from metarl.rl.objectives import log_prob_loss, ratio_loss

POLICY = categorical_policy(2, 3, (3,), "tanh")
PARAMS = parameters(POLICY)
LENGTHS = torch.tensor([[2, 1], [3, 1], [1, 2]])  # of three tasks with two episodes
MASK = torch.arange(4) < LENGTHS.unsqueeze(-1)
SUPPORT = batch_of(POLICY, PARAMS, 1)._replace(
    mask=MASK, times=torch.where(MASK, torch.arange(4), 0)
)
QUERY = batch_of(POLICY, PARAMS, 2)._replace(scale=torch.full((3, 2, 4), 2.0).double())
INNER = InnerLoop(log_prob_loss(POLICY), sgd(0.3), batching="explicit")


def gradients(*, credited: bool) -> dict[str, torch.Tensor]:
    loss = ratio_loss(POLICY)
    support = PerStep([SUPPORT.packed()])
    if credited:
        query = credited_query([SUPPORT], QUERY)
        outer = credited_loss(POLICY, loss)
        return meta_gradient(PARAMS, support, query, INNER, outer_loss=outer)[1]
    return meta_gradient(PARAMS, support, QUERY, INNER, query_loss=loss)[1]


def test_the_credit_is_the_sum_of_the_scores_weighted_by_the_gain_of_each_task():
    assert SUPPORT.packed() is not SUPPORT
    leaves = {name: p.clone().requires_grad_() for name, p in PARAMS.items()}
    distribution = POLICY.distribution(expanded(leaves), SUPPORT.observations)
    log_probs = distribution.log_prob(SUPPORT.actions)
    returns = torch.where(SUPPORT.mask, SUPPORT.rewards, 0).sum(-1)  # [3, 2]
    after = (QUERY.rewards.sum(-1) * 2).mean(-1)
    gains = after - returns.mean(-1)
    total = torch.zeros((), dtype=torch.float64)
    for task in range(3):
        others = [gains[other] for other in range(3) if other != task]
        for episode in range(2):
            weight = after[task] - returns[task, 1 - episode] - sum(others) / 2
            count = int(SUPPORT.mask[task, episode].sum())
            score = log_probs[task, episode, :count].sum()
            total = total - weight.detach() * score / (4 * 2.0) / 3  # 4 steps, scale 2, 3 tasks
    expected = torch.autograd.grad(total, list(leaves.values()))
    with_credit, without = gradients(credited=True), gradients(credited=False)
    for name, credit in zip(leaves, expected, strict=True):
        torch.testing.assert_close(with_credit[name] - without[name], credit)
        assert credit.abs().max() > 1e-3


def test_the_credit_has_value_zero_at_the_parameters_that_acted():
    outer = credited_loss(POLICY, ratio_loss(POLICY))
    query = credited_query([SUPPORT], QUERY)
    support = PerStep([SUPPORT.packed()])
    values, _ = meta_gradient(PARAMS, support, query, INNER, outer_loss=outer)
    plain, _ = meta_gradient(PARAMS, support, QUERY, INNER, query_loss=ratio_loss(POLICY))
    torch.testing.assert_close(values, plain)
