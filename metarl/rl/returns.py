"""Return and advantage estimators: pure functions of rewards, values and episode ends.

Time is the last axis; leading axes are usually [tasks, envs]. The linear-feature baselines are
value functions that are fitted to the data of each task: one to returns that stop at the horizon,
the other to returns that continue after a truncation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metarl.devices import require_memory
from metarl.rl.masked import step_packing
from metarl.validation import require_between

__all__ = [
    "bootstrapped_feature_values",
    "discounted_returns",
    "generalized_advantages",
    "linear_feature_values",
]


def discounted_returns(rewards: Tensor, ends: Tensor, gamma: float) -> Tensor:
    """Discounted sum of the rewards up to the episode's end.

        G_t = r_t + γ (1 − end_t) G_{t+1},   G_T = 0

    Args:
        rewards: r_t. Shape [..., T].
        ends: bool, true if step t is the last of its episode. Shape [..., T].
        gamma: γ, discount per step, in [0, 1].

    Returns:
        G_t, shape [..., T], the dtype of `rewards`.

    Raises:
        ValueError: if shapes differ or gamma lies outside [0, 1].

    Source: Sutton & Barto 2018, eq. 3.8.
    """
    _check(rewards, gamma, ends=ends)
    returns = torch.empty_like(rewards)
    running = torch.zeros_like(rewards[..., 0])
    for t in reversed(range(rewards.shape[-1])):
        running = rewards[..., t] + gamma * torch.where(ends[..., t], 0, running)
        returns[..., t] = running
    return returns


def generalized_advantages(
    rewards: Tensor,
    values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
    next_values: Tensor | None = None,
) -> Tensor:
    """Generalized advantage estimates with separate termination and truncation.

        A_t = δ_t + γ λ (1 − end_t) A_{t+1},   δ_t = r_t + γ (1 − terminated_t) V'_t − V_t

    with end_t = terminated_t or truncated_t; V'_t is the value of the state that step t leads to,
    V_{t+1} unless `next_values` is given.

    Args:
        rewards: r_t. Shape [..., T].
        values: V_t of each state, including the one after the last step. Shape [..., T + 1].
        terminated: bool, the value after the step is 0. Shape [..., T].
        truncated: bool, the episode was cut; the next value bootstraps. Shape [..., T].
        gamma: γ, in [0, 1].
        gae_lambda: λ, in [0, 1].
        next_values: V'_t, needed if a new episode starts at t + 1. Shape [..., T].

    Returns:
        A_t, shape [..., T], the dtype of `rewards`.

    Raises:
        ValueError: if shapes do not fit or gamma or lambda lies outside [0, 1].

    Source: Schulman et al. 2016 (arXiv:1506.02438), eq. 16. Differs: cut at truncation.
    """
    _check(rewards, gamma, terminated=terminated, truncated=truncated)
    if not 0 <= gae_lambda <= 1:
        raise ValueError(f"gae_lambda must lie in [0, 1], got {gae_lambda}")
    steps = rewards.shape[-1]
    if values.shape != (*rewards.shape[:-1], steps + 1):
        raise ValueError(
            f"values must have {steps + 1} time steps (rewards has {steps}, plus one to "
            f"bootstrap), got shape {tuple(values.shape)}"
        )
    following = values[..., 1:] if next_values is None else next_values
    if following.shape != rewards.shape:
        raise ValueError(
            f"next_values must have the shape of rewards {tuple(rewards.shape)}, "
            f"got {tuple(following.shape)}"
        )
    deltas = rewards + gamma * torch.where(terminated, 0, following) - values[..., :-1]
    ends = terminated | truncated
    advantages = torch.empty_like(rewards)
    running = torch.zeros_like(rewards[..., 0])
    for t in reversed(range(steps)):
        running = deltas[..., t] + gamma * gae_lambda * torch.where(ends[..., t], 0, running)
        advantages[..., t] = running
    return advantages


def _check(rewards: Tensor, gamma: float, **flags: Tensor) -> None:
    for name, flag in flags.items():
        if flag.dtype != torch.bool:
            raise ValueError(f"{name} must be bool, got {flag.dtype}")
        if flag.shape != rewards.shape:
            raise ValueError(
                f"{name} must have the shape of rewards {tuple(rewards.shape)}, "
                f"got {tuple(flag.shape)}"
            )
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma must lie in [0, 1], got {gamma}")


def linear_feature_values(
    observations: Tensor, returns: Tensor, mask: Tensor, *, regularization: float = 1e-5
) -> Tensor:
    """Values of all states by ridge regression on the returns of the same task.

        φ(s, t) = [s, s², t/100, (t/100)², (t/100)³, 1],   s clipped to ±10
        w_i = argmin_w Σ (φ·w − G)² + ρ ‖w‖²

    Args:
        observations: s, including the one after the last step. Shape [N, E, T + 1, O].
        returns: G_t, discounted. Shape [N, E, T].
        mask: bool, true for the steps of the fit. Shape [N, E, T].
        regularization: ρ, above 0.

    Returns:
        φ·w for the observations before and after each masked step and for the first one, 0 for the
        others. Shape [N, E, T + 1], the dtype of `returns`.

    Raises:
        ValueError: if the time axes do not fit, the regularization is not above 0, or the features
            do not fit in memory.

    Source: Duan et al. 2016 (arXiv:1604.06778), sec. 4 (rllab's LinearFeatureBaseline).
    Differs: solved in float64.
    """
    _require_states(observations, mask, "returns", returns)
    require_between("regularization", regularization, 0, math.inf, open_low=True)
    _require_memory(observations)
    edge = torch.zeros_like(mask[..., :1])
    is_fitted = torch.cat([mask, edge], -1)
    is_valued = is_fitted | torch.cat([~edge, mask], -1)
    packing = step_packing(is_valued)
    if packing is None:
        features = _features(observations, _hundreds(observations))
        counted = torch.where(mask.unsqueeze(-1), features[:, :, :-1], 0)
        targets = torch.where(mask, returns, 0)
    else:
        hundreds = _hundreds(observations).expand(*is_valued.shape, 1)
        features = _features(packing.gather(observations), packing.gather(hundreds))
        counts = packing.mask & packing.gather(is_fitted)
        counted = torch.where(counts.unsqueeze(-1), features, 0)
        padded = torch.cat([returns, torch.zeros_like(returns[..., :1])], -1)
        targets = torch.where(counts, packing.gather(padded), 0)
    weights = _ridge_weights(counted.flatten(1, 2), targets.flatten(1, 2), regularization)
    fitted = (features.flatten(1, 2) @ weights).view(features.shape[:-1])
    values = torch.where(is_valued, fitted, 0) if packing is None else packing.scatter(fitted)
    return values.to(returns.dtype)


def bootstrapped_feature_values(
    observations: Tensor,
    rewards: Tensor,
    terminated: Tensor,
    mask: Tensor,
    *,
    gamma: float,
    gae_lambda: float = 1.0,
    regularization: float = 1e-5,
) -> Tensor:
    """Values of all states by ridge regression on λ-returns that bootstrap from these values.

        φ(s) = [s, s², 1],   s clipped to ±10
        G_t = r_t + γ (1 − terminated_t) ((1 − λ_t) φ(s_{t+1})·w + λ_t G_{t+1})
        w_i = argmin_v Σ (φ(s_t)·v − G_t)² + ρ ‖v‖²  at v = w_i

    with λ_t = 0 at the last step of an episode, else λ. The returns are linear in w, so the fixed
    point is the solution of one linear system. The time is not a feature: the values are those of
    a task without a time limit, and a value of its own for the last time fits any data. Values are
    limited to the interval between the lowest and the highest reward of the task (or 0) divided by
    1 − γ, since the system may be almost singular.

    Args:
        observations: s, including the one after the last step. Shape [N, E, T + 1, O].
        rewards: r_t. Shape [N, E, T].
        terminated: bool, the value after the step is 0. Shape [N, E, T].
        mask: bool, true for valid steps, which come first. Shape [N, E, T].
        gamma: γ, in [0, 1).
        gae_lambda: λ, in [0, 1].
        regularization: ρ, above 0.

    Returns:
        φ·w for the observations before and after each valid step, 0 for the others. Shape
        [N, E, T + 1], the dtype of `rewards`.

    Raises:
        ValueError: if shapes do not fit, a number is out of range, or the features do not fit in
            memory.

    Source: Boyan 2002, Technical update: least-squares temporal difference learning, sec. 3
    (LSTD(λ)); bootstrapping at time limits: Pardo et al. 2018 (arXiv:1712.00378), sec. 3. Differs:
    ridge term and limits of the values.
    """
    _check(rewards, gamma, terminated=terminated, mask=mask)
    require_between("gamma", gamma, 0, 1, open_high=True)
    require_between("gae_lambda", gae_lambda, 0, 1)
    require_between("regularization", regularization, 0, math.inf, open_low=True)
    _require_states(observations, mask, "rewards", rewards)
    _require_memory(observations, num_copies=6)
    edge = torch.zeros_like(mask[..., :1])
    is_valued = torch.cat([mask, edge], -1) | torch.cat([edge, mask], -1)
    clipped = observations.double().clamp(-10, 10)
    features = torch.cat([clipped, clipped**2, torch.ones_like(clipped[..., :1])], -1)
    features = torch.where(is_valued.unsqueeze(-1), features, 0).mT  # [N, E, F, T + 1]
    counted = torch.where(mask, rewards, 0).double()
    bootstraps = mask & ~terminated
    gram, moment = _bootstrapped_system(
        features, counted, bootstraps, mask, gamma=gamma, gae_lambda=gae_lambda
    )
    gram.diagonal(dim1=-2, dim2=-1).add_(regularization)
    weights = torch.linalg.solve(gram, moment)
    fitted = (weights.mT.unsqueeze(1) @ features).squeeze(-2)
    low, high = counted.flatten(1).amin(1).clamp(max=0), counted.flatten(1).amax(1).clamp(min=0)
    limits = [(bound / (1 - gamma)).view(-1, 1, 1) for bound in (low, high)]
    return torch.where(is_valued, fitted.clamp(*limits), 0).to(rewards.dtype)


def _bootstrapped_system(
    features: Tensor,
    rewards: Tensor,
    bootstraps: Tensor,
    mask: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """Σ φ_t (φ_t − c_t)ᵀ and Σ φ_t g_t for the λ-returns G_t = g_t + c_t·w of each task.

    Args:
        features: φ, 0 for padding. Shape [N, E, F, T + 1].
        rewards: r_t, 0 for padding. Shape [N, E, T].
        bootstraps: bool, true for valid steps that do not terminate. Shape [N, E, T].
        mask: bool, true for valid steps. Shape [N, E, T].
        gamma: γ.
        gae_lambda: λ.

    Returns:
        Shapes [N, F, F] and [N, F, 1].
    """
    ends = ~torch.cat([mask[..., 1:], torch.zeros_like(mask[..., :1])], -1)
    decay = gamma * gae_lambda
    constants = discounted_returns(rewards, ends, decay)
    shares = (
        gamma - decay + decay * ends.to(rewards.dtype)
    ) * bootstraps  # weight of φ_{t+1} in G_t
    following = shares.unsqueeze(-2) * features[..., 1:]
    slopes = discounted_returns(following, ends.unsqueeze(-2).expand_as(following), decay)
    valid = torch.where(mask.unsqueeze(-2), features[..., :-1], 0)
    rows = valid.transpose(1, 2).flatten(2)  # [N, F, E · T]
    errors = torch.where(mask.unsqueeze(-2), features[..., :-1] - slopes, 0)
    gram = rows @ errors.transpose(1, 2).flatten(2).mT
    moment = rows @ torch.where(mask, constants, 0).flatten(1).unsqueeze(-1)
    return gram, moment


def _require_states(observations: Tensor, mask: Tensor, name: str, values: Tensor) -> None:
    steps = values.shape[-1]
    if observations.shape[-2] != steps + 1 or mask.shape != values.shape:
        raise ValueError(
            f"observations must have {steps + 1} time steps and mask the shape of {name} "
            f"{tuple(values.shape)}, got {tuple(observations.shape)} and {tuple(mask.shape)}"
        )


def _require_memory(observations: Tensor, *, num_copies: int = 2) -> None:
    """Reject observations whose features, several times, and Gram matrices exceed the memory."""
    num_features = 2 * observations.shape[-1] + 4
    num_states = observations.shape[:-1].numel()
    numbers = num_copies * num_states * num_features + observations.shape[0] * num_features**2
    if observations.device.type == "cpu":
        require_memory(
            f"the linear baseline of {num_features} features",
            8 * numbers,
            remedy="use baseline projection or none",
        )


def _ridge_weights(features: Tensor, targets: Tensor, regularization: float) -> Tensor:
    """Weights [N, F, 1] of the regression of targets [N, S] on float64 features [N, S, F]."""
    gram = features.mT @ features
    gram.diagonal(dim1=-2, dim2=-1).add_(regularization)
    moment = features.mT @ targets.double().unsqueeze(-1)
    weights: Tensor = torch.linalg.solve(gram, moment)
    return weights


def _hundreds(observations: Tensor) -> Tensor:
    """t / 100 for observations [..., T, O]. Shape [T, 1], float64."""
    steps, device = observations.shape[-2], observations.device
    return torch.arange(steps, device=device, dtype=torch.float64).div(100).unsqueeze(-1)


def _features(observations: Tensor, time: Tensor) -> Tensor:
    clipped = observations.double().clamp(-10, 10)
    powers = torch.cat([time, time**2, time**3, torch.ones_like(time)], -1)
    return torch.cat([clipped, clipped**2, powers.expand(*observations.shape[:-1], 4)], -1)
