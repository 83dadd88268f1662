"""Mean divergences by loops; the Fisher product against second derivatives."""

import itertools
from dataclasses import dataclass, replace

import pytest
import torch
from policies import gaussian_policy
from policy_batches import (
    NUM_ENVS,
    NUM_STEPS,
    NUM_TASKS,
    POLICIES,
    batch_of,
    expanded,
    losses,
    none_or_some_masked,
    parameters,
    policies,
)
from torch import Tensor

from metarl.bilevel.adaptation import adapt
from metarl.bilevel.inner_loop import InnerLoop, PerStep
from metarl.bilevel.linearized import linearize_adaptation
from metarl.bilevel.rules import sgd
from metarl.parameters import Params, flatten, unflatten
from metarl.rl.distributions import Categorical, DiagonalGaussian, Distribution
from metarl.rl.objectives import PolicyBatch, adapted_fisher_product, log_prob_loss, mean_kl
from metarl.rl.policies import NetworkPolicy, Policy


def moved_parameters(params: Params) -> Params:
    """Separate parameters for each task."""
    generator = torch.Generator().manual_seed(9)
    return {
        name: p + 0.2 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for name, p in expanded(params).items()
    }


def as_torch(
    distribution: Distribution, task: int, env: int, step: int
) -> torch.distributions.Distribution:
    if isinstance(distribution, Categorical):
        return torch.distributions.Categorical(logits=distribution.logits[task, env, step])
    assert isinstance(distribution, DiagonalGaussian)
    normal = torch.distributions.Normal(
        distribution.mean[task, env, step], distribution.log_std[task, 0, 0].exp()
    )
    return torch.distributions.Independent(normal, 1)


@policies
@none_or_some_masked
def test_mean_kl_is_zero_at_itself_and_flat_there(policy, masked):
    params = parameters(policy)
    batch = batch_of(policy, params, 1, masked=masked)
    leaves = {name: p.clone().requires_grad_() for name, p in expanded(params).items()}
    old = policy.distribution(expanded(params), batch.observations)
    kl = mean_kl(policy, leaves, batch, old)
    gradient = torch.autograd.grad(kl.sum(), list(leaves.values()))
    torch.testing.assert_close(kl, torch.zeros_like(kl), rtol=0, atol=1e-15)
    for part in gradient:
        torch.testing.assert_close(part, torch.zeros_like(part), rtol=0, atol=1e-14)


@policies
@none_or_some_masked
def test_mean_kl_equals_a_loop_over_states(policy, masked):
    params = parameters(policy)
    batch = batch_of(policy, params, 1, masked=masked)
    old = policy.distribution(expanded(params), batch.observations)
    moved = moved_parameters(params)
    new = policy.distribution(moved, batch.observations)
    kl = mean_kl(policy, moved, batch, old)
    for task in range(NUM_TASKS):
        values = [
            torch.distributions.kl_divergence(as_torch(old, *state), as_torch(new, *state))
            for state in itertools.product([task], range(NUM_ENVS), range(NUM_STEPS))
            if batch.mask[state]
        ]
        torch.testing.assert_close(kl[task], torch.stack(values).mean(), rtol=1e-10, atol=0)
    assert float(kl.min()) > 1e-3


def fisher_problem(
    policy: Policy, make_loss: object, num_steps: int, masked: bool
) -> tuple[Params, list[PolicyBatch], PolicyBatch, InnerLoop]:
    params = parameters(policy)
    support = [batch_of(policy, params, 10 + k, masked=masked) for k in range(num_steps)]
    query = batch_of(policy, params, 20, masked=masked)
    return (
        params,
        support,
        query,
        InnerLoop(make_loss(policy), sgd(0.3), num_steps, batching="explicit"),
    )


