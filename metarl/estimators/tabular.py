"""Exact values of softmax policies in small tabular MDPs, and their derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "SmallMDP",
    "expected_return",
    "random_mdp",
    "return_gradient",
    "return_hessian",
    "state_values",
]


@dataclass(frozen=True)
class SmallMDP:
    """A finite-horizon MDP with S states and A actions, small enough to enumerate its episodes."""

    start: Tensor
    """Probability of each state at the beginning. Shape [S], float64."""
    transitions: Tensor
    """P(s' | s, a). Shape [S, A, S]."""
    rewards: Tensor
    """r(s, a). Shape [S, A]."""
    horizon: int
    """H, steps of an episode."""
    gamma: float = 1.0
    """Discount per step."""


def random_mdp(
    generator: torch.Generator, *, num_states: int = 3, num_actions: int = 2, horizon: int = 3
) -> SmallMDP:
    """An MDP that starts in state 0: r ~ N(1, 1), P(· | s, a) ~ Dirichlet(1, …, 1)."""
    shape = (num_states, num_actions)
    rewards = 1 + torch.randn(shape, generator=generator, dtype=torch.float64)
    uniform = torch.rand((*shape, num_states), generator=generator, dtype=torch.float64)
    weights = -torch.log1p(-uniform)  # exponential, so that the normalized rows are Dirichlet
    start = torch.zeros(num_states, dtype=torch.float64)
    start[0] = 1
    return SmallMDP(start, weights / weights.sum(-1, keepdim=True), rewards, horizon)


def state_values(mdp: SmallMDP, logits: Tensor) -> Tensor:
    """Values of softmax policies by backward induction, differentiable.

        V_t(s) = Σ_a π(a | s) [r(s, a) + γ Σ_s' P(s' | s, a) V_{t+1}(s')],   V_H = 0

    Args:
        mdp: the MDP.
        logits: θ, shape [..., S, A].

    Returns:
        V_t for t = 0 … H − 1, shape [..., H, S].
    """
    policy = torch.softmax(logits, -1)
    values = [torch.zeros_like(logits[..., 0])]
    for _ in range(mdp.horizon):
        following = torch.einsum("sax,...x->...sa", mdp.transitions, values[-1])
        values.append((policy * (mdp.rewards + mdp.gamma * following)).sum(-1))
    return torch.stack(values[:0:-1], -2)


def expected_return(mdp: SmallMDP, logits: Tensor) -> Tensor:
    """V(θ) = Σ_s µ(s) V_0(s) of softmax policies θ [..., S, A]. Shape [...]."""
    return state_values(mdp, logits)[..., 0, :] @ mdp.start


def return_gradient(mdp: SmallMDP, logits: Tensor) -> Tensor:
    """∇V of softmax policies θ [..., S, A], in their shape; without graph."""
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        return torch.autograd.grad(expected_return(mdp, leaf).sum(), leaf)[0]


def return_hessian(mdp: SmallMDP, logits: Tensor) -> Tensor:
    """∇²V of one softmax policy θ [S, A]. Shape [S · A, S · A]."""
    flat = logits.detach().flatten()
    gradient = torch.func.grad(lambda p: expected_return(mdp, p.view_as(logits)))
    hessian: Tensor = torch.func.jacrev(gradient)(flat)
    return hessian
