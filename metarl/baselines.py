"""The linear-feature baseline: a value function fitted to each task's own returns."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metarl.ranges import require_between

__all__ = ["linear_feature_values"]


def linear_feature_values(
    observations: Tensor, returns: Tensor, mask: Tensor, *, regularization: float = 1e-5
) -> Tensor:
    """Values of all states by ridge regression on the returns of the same task.

        φ(s, t) = [s, s², t/100, (t/100)², (t/100)³, 1],   s clipped to ±10
        w_i = argmin_w Σ (φ·w − G)² + ρ ‖w‖²

    Args:
        observations: s. Shape [N, E, T + 1, O], the last one follows the last step.
        returns: G_t, discounted. Shape [N, E, T].
        mask: bool, steps that count in the fit. Shape [N, E, T].
        regularization: ρ, above 0.

    Returns:
        φ·w for every observation, shape [N, E, T + 1], the dtype of `returns`.

    Raises:
        ValueError: if the time axes do not fit or the regularization is not above 0.

    Source: Duan et al. 2016 (arXiv:1604.06778), sec. 4 (rllab's LinearFeatureBaseline).
    Differs: solved in float64.
    """
    steps = returns.shape[-1]
    if observations.shape[-2] != steps + 1 or mask.shape != returns.shape:
        raise ValueError(
            f"observations must have {steps + 1} time steps and mask the shape of returns "
            f"{tuple(returns.shape)}, got {tuple(observations.shape)} and {tuple(mask.shape)}"
        )
    require_between("regularization", regularization, 0, math.inf, open_low=True)
    features = _features(observations)
    counted = torch.where(mask.unsqueeze(-1), features[:, :, :-1], 0)
    fitted = counted.flatten(1, 2)  # [N, E·T, F]
    gram = fitted.mT @ fitted
    gram.diagonal(dim1=-2, dim2=-1).add_(regularization)
    moment = fitted.mT @ torch.where(mask, returns, 0).double().flatten(1, 2).unsqueeze(-1)
    weights = torch.linalg.solve(gram, moment)  # [N, F, 1]
    values = features.flatten(1, 2) @ weights
    fitted_values: Tensor = values.view(observations.shape[:-1]).to(returns.dtype)
    return fitted_values


def _features(observations: Tensor) -> Tensor:
    clipped = observations.double().clamp(-10, 10)
    time = torch.arange(
        observations.shape[-2], device=observations.device, dtype=torch.float64
    ).div(100).unsqueeze(-1)  # fmt: skip
    powers = torch.cat([time, time**2, time**3, torch.ones_like(time)], -1)
    return torch.cat([clipped, clipped**2, powers.expand(*observations.shape[:-1], 4)], -1)