def vectors(params: Params, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    size = flatten(params).numel()
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


def textbook_products(
    policy: Policy,
    params: Params,
    support: list[PolicyBatch],
    query: PolicyBatch,
    inner: InnerLoop,
) -> Tensor:
    """Rows H v, H the second derivative of the mean KL of the adapted policies, as they move away
    from what they are at θ."""
    start = flatten(params).requires_grad_()
    adapted = expanded(unflatten(start, params))
    for batch in support:
        grads = torch.autograd.grad(
            inner.loss(adapted, batch).sum(), list(adapted.values()), create_graph=True
        )
        adapted = {k: p - 0.3 * g for (k, p), g in zip(adapted.items(), grads, strict=True)}
    new = policy.distribution(adapted, query.observations)
    kl = new.kl_from(new.detach())
    means = [kl[task, query.mask[task]].mean() for task in range(NUM_TASKS)]
    (gradient,) = torch.autograd.grad(torch.stack(means).mean(), start, create_graph=True)
    return torch.stack(
        [torch.autograd.grad(gradient @ v, start, retain_graph=True)[0] for v in vectors(params)]
    )


def fisher_products(
    policy: Policy,
    params: Params,
    support: list[PolicyBatch],
    query: PolicyBatch,
    inner: InnerLoop,
    *,
    of: Tensor | None = None,
) -> Tensor:
    """Rows F v."""
    data = PerStep(support) if support else query
    adaptation = linearize_adaptation(params, data, inner)
    product = adapted_fisher_product(policy, adaptation, query, params)
    return torch.stack([product(v) for v in (vectors(params) if of is None else of)])


@policies
@losses
@pytest.mark.parametrize("num_steps", [1, 2])
@none_or_some_masked
def test_the_fisher_product_is_the_second_derivative_of_the_mean_kl(
    policy, make_loss, num_steps, masked
):
    problem = fisher_problem(policy, make_loss, num_steps, masked)
    expected = textbook_products(policy, *problem)
    torch.testing.assert_close(
        fisher_products(policy, *problem), expected, rtol=1e-7, atol=1e-9 * float(expected.max())
    )


@policies
@pytest.mark.parametrize("num_steps", [0, 2])
def test_the_fisher_product_is_symmetric_and_positive_semidefinite(policy, num_steps):
    problem = fisher_problem(policy, log_prob_loss, num_steps, True)
    identity = torch.eye(flatten(problem[0]).numel(), dtype=torch.float64)
    fisher = fisher_products(policy, *problem, of=identity)
    torch.testing.assert_close(fisher, fisher.T, rtol=1e-9, atol=1e-12)
    eigenvalues = torch.linalg.eigvalsh(fisher)
    assert float(eigenvalues[-1]) > 0.1
    assert float(eigenvalues[0]) > -1e-12 * float(eigenvalues[-1])


@policies
def test_curvature_of_the_inner_loss_counts_in_the_fisher_product(policy):
    *problem, inner = fisher_problem(policy, log_prob_loss, 1, False)
    exact = fisher_products(policy, *problem, inner)
    first_order = fisher_products(policy, *problem, replace(inner, mode="first_order"))
    assert float((exact - first_order).norm() / exact.norm()) > 0.01


def test_the_fisher_product_of_the_first_environments_ignores_the_others():
    policy = POLICIES["gaussian"]
    params, support, query, inner = fisher_problem(policy, log_prob_loss, 1, False)
    first = torch.arange(NUM_ENVS).view(-1, 1) < 1
    masked = query._replace(mask=first.expand_as(query.mask))
    torch.testing.assert_close(
        fisher_products(policy, params, support, query.first_envs(1), inner),
        fisher_products(policy, params, support, masked, inner),
        rtol=1e-9,
        atol=1e-12,
    )


# Partial adaptation.


@dataclass(frozen=True)
class ContextPolicy:
    """A policy that also observes a context, one for each task."""

    network: NetworkPolicy

    def distribution(self, params: Params, observations: Tensor) -> DiagonalGaussian:
        context = params["context"]
        middle = [1] * (observations.dim() - context.dim())
        shown = context.view(*context.shape[:-1], *middle, context.shape[-1])
        shown = shown.expand(*observations.shape[:-1], -1)
        rest = {name: p for name, p in params.items() if name != "context"}
        return self.network.distribution(rest, torch.cat([observations, shown], -1))


PARTS = {
    "head (ANIL)": ("weight_1", "bias_1", "log_std"),
    "body (BOIL)": ("weight_0", "bias_0"),
    "context (CAVIA)": ("context",),
}


@losses
@pytest.mark.parametrize("names", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("num_steps", [1, 2])
def test_the_fisher_product_of_partial_adaptation_is_the_second_derivative_of_the_mean_kl(
    make_loss, names, num_steps
):
    """The initial context is not meta-learned: vectors and products have no entries for it."""
    network = gaussian_policy(4, 2, (3,), "tanh", initial_std=0.7)
    learned = parameters(network)
    context = {"context": torch.zeros(2, dtype=torch.float64)}
    policy = ContextPolicy(network)
    support, query = (
        [batch_of(policy, learned | context, seed) for seed in seeds]
        for seeds in (range(10, 10 + num_steps), [20])
    )
    inner = InnerLoop(make_loss(policy), sgd(0.3), num_steps, batching="explicit", adapted=names)
    start = flatten(learned).requires_grad_()
    moved = adapt(unflatten(start, learned) | context, PerStep(support), inner)
    new = policy.distribution(moved, query[0].observations)
    (gradient,) = torch.autograd.grad(new.kl_from(new.detach()).mean(), start, create_graph=True)
    expected = torch.stack(
        [torch.autograd.grad(gradient @ v, start, retain_graph=True)[0] for v in vectors(learned)]
    )
    adaptation = linearize_adaptation(learned | context, PerStep(support), inner)
    product = adapted_fisher_product(policy, adaptation, query[0], learned)
    found = torch.stack([product(v) for v in vectors(learned)])
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9 * float(expected.max()))
