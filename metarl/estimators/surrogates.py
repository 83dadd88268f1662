"""Inner objectives as surrogates: equal policy gradients, but different estimates of the Hessian.

A meta-gradient differentiates the gradient of the inner objective, so the choice of a surrogate is
the choice of a Hessian estimator. Each function returns one term per step, to be summed over the
steps of an episode, averaged over episodes, and ascended. V is the expected return of the policy.

"Unbiased" is meant for the Hessian ∇²V, and so for the meta-gradient of

    J_I(θ) = V(θ + α ∇V(θ)),   the inner step with the exact gradient,

up to the curvature of V along the noise of the step, with advantages that are unbiased and
independent of the actions before their step, and the sum over steps. The agents take the mean over
steps instead of the sum, which divides the learning rate α by the mean length of an episode, and
standardize the advantages of each task; both are treated as constants.

    ℓ_t = log π(a_t | s_t),   ⊥ = without gradient,   ρ_t = exp(ℓ_t − ℓ_t^acted),
    c_t = Π_{s ≤ t} ρ_s over the steps of the same episode,   c_{−1} = 1
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from metarl.estimators.prefix_sums import prefix_sums

__all__ = [
    "ActedSteps",
    "Surrogate",
    "dice",
    "dr",
    "loaded_dice",
    "log_prob",
    "lvc",
    "taypo2",
    "tmaml",
    "tmaml_fixed",
]


class ActedSteps(Protocol):
    """Steps of episodes as constants of the data; every tensor has the shape of `log_probs`.

    Episodes lie along the last axis, one or several in a row. Steps of padding have time 0 and
    follow all valid steps of their row.
    """

    @property
    def log_probs(self) -> Tensor:
        """ℓ^acted: log-probabilities of the actions under the policy that acted, nats."""

    @property
    def advantages(self) -> Tensor:
        """A_t."""

    @property
    def rewards(self) -> Tensor:
        """γ^t r_t."""

    @property
    def values(self) -> Tensor:
        """b_t: γ^t times the baseline of the state."""

    @property
    def times(self) -> Tensor:
        """Index t of each step in its episode, int64."""


Surrogate: TypeAlias = Callable[[Tensor, ActedSteps], Tensor]
"""surrogate(log_probs, steps) -> one term per step, in the shape of `log_probs`."""


def log_prob(log_probs: Tensor, steps: ActedSteps) -> Tensor:
    """REINFORCE: ℓ_t A_t.

    Biased for J_I: its Hessian Σ ∇²ℓ_t A_t misses the change of the sampling distribution. With
    the policy's value as baseline and a tabular softmax policy the mean of that Hessian is 0, so
    the meta-gradient is the first-order one with noise. Unbiased for J_II, the objective with
    sampled inner steps, if `sampling_credit` is added. Costs one pass.

    Args:
        log_probs: ℓ, with gradient. Shape [..., T].
        steps: the data, [..., T].

    Source: Finn et al. 2017 (arXiv:1703.03400), eq. 4.
    """
    return log_probs * steps.advantages


def lvc(log_probs: Tensor, steps: ActedSteps) -> Tensor:
    """Likelihood ratio, the low-variance curvature of ProMP and first-order TayPO: ρ_t A_t.

    Biased for J_I: its Hessian misses the products of different steps, Σ_{s<t} ∇ℓ_s ∇ℓ_tᵀ A_t.
    The bias is small and so is the variance. Costs one pass. Arguments as for `log_prob`.

    Source: Rothfuss et al. 2019 (arXiv:1810.06784), eq. 11.
    """
    return torch.exp(log_probs - steps.log_probs) * steps.advantages


def dice(log_probs: Tensor, steps: ActedSteps) -> Tensor:
    """DiCE: c_t γ^t r_t with c_t relative to ⊥ℓ, so that it has value 1.

    Unbiased for J_I, and the only estimator here that needs no baseline; highest variance. Costs a
    prefix sum. Arguments as for `log_prob`. Its gradient weights step t by γ^t, which the
    advantages of the agents do not.

    Source: Foerster et al. 2018 (arXiv:1802.05098), eq. 8, without baseline.
    """
    exponent = prefix_sums(log_probs - log_probs.detach(), steps.times)
    return torch.exp(exponent) * steps.rewards


def loaded_dice(log_probs: Tensor, steps: ActedSteps, *, decay: float = 1.0) -> Tensor:
    """Loaded DiCE: [exp(w_t − ⊥w_t) − exp(w_t − ℓ_t − ⊥(w_t − ℓ_t))] A_t, w_t = λ w_{t−1} + ℓ_t.

    Unbiased for J_I, with much less variance than DiCE. Costs a prefix sum. A λ below 1 trades
    bias for variance; λ = 0 has the derivatives of `lvc`. Other arguments as for `log_prob`.

    Args:
        log_probs: ℓ, with gradient. Shape [..., T].
        steps: the data, [..., T].
        decay: λ, in [0, 1].

    Source: Farquhar et al. 2019 (arXiv:1909.10549), alg. 1.
    """
    own = log_probs - log_probs.detach()  # value 0, so that no exponential overflows
    through = prefix_sums(own, steps.times, decay=decay)
    return (torch.exp(through) - torch.exp(through - own)) * steps.advantages


def taypo2(log_probs: Tensor, steps: ActedSteps) -> Tensor:
    """Second-order TayPO: (ρ_t − 1) (1 + Σ_{s<t} (ρ_s − 1)) A_t.

    Unbiased for J_I on the data of the current policy, where it equals `loaded_dice` sample by
    sample; away from it the error is of third order in the change of the policy. Costs a prefix
    sum. Arguments as for `log_prob`.

    Source: Tang et al. 2021 (arXiv:2106.13125), eq. 7 with K = 2.
    """
    changes = torch.exp(log_probs - steps.log_probs) - 1
    before = prefix_sums(changes, steps.times) - changes
    return changes * (1 + before) * steps.advantages


def dr(log_probs: Tensor, steps: ActedSteps) -> Tensor:
    """Doubly robust: c_{t−1} (ρ_t − 1) A_t.

    Unbiased for J_I and for all derivatives of V, on the data of any policy that acted; the product
    of ratios makes it noisy if that policy is far away. Costs a prefix sum. Arguments as for
    `log_prob`.

    Source: Tang et al. 2021 (arXiv:2106.13125), sec. 3.2.
    """
    log_ratios = log_probs - steps.log_probs
    through = prefix_sums(log_ratios, steps.times)
    return (torch.exp(through) - torch.exp(through - log_ratios)) * steps.advantages


def tmaml(log_probs: Tensor, steps: ActedSteps) -> Tensor:
    """TMAML as published: c_t γ^t r_t − (ρ_t − 1) b_t − (1 − c_t) (1 − ρ_t) b_t.

    Biased for J_I, often by several times the Hessian: c_t includes step t, so the last term adds
    −2 ∇ℓ_t ∇ℓ_tᵀ b_t, whose mean is not 0 (Tang et al. 2021, app. B). It is here for comparison;
    use `tmaml_fixed`. Costs a prefix sum. Arguments as for `log_prob`.

    Source: Liu et al. 2019 (Taming MAML, ICML). Differs: the sign of the last term is the one that
    reduces the variance, and the baseline −(ρ_t − 1) b_t of the gradient is part of the formula.
    """
    log_ratios = log_probs - steps.log_probs
    ratios, products = torch.exp(log_ratios), torch.exp(prefix_sums(log_ratios, steps.times))
    control = (ratios - 1) + (1 - products) * (1 - ratios)
    return products * steps.rewards - control * steps.values


def tmaml_fixed(log_probs: Tensor, steps: ActedSteps) -> Tensor:
    """TMAML without its bias: c_t γ^t r_t − (ρ_t − 1) b_t − (1 − c_{t−1}) (1 − ρ_t) b_t.

    Unbiased for J_I. Summed over an episode, equal to `dr` with the advantages Σ_{s ≥ t} γ^s r_s −
    b_t up to a constant, so that `loaded_dice` has the same derivatives on the data of the current
    policy. Costs a prefix sum. Arguments as for `log_prob`.

    Source: Mao et al. 2019 (A baseline for any order gradient estimation, ICML), baselines of the
    first and second order. Differs: ratios to the policy that acted instead of ⊥.
    """
    log_ratios = log_probs - steps.log_probs
    through = prefix_sums(log_ratios, steps.times)
    ratios, products = torch.exp(log_ratios), torch.exp(through)
    control = (ratios - 1) + (1 - torch.exp(through - log_ratios)) * (1 - ratios)
    return products * steps.rewards - control * steps.values
