"""Updates of RL² on a batch of trials: PPO and TRPO."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from metarl.finite import require_finite_params
from metarl.nn.memories import MemoryState, NoMemory
from metarl.optim.optimizer import NamedOptimizer
from metarl.optim.trust_region import (
    backtracking_line_search,
    gauss_newton_product,
    trust_region_step,
)
from metarl.parameters import Params, flatten, unflatten
from metarl.rl.distributions import Distribution
from metarl.rl.masked import masked_mean
from metarl.rl.objectives import clipped_surrogate, clipped_value_loss
from metarl.rl.trial_policies import TrialPolicy

from .batch import TrialBatch
from .config import RL2Config

__all__ = ["METRICS", "UpdateContext", "ppo_update", "trpo_update"]

Metrics = dict[str, float]

METRICS: Mapping[str, Mapping[str, str]] = {
    "ppo": {
        "meta/policy_loss": "clipped surrogate loss, mean over the minibatches",
        "meta/value_loss": "loss of the critic, mean over the minibatches",
        "meta/entropy_nats": "entropy of the policy, mean over the minibatches",
        "meta/kl_nats": "estimated KL divergence from the acting policy, mean over the minibatches",
        "meta/clip_fraction": "fraction of the steps whose likelihood ratio was clipped",
        "meta/gradient_norm": "norm of the gradient before clipping, mean over the minibatches",
    },
    "trpo": {
        "meta/gradient_norm": "norm of the policy's gradient",
        "meta/kl_nats": "mean KL divergence of the step",
        "meta/improvement": "decrease of the surrogate loss over the step",
        "meta/expected_improvement": "decrease that the gradient predicts for the full step",
        "meta/line_search_steps": "number of steps that the line search tried",
        "meta/accepted": "1 if a step was accepted, else 0",
        "meta/entropy_nats": "entropy of the acting policy",
        "meta/value_loss": "loss of the critic, mean over the minibatches",
    },
}
"""Description of the metrics, by the setting `optimizer`."""
_REMEDY = "try a smaller learning_rate, or normalize_rewards"


@dataclass(frozen=True)
class UpdateContext:
    """Networks, optimizer and settings that an update uses."""

    policy: TrialPolicy
    params: Params
    optimizer: NamedOptimizer
    config: RL2Config


def ppo_update(context: UpdateContext, batch: TrialBatch, generator: torch.Generator) -> Metrics:
    """Proximal policy optimization on minibatches of whole trials; changes the parameters in place.

    The memories are recomputed with the current parameters in every minibatch.

    Source: Schulman et al. 2017 (arXiv:1707.06347), alg. 1.
    """
    params, config = context.params, context.config
    metrics: dict[str, list[Tensor]] = {}
    for rows in _minibatches(batch, config, generator):
        gradients, terms = _ppo_gradient(context, batch.select_trials(rows))
        norm = _clip_grad_norm(gradients, config.max_gradient_norm)
        context.optimizer.step(gradients, learning_rate=config.learning_rate)
        for name, value in (*terms.items(), ("gradient_norm", norm)):
            metrics.setdefault(name, []).append(value)
    require_finite_params("parameter", params, remedy=_REMEDY)
    return {f"meta/{name}": float(torch.stack(values).mean()) for name, values in metrics.items()}


def _ppo_gradient(context: UpdateContext, batch: TrialBatch) -> tuple[Params, dict[str, Tensor]]:
    """Gradient of PPO's loss on some trials, summed over chunks of time, and the loss terms."""
    policy, params, config = context.policy, context.params, context.config
    total: Params = {}
    sums: dict[str, Tensor] = {}
    count = batch.mask.sum()
    batch = _without_padding(policy, batch)
    state = policy.start(params, batch.mask.shape[1])
    for times in _bptt_chunks(batch.num_steps, config.backprop_steps):
        batch, state = _unfinished_trials(batch, state, times.start)
        cleared = None if batch.cleared is None else batch.cleared[times]
        with torch.enable_grad():
            inputs = batch.inputs[times]
            distribution, features, state = policy.sequence(params, inputs, state, cleared)
            progress, tasks = batch.trial_progress[times], batch.tasks
            values = policy.values(params, inputs, features, progress, tasks=tasks, cleared=cleared)
            log_probs = distribution.log_prob(batch.actions[times])
            surrogate = clipped_surrogate(
                log_probs, batch.log_probs[times], batch.advantages[times], clip=config.clip
            )
            errors = clipped_value_loss(
                values, batch.values[times], batch.returns[times], clip=config.value_clip
            )
            entropy, mask = distribution.entropy(), batch.mask[times]
            terms = {
                "policy_loss": surrogate, "value_loss": errors, "entropy_nats": entropy,
            }  # fmt: skip
            means = {k: torch.where(mask, v, 0).sum() / count for k, v in terms.items()}
            loss = (
                means["policy_loss"]
                + config.value_coefficient * means["value_loss"]
                - config.entropy_coefficient * means["entropy_nats"]
            )
            gradients = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
        with torch.no_grad():
            log_ratios = log_probs - batch.log_probs[times]
            moved = torch.expm1(log_ratios)
            means["kl_nats"] = torch.where(mask, moved - log_ratios, 0).sum() / count
            clipped = mask & (moved.abs() > config.clip)
            means["clip_fraction"] = clipped.sum().to(torch.float32) / count
        for name, gradient in zip(params, gradients, strict=True):
            if gradient is not None:
                total[name] = total[name] + gradient if name in total else gradient
        for name, value in means.items():
            sums[name] = sums.get(name, 0) + value.detach()
        state = tuple(s.detach() for s in state)
    return total, sums


