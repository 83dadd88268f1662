"""Trust-region steps as pure functions: conjugate gradient, Fisher products, line search.

This module is independent of policies and tasks: vectors are flat, and products are functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "LineSearchResult",
    "backtracking_line_search",
    "conjugate_gradient",
    "gauss_newton_product",
    "trust_region_step",
]

MatrixVectorProduct = Callable[[Tensor], Tensor]


def conjugate_gradient(
    product: MatrixVectorProduct, target: Tensor, *, num_iterations: int, tolerance: float = 1e-10
) -> Tensor:
    """Approximate solution x of A x = b for symmetric positive definite A.

    Leading axes index independent systems, which are solved at the same time; each has its own step
    lengths and stops separately.

    Args:
        product: v ↦ A v, both shape [..., P].
        target: b, shape [..., P].
        num_iterations: maximum number of products.
        tolerance: stop once ‖b − A x‖² is below this fraction of ‖b‖².

    Returns:
        x, shape [..., P].

    Raises:
        ValueError: if `target` has no axis.

    Source: Hestenes & Stiefel 1952. Differs: a direction without positive curvature ends the
    iteration, because rounding can make A indefinite.
    """
    if target.dim() < 1:
        raise ValueError("target must be a vector [P] or several [..., P], got a number")
    solution = torch.zeros_like(target)
    residual = direction = target
    squared = torch.linalg.vecdot(residual, residual)
    stop = tolerance * squared
    is_open = squared > stop
    for _ in range(num_iterations):
        if not is_open.any():
            break
        curved = product(direction)
        curvature = torch.linalg.vecdot(direction, curved)
        is_open &= curvature > 0
        length = (squared / curvature).where(is_open, 0).unsqueeze(-1)
        solution = solution + length * direction
        residual = residual - length * curved
        previous, squared = squared, torch.linalg.vecdot(residual, residual)
        is_open &= squared > stop
        turned = residual + (squared / previous).unsqueeze(-1) * direction
        direction = turned.where(is_open.unsqueeze(-1), 0)
    return solution


def gauss_newton_product(
    outputs: Sequence[Tensor],
    params: Sequence[Tensor],
    metric: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]],
) -> Callable[[Sequence[Tensor]], tuple[Tensor, ...]]:
    """The product v ↦ Jᵀ M J v, J = ∂outputs/∂params, on a graph built once.

    J v is the derivative, with respect to a dummy u, of the vector-Jacobian product Jᵀu, which is
    linear in u. With M the Fisher information of a distribution in its outputs this is the Fisher
    product of the parameters, equal to the second derivative of the KL divergence at equal
    distributions; it needs no third derivative and about half the time.

    Args:
        outputs: tensors of any shape, with a graph that leads to `params`.
        params: leaves of that graph.
        metric: M, from tangents of the outputs to cotangents, the shapes of `outputs`.

    Returns:
        A function from tangents to cotangents, both like `params`.

    Source: the double-vjp identity (Townsend 2017); Martens 2020 (arXiv:1412.1193), sec. 9.
    """
    dummies = [torch.zeros_like(output, requires_grad=True) for output in outputs]
    transposed = torch.autograd.grad(
        outputs, params, dummies, create_graph=True, allow_unused=True, materialize_grads=True
    )

    def product(tangents: Sequence[Tensor]) -> tuple[Tensor, ...]:
        pairs = [(t, v) for t, v in zip(transposed, tangents, strict=True) if t.requires_grad]
        pushed = torch.autograd.grad(
            [t for t, _ in pairs], dummies, [v for _, v in pairs],
            retain_graph=True, allow_unused=True, materialize_grads=True,
        )  # fmt: skip
        return torch.autograd.grad(
            outputs, params, metric(pushed),
            retain_graph=True, allow_unused=True, materialize_grads=True,
        )  # fmt: skip

    return product


def trust_region_step(
    gradient: Tensor,
    product: MatrixVectorProduct,
    *,
    max_kl_nats: float,
    cg_iterations: int,
    cg_damping: float,
) -> tuple[Tensor, Tensor]:
    """The longest natural-gradient descent step within the bound of a quadratic KL model.

        s = −β x,   (F + λI) x = g,   β = √(2δ / xᵀ(F + λI)x)

    Args:
        gradient: g of the loss to decrease, shape [P].
        product: v ↦ F v.
        max_kl_nats: δ, above 0.
        cg_iterations: conjugate-gradient iterations.
        cg_damping: λ, 0 or more.

    Returns:
        The step s, shape [P], and the decrease gᵀs that a linear model expects, a scalar.
        Both are zero if the gradient is.

    Source: Schulman et al. 2015 (arXiv:1502.05477), app. C.
    """

    def damped(vector: Tensor) -> Tensor:
        return product(vector) + cg_damping * vector

    direction = conjugate_gradient(damped, gradient, num_iterations=cg_iterations)
    curvature = direction @ damped(direction)
    if curvature <= 0:
        return torch.zeros_like(gradient), torch.zeros_like(curvature)
    step = -torch.sqrt(2 * max_kl_nats / curvature) * direction
    return step, gradient @ step


@dataclass(frozen=True)
class LineSearchResult:
    """Result of a line search; `params` is the tensor passed in if nothing was accepted."""

    params: Tensor  # [P]
    accepted: bool
    num_evaluations: int
    loss: float  # at `params`
    kl_nats: float  # at `params`, 0 if nothing was accepted


def backtracking_line_search(
    evaluate: Callable[[Tensor], tuple[Tensor, Tensor]],
    params: Tensor,
    step: Tensor,
    *,
    initial_loss: Tensor,
    max_kl_nats: float,
    max_steps: int,
    backtrack_ratio: float,
) -> LineSearchResult:
    """Shorten a step until the loss decreases and the KL divergence is within its bound.

    Tries params + ratio^k · step for k = 0 … max_steps − 1 and accepts the first whose loss is
    below `initial_loss` and whose divergence is at most `max_kl_nats`. A value that is not finite
    is not an improvement.

    Args:
        evaluate: parameters [P] ↦ (loss, KL divergence from the old policy), scalars.
        params: start of the step, shape [P]; not modified.
        step: the full step, shape [P].
        initial_loss: the loss at `params`.
        max_kl_nats: bound on the divergence.
        max_steps: number of attempts.
        backtrack_ratio: factor between attempts, in (0, 1).

    Returns:
        The accepted parameters, or exactly `params` if no attempt was accepted.

    Raises:
        ValueError: if `backtrack_ratio` lies outside (0, 1) or shapes differ.

    Source: Schulman et al. 2015 (arXiv:1502.05477), app. C.
    """
    if not 0 < backtrack_ratio < 1:
        raise ValueError(
            f"backtrack_ratio must be between 0 and 1, exclusive, got {backtrack_ratio}"
        )
    if params.shape != step.shape:
        raise ValueError(
            f"step must have the shape of params {tuple(params.shape)}, got {tuple(step.shape)}"
        )
    start = float(initial_loss)
    for k in range(max_steps):
        candidate = params + backtrack_ratio**k * step
        loss, kl = (float(value) for value in evaluate(candidate))
        if math.isfinite(loss) and math.isfinite(kl) and loss < start and kl <= max_kl_nats:
            return LineSearchResult(candidate, True, k + 1, loss, kl)
    return LineSearchResult(params, False, max_steps, start, 0.0)
