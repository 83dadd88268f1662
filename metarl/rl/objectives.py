"""Policy-gradient objectives as pure functions: losses, surrogates, divergence, Fisher product.

The losses of proximal policy optimization act on tensors [...]; the others on a `PolicyBatch`, all
tasks at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from metarl.bilevel.inner_loop import Loss
from metarl.bilevel.linearized import LinearizedAdaptation
from metarl.estimators.surrogates import Surrogate, log_prob, lvc
from metarl.optim.trust_region import gauss_newton_product
from metarl.parameters import Params, flatten, unflatten
from metarl.rl.distributions import Distribution
from metarl.rl.masked import (
    mean_over_states,
    scale_of_tasks,
    standardize_by_task,
    state_weights,
    step_packing,
)
from metarl.rl.policies import Policy
from metarl.rl.returns import (
    bootstrapped_feature_values,
    discounted_returns,
    generalized_advantages,
    linear_feature_values,
)
from metarl.rollouts.episodes import Episodes

__all__ = [
    "clipped_surrogate",
    "clipped_value_loss",
    "PolicyBatch",
    "action_log_probs",
    "adapted_fisher_product",
    "log_prob_loss",
    "mean_kl",
    "policy_batch",
    "ratio_loss",
    "surrogate_loss",
]


def clipped_surrogate(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, *, clip: float
) -> Tensor:
    """The clipped policy loss of each step, to be minimized.

        −min(ρ A, clip(ρ, 1 − ε, 1 + ε) A),   ρ = π(a|·) / π_old(a|·)

    Args:
        log_probs: log π of the actions taken, nats. Shape [...].
        old_log_probs: log π_old, without a graph.
        advantages: A.
        clip: ε, above 0.

    Source: Schulman et al. 2017 (arXiv:1707.06347), eq. 7.
    """
    ratios = torch.exp(log_probs - old_log_probs)
    clipped = ratios.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratios * advantages, clipped * advantages)


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float | None = None
) -> Tensor:
    """Half the squared error of the values; with `clip`, at least half the clipped squared error.

        ½ max((V − G)², (V_old + clip(V − V_old, −ε, ε) − G)²)

    Args:
        values: V, shape [...].
        old_values: V_old, without a graph.
        returns: G, the targets of the values.
        clip: ε in units of the values; None does not clip.

    Source: the reference code of Schulman et al. 2017 (openai/baselines, ppo2).
    """
    errors = (values - returns).square()
    if clip is not None:
        near = old_values + (values - old_values).clamp(-clip, clip)
        errors = torch.maximum(errors, (near - returns).square())
    return 0.5 * errors


class PolicyBatch(NamedTuple):
    """Steps of all tasks, ready for a loss: N tasks, E environments, T steps of one episode.

    The axes of environments and time are separate, so that a loss can sum along an episode.
    """

    observations: Tensor  # [N, E, T, O]
    actions: Tensor  # [N, E, T, A], or [N, E, T] int64
    log_probs: Tensor  # [N, E, T], under the policy that acted, nats
    advantages: Tensor  # [N, E, T]
    mask: Tensor  # [N, E, T] bool, true for valid steps
    rewards: Tensor  # [N, E, T], γ^t r_t / scale
    values: Tensor  # [N, E, T], γ^t times the baseline / scale
    times: Tensor  # [N, E, T] int64, index of a step in its episode; 0 for padding
    scale: Tensor  # [N, E, T], reward units per unit of the advantages, one number per task

    def first_envs(self, num_envs: int) -> PolicyBatch:
        """The episodes of the first environments of each task, as views."""
        return PolicyBatch(*(field[:, :num_envs] for field in self))

    def packed(self) -> PolicyBatch:
        """The same valid steps with less padding; the batch itself if there is little.

        If lengths vary, the episodes of a task follow one another in one row, E = 1, and `times`
        marks where each of them starts.
        """
        packing = step_packing(self.mask)
        if packing is None:
            return self
        packed = PolicyBatch(*map(packing.gather, self))
        return packed._replace(mask=packing.mask)


@torch.no_grad()
def action_log_probs(policy: Policy, params: Params, episodes: Episodes) -> Tensor:
    """log π(a | s) of the actions in episodes, nats; arbitrary after the end. Shape [N, E, T].

    Args:
        policy: the policy; it is applied to valid steps only if much of the batch is padding.
        params: parameters of each task, [N, ...].
        episodes: [N, E, ...].
    """
    observations, actions = episodes.observations[:, :, :-1], episodes.actions
    packing = step_packing(episodes.mask)
    if packing is None:
        return policy.distribution(params, observations).log_prob(actions)
    distribution = policy.distribution(params, packing.gather(observations))
    return packing.scatter(distribution.log_prob(packing.gather(actions)))


def policy_batch(
    episodes: Episodes,
    log_probs: Tensor,
    *,
    gamma: float = 0.99,
    gae_lambda: float = 1.0,
    baseline: Literal["linear", "none"] = "linear",
    features: Callable[[Tensor], Tensor] | None = None,
    normalize: bool = True,
    bootstrap_truncated: bool = False,
) -> PolicyBatch:
    """Advantages of a batch of episodes, with all other inputs of a policy-gradient loss.

    Args:
        episodes: leading axes [N, E], time T.
        log_probs: log-probabilities of the actions under the policy that acted, as from
            `action_log_probs`. Shape [N, E, T].
        gamma: discount per step.
        gae_lambda: λ of the advantage estimate.
        baseline: "linear": fitted to this batch, task by task; "none": values are zero.
        features: maps observations [..., O] to the numbers that the baseline is fitted to; None:
            the observations themselves.
        normalize: give the advantages of each task mean 0 and standard deviation 1.
        bootstrap_truncated: bootstrap from the baseline's value when an episode is truncated; the
            baseline is then fitted to returns that continue after the truncation, see
            `bootstrapped_feature_values`. The published methods use the value 0 after the horizon,
            and so does the baseline "none".

    Returns:
        The batch, detached from the autograd graph, with contiguous observations and actions.
    """
    ends = episodes.terminated | episodes.truncated
    observed = episodes.observations if features is None else features(episodes.observations)
    if baseline == "none":
        values = episodes.rewards.new_zeros(episodes.observations.shape[:-1])
    elif bootstrap_truncated:
        values = bootstrapped_feature_values(
            observed,
            episodes.rewards,
            episodes.terminated,
            episodes.mask,
            gamma=gamma,
            gae_lambda=gae_lambda,
        )
    else:
        returns = discounted_returns(episodes.rewards, ends, gamma)
        values = linear_feature_values(observed, returns, episodes.mask)
    terminated, truncated = episodes.terminated, episodes.truncated
    if not bootstrap_truncated:
        terminated, truncated = ends, torch.zeros_like(ends)
    advantages = generalized_advantages(
        episodes.rewards, values, terminated, truncated, gamma=gamma, gae_lambda=gae_lambda
    )
    mask, rewards = episodes.mask, episodes.rewards
    if bootstrap_truncated:
        rewards = rewards + gamma * torch.where(truncated, values[..., 1:], 0)
    scale = torch.ones_like(advantages)
    if normalize:
        scale = scale_of_tasks(advantages, mask).expand_as(advantages).contiguous()
        advantages = standardize_by_task(advantages, mask)
    times = torch.where(mask, torch.arange(mask.shape[-1], device=mask.device), 0)
    discounts = torch.pow(gamma, times.to(scale.dtype)) / scale
    return PolicyBatch(
        episodes.observations[:, :, :-1].contiguous(),
        episodes.actions.contiguous(),
        log_probs.detach(),
        advantages,
        mask,
        rewards * discounts,
        values[..., :-1] * discounts,
        times,
        scale,
    )


def surrogate_loss(policy: Policy, surrogate: Surrogate) -> Loss:
    """The loss of a surrogate: −mean over the steps of each task, shape [tasks].

    Args:
        policy: the policy.
        surrogate: a function of `metarl.estimators.surrogates`, which decides how the inner step is
            differentiated. The published formulas sum over the steps of an episode; the mean
            divides the inner learning rate by the mean length of the task's episodes.
    """

    def loss(params: Params, batch: PolicyBatch) -> Tensor:
        log_probs = policy.distribution(params, batch.observations).log_prob(batch.actions)
        return -mean_over_states(surrogate(log_probs, batch), batch.mask)

    return loss


def log_prob_loss(policy: Policy) -> Loss:
    """REINFORCE with a baseline: L = −mean log π(a | s) A of each task, shape [tasks].

    Source: Finn et al. 2017 (arXiv:1703.03400), eq. 4.
    """
    return surrogate_loss(policy, log_prob)


def ratio_loss(policy: Policy) -> Loss:
    """Likelihood-ratio surrogate: L = −mean π(a | s) / π_acted(a | s) A of each task, [tasks].

    At the parameters that acted, its gradient equals the gradient of `log_prob_loss`; its Hessian
    also holds the variance term of the policy gradient (Rothfuss et al. 2019, arXiv:1810.06784,
    sec. 4).

    Source: Schulman et al. 2015 (arXiv:1502.05477), eq. 14.
    """
    return surrogate_loss(policy, lvc)


def adapted_fisher_product(
    policy: Policy,
    adaptation: LinearizedAdaptation,
    query: PolicyBatch,
    like: Params,
) -> Callable[[Tensor], Tensor]:
    """v ↦ F v for the mean KL divergence of the adapted policies, through adaptation.

        F = (1/N) Σ_i J_iᵀ F_i J_i,   J_i = ∂θ'_i/∂θ,
        F_i = the Fisher information of π_θ'_i, mean over the query states of task i

    Equal to the second derivative of the mean KL divergence at θ, since its first derivative is
    zero there; no third derivative of the policy is taken.

    Args:
        policy: the policy.
        adaptation: θ'_i and J_i.
        query: states of all tasks, [N, E, T, ...]; may hold a part of the environments.
        like: the meta-learned parameters θ, for their names and shapes. Other parameters of the
            adaptation, such as a context that always starts at 0, are constant.

    Returns:
        The product on flat vectors [P].

    Source: Schulman et al. 2015 (arXiv:1502.05477), app. C.1, per task and chained with J_i.
    """
    leaves = {name: p.detach().requires_grad_() for name, p in adaptation.adapted.items()}
    distribution = policy.distribution(leaves, query.observations)
    weights = state_weights(query.mask, query.advantages.dtype).unsqueeze(-1)
    num_tasks = weights.shape[0]

    def metric(tangents: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Mean over states; an output that all states share has axes of length 1 and weight 1."""
        products = distribution.detach().fisher_metric(tangents)
        states = weights.shape[1:-1]
        return tuple(p * weights if p.shape[1:-1] == states else p for p in products)

    fisher = gauss_newton_product(distribution.outputs, list(leaves.values()), metric)

    def product(vector: Tensor) -> Tensor:
        tangents = {name: torch.zeros_like(p) for name, p in leaves.items()}
        for name, tangent in unflatten(vector, like).items():
            tangents[name] = tangent.expand(num_tasks, *tangent.shape)
        pushed = adaptation.push(tangents)
        curved = fisher([pushed[name] for name in leaves])
        pulled = adaptation.pull(dict(zip(leaves, curved, strict=True)))
        return flatten({name: pulled[name].mean(0) for name in like})

    return product


def mean_kl(policy: Policy, params: Params, batch: PolicyBatch, old: Distribution) -> Tensor:
    """KL(old ‖ π_params) in nats, mean over the states of each task. Shape [tasks]."""
    distribution = policy.distribution(params, batch.observations)
    return mean_over_states(distribution.kl_from(old), batch.mask)