def _without_padding(policy: TrialPolicy, batch: TrialBatch) -> TrialBatch:
    """If the policy has no memory, only the valid steps; otherwise the whole batch."""
    return batch.without_padding() if isinstance(policy.memory, NoMemory) else batch


def _unfinished_trials(
    batch: TrialBatch, state: MemoryState, first: int
) -> tuple[TrialBatch, MemoryState]:
    """The trials that have valid steps from step `first` on, and their memories."""
    unfinished = batch.mask[first:].any(0)
    if bool(unfinished.all()):
        return batch, state
    rows = unfinished.nonzero().squeeze(1)
    return batch.select_trials(rows), tuple(part[rows] for part in state)


def trpo_update(context: UpdateContext, batch: TrialBatch, generator: torch.Generator) -> Metrics:
    """One trust-region step of the policy, then Adam steps of the critic; changes them in place.

    Source: Schulman et al. 2015 (arXiv:1502.05477), app. C, as Duan et al. 2016 use it for RL².
    """
    policy, params, config = context.policy, context.params, context.config
    names = [name for name in params if name.startswith("policy.")]
    own = {name: params[name] for name in names}
    start = flatten(own)
    trials, batch = batch, _without_padding(policy, batch)
    if batch is not trials:
        with torch.no_grad():
            batch = replace(batch, old=_distribution(policy, own, batch))
    with torch.enable_grad():
        loss = _surrogate(policy, own, batch, config)
        gradients = torch.autograd.grad(loss, list(own.values()))
    gradient = flatten(dict(zip(own, gradients, strict=True)))
    step, expected = trust_region_step(
        gradient,
        _fisher_product(policy, own, trials, config),
        max_kl_nats=config.max_kl_nats,
        cg_iterations=config.cg_iterations,
        cg_damping=config.cg_damping,
    )

    @torch.no_grad()
    def evaluate(candidate: Tensor) -> tuple[Tensor, Tensor]:
        moved = unflatten(candidate, own)
        distribution = _distribution(policy, moved, batch)
        kl = masked_mean(distribution.kl_from(batch.old), batch.mask)
        return _surrogate(policy, moved, batch, config), kl

    found = backtracking_line_search(
        evaluate,
        start,
        step,
        initial_loss=loss.detach(),
        max_kl_nats=config.max_kl_nats,
        max_steps=config.line_search_steps,
        backtrack_ratio=config.backtrack_ratio,
    )
    if found.accepted:
        with torch.no_grad():
            for name, value in unflatten(found.params, own).items():
                params[name].copy_(value)
    value_loss = _fit_values(context, trials, generator)
    require_finite_params("parameter", params, remedy=_REMEDY)
    return {
        "meta/gradient_norm": float(gradient.norm()),
        "meta/kl_nats": found.kl_nats,
        "meta/improvement": float(loss.detach()) - found.loss,
        "meta/expected_improvement": -float(expected),
        "meta/line_search_steps": found.num_evaluations,
        "meta/accepted": float(found.accepted),
        "meta/entropy_nats": float(masked_mean(batch.old.entropy(), batch.mask)),
        "meta/value_loss": value_loss,
    }


