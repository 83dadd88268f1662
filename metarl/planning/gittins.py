"""Gittins indices of a Bernoulli arm with a uniform prior, by dynamic programming.

The index of an arm is the certain reward per pull that is as good as the arm, including the value
of the information that the arm gives. Over an infinite discounted horizon always pulling the arm of
the highest index is optimal; over a finite horizon it is a heuristic, close to the optimum.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metarl.validation import require_at_least, require_between

__all__ = ["discounted_indices", "finite_horizon_indices"]

_NEGLIGIBLE = 1e-4  # total discount weight of the pulls beyond the lookahead
_LONGEST_LOOKAHEAD = 1000  # as in the code of Duan et al. 2016


def discounted_indices(discount: float, num_pulls: int, *, resolution: int = 500) -> Tensor:
    """Gittins indices over an infinite horizon.

        A(s, n, λ) = max(0, C(s, n, λ)),   p = (s + 1) / (n + 2)
        C(s, n, λ) = (1 − γ) (p − λ) + γ [ p A(s + 1, n + 1, λ) + (1 − p) A(s, n + 1, λ) ]

    with s successes in n pulls; the index is the λ at which C is 0. Beyond the lookahead the arm
    is assumed to give p at every pull.

    Args:
        discount: γ, in [0, 1).
        num_pulls: largest number of pulls in the table.
        resolution: points of λ in [0, 1]; the index is interpolated between them.

    Returns:
        The index after n pulls with s successes at [n, s], float64, shape
        [num_pulls + 1, num_pulls + 1]; 0 for s > n.

    Raises:
        ValueError: if a number is out of range.

    Source: Gittins, Glazebrook & Weber 2011, sec. 1.4 (calibration) and 8.4; tables there, p. 265.
    """
    require_between("discount", discount, 0, 1, open_high=True)
    require_at_least("num_pulls", num_pulls, 0)
    require_at_least("resolution", resolution, 2)
    rates = torch.linspace(0, 1, resolution, dtype=torch.float64)
    last = num_pulls + _lookahead(discount)
    table = torch.zeros(num_pulls + 1, num_pulls + 1, dtype=torch.float64)
    values = (_posterior_means(last).unsqueeze(-1) - rates).clamp(min=0)  # A [s, λ]
    for n in range(last - 1, -1, -1):
        p = _posterior_means(n).unsqueeze(-1)
        later = torch.lerp(values[:-1], values[1:], p)
        gained = later.mul_(discount).add_((1 - discount) * p).sub_((1 - discount) * rates)
        if n <= num_pulls:
            table[n, : n + 1] = _zero_crossings(gained, rates)
        values = gained.clamp_(min=0)
    return table


def finite_horizon_indices(horizon: int, *, resolution: int = 500) -> Tensor:
    """Gittins indices without discount, for an arm that can be pulled h more times.

        A_h(s, n, λ) = max(0, C_h(s, n, λ)),   A_0 = 0,   p = (s + 1) / (n + 2)
        C_h(s, n, λ) = p − λ + p A_{h−1}(s + 1, n + 1, λ) + (1 − p) A_{h−1}(s, n + 1, λ)

    with s successes in n pulls; the index is the λ at which C_h is 0.

    Args:
        horizon: length of the whole trial; n + h is at most this.
        resolution: points of λ in [0, 1]; the index is interpolated between them.

    Returns:
        The index with h pulls left after n pulls with s successes at [h, n, s], float32, shape
        [horizon + 1] × 3; 0 for s > n, for n + h > horizon, and for h = 0.

    Raises:
        ValueError: if a number is out of range.

    Source: Kaufmann 2018 (arXiv:1601.01190), sec. 3.2; Niño-Mora 2011.
    """
    require_at_least("horizon", horizon, 1)
    require_at_least("resolution", resolution, 2)
    rates = torch.linspace(0, 1, resolution, dtype=torch.float64)
    pulls = torch.arange(horizon, dtype=torch.float64).unsqueeze(-1)
    p = ((torch.arange(horizon) + 1) / (pulls + 2)).clamp(max=1).unsqueeze(-1)  # [n, s, 1]
    table = torch.zeros((horizon + 1,) * 3, dtype=torch.float32)
    values = torch.zeros(horizon + 1, horizon + 1, resolution, dtype=torch.float64)  # A [n, s, λ]
    for left in range(1, horizon + 1):
        size = horizon - left + 1
        success = p[:size, :size]
        failed, succeeded = values[1 : size + 1, :size], values[1 : size + 1, 1 : size + 1]
        gained = torch.lerp(failed, succeeded, success).add_(success).sub_(rates)
        crossings = _zero_crossings(gained, rates)
        table[left, :size, :size] = torch.tril(crossings).to(table)
        values = gained.clamp_(min=0)
    return table


def _posterior_means(num_pulls: int) -> Tensor:
    """(s + 1) / (n + 2) for s = 0 … n. Shape [n + 1]."""
    successes = torch.arange(num_pulls + 1, dtype=torch.float64)
    return (successes + 1) / (num_pulls + 2)


def _lookahead(discount: float) -> int:
    if discount == 0:
        return 1
    needed = math.ceil(math.log(_NEGLIGIBLE) / math.log(discount))
    return max(1, min(needed, _LONGEST_LOOKAHEAD))


def _zero_crossings(values: Tensor, rates: Tensor) -> Tensor:
    """Zeros of decreasing functions of λ in [0, 1]. Shape [..., λ] ↦ [...]."""
    above = (values > 0).sum(-1).clamp(1, len(rates) - 1).unsqueeze(-1)
    high, low = values.gather(-1, above - 1), values.gather(-1, above)
    share = (high / (high - low)).clamp(0, 1)
    step = rates[1] - rates[0]
    return ((above - 1 + share) * step).squeeze(-1)