def _distribution(policy: TrialPolicy, params: Params, batch: TrialBatch) -> Distribution:
    state = policy.start(params, batch.mask.shape[1])
    return policy.sequence(params, batch.inputs, state, batch.cleared)[0]


def _surrogate(policy: TrialPolicy, params: Params, batch: TrialBatch, config: RL2Config) -> Tensor:
    """−mean(ρ A + c H), with the likelihood ratio ρ, advantages A and the entropy bonus c H."""
    distribution = _distribution(policy, params, batch)
    ratios = torch.exp(distribution.log_prob(batch.actions) - batch.log_probs)
    gain = ratios * batch.advantages + config.entropy_coefficient * distribution.entropy()
    return -masked_mean(gain, batch.mask)


def _fisher_product(
    policy: TrialPolicy, params: Params, batch: TrialBatch, config: RL2Config
) -> Callable[[Tensor], Tensor]:
    """v ↦ F v for the Fisher information F of the policy, mean over a fraction of the trials."""
    count = math.ceil(config.fisher_fraction * batch.mask.shape[1])
    rows = torch.arange(count, device=batch.mask.device)
    share = _without_padding(policy, batch.select_trials(rows))
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    with torch.enable_grad(), _twice_differentiable():
        distribution = _distribution(policy, leaves, share)
        weights = (share.mask.to(torch.float32) / share.mask.sum()).unsqueeze(-1)

        def metric(tangents: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            products = distribution.detach().fisher_metric(tangents)
            return tuple(product * weights for product in products)

        fisher = gauss_newton_product(distribution.outputs, list(leaves.values()), metric)

    def product(vector: Tensor) -> Tensor:
        curved = fisher(list(unflatten(vector, params).values()))
        return flatten(dict(zip(params, curved, strict=True)))

    return product


@contextmanager
def _twice_differentiable() -> Iterator[None]:
    """Disable fused kernels, whose backward passes cannot be differentiated."""
    with torch.backends.cudnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
        yield


def _fit_values(context: UpdateContext, batch: TrialBatch, generator: torch.Generator) -> float:
    """Train the separate critic by Adam; returns the mean loss."""
    policy, params, config = context.policy, context.params, context.config
    names = [name for name in params if name.startswith("value.")]
    losses = []
    for rows in _minibatches(batch, config, generator):
        piece = _without_padding(policy, batch.select_trials(rows))
        with torch.enable_grad():
            inputs, progress, tasks = piece.inputs, piece.trial_progress, piece.tasks
            values = policy.values(
                params, inputs, inputs, progress, tasks=tasks, cleared=piece.cleared
            )
            loss = masked_mean(clipped_value_loss(values, values, piece.returns), piece.mask)
            found = torch.autograd.grad(loss, [params[name] for name in names])
        gradients = dict(zip(names, found, strict=True))
        _clip_grad_norm(gradients, config.max_gradient_norm)
        context.optimizer.step(gradients, learning_rate=config.learning_rate)
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


def _minibatches(
    batch: TrialBatch, config: RL2Config, generator: torch.Generator
) -> Iterator[Tensor]:
    """Indices of the trials of each minibatch; each epoch has a different order."""
    num_trials, device = batch.mask.shape[1], batch.mask.device
    for _ in range(config.num_epochs):
        order = torch.randperm(num_trials, generator=generator).to(device)
        yield from order.tensor_split(config.num_minibatches)


def _bptt_chunks(num_steps: int, length: int | None) -> Iterator[slice]:
    size = length or num_steps
    for first in range(0, num_steps, size):
        yield slice(first, min(first + size, num_steps))


def _clip_grad_norm(gradients: Params, max_norm: float) -> Tensor:
    """Scale gradients in place to a norm of at most `max_norm`; returns the original norm."""
    norm = torch.stack([g.square().sum() for g in gradients.values()]).sum().sqrt()
    factor = (max_norm / (norm + 1e-8)).clamp(max=1.0)
    for gradient in gradients.values():
        gradient.mul_(factor)
    return norm
