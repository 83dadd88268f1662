"""Conjugate gradient, Gauss-Newton products and steps against dense linear algebra."""

import math

import pytest
import torch
from torch import Tensor

from metarl.optim.trust_region import (
    backtracking_line_search,
    conjugate_gradient,
    gauss_newton_product,
    trust_region_step,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def positive_definite(size: int, seed: int) -> Tensor:
    root = normal(size, size, seed=seed)
    return root @ root.T + 0.5 * torch.eye(size, dtype=torch.float64)


class Counted:
    """A matrix as a product that counts its calls."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.calls = matrix, 0

    def __call__(self, vector: Tensor) -> Tensor:
        self.calls += 1
        return self.matrix @ vector


# Conjugate gradient.


@pytest.mark.parametrize("seed", range(5))
def test_conjugate_gradient_solves_positive_definite_systems(seed):
    matrix, target = positive_definite(8, seed), normal(8, seed=seed + 100)
    solution = conjugate_gradient(lambda v: matrix @ v, target, num_iterations=40, tolerance=1e-28)
    expected = torch.linalg.solve(matrix, target)
    torch.testing.assert_close(solution, expected, rtol=1e-9, atol=1e-11)


def test_one_iteration_is_a_step_of_steepest_descent():
    matrix, target = torch.diag(torch.tensor([1.0, 4.0])), torch.tensor([2.0, 1.0])
    solution = conjugate_gradient(lambda v: matrix @ v, target, num_iterations=1)
    torch.testing.assert_close(solution, torch.tensor([1.25, 0.625]))  # (b·b / b·Ab) b, 5/8


def test_conjugate_gradient_stops_early_at_its_tolerance():
    target = normal(9)
    spectrum = torch.tensor([1.0] * 3 + [2.0] * 3 + [5.0] * 3, dtype=torch.float64)
    product = Counted(torch.diag(spectrum))
    solution = conjugate_gradient(product, target, num_iterations=100, tolerance=1e-20)
    assert product.calls == 3  # as many as there are different eigenvalues
    torch.testing.assert_close(solution, target / spectrum, rtol=1e-9, atol=0)

    matrix = Counted(positive_definite(30, 0))
    loose = conjugate_gradient(matrix, normal(30), num_iterations=100, tolerance=1e-2)
    residual = normal(30) - matrix.matrix @ loose
    assert matrix.calls < 30
    assert residual @ residual <= 1e-2 * (normal(30) @ normal(30))


def test_a_target_of_zero_gives_zero_without_a_product():
    product = Counted(positive_definite(4, 0))
    solution = conjugate_gradient(product, torch.zeros(4, dtype=torch.float64), num_iterations=10)
    assert torch.equal(solution, torch.zeros(4, dtype=torch.float64))
    assert product.calls == 0


@pytest.mark.parametrize("spectrum", [[-1.0, -2.0, -3.0], [4.0, 1.0, -0.2], [1.0, 0.0, -1.0]])
def test_an_indefinite_matrix_ends_the_search(spectrum):
    product = Counted(torch.diag(torch.tensor(spectrum, dtype=torch.float64)))
    target = torch.ones(3, dtype=torch.float64)
    solution = conjugate_gradient(product, target, num_iterations=1000)
    assert product.calls <= 3
    assert float(solution.norm()) < 10
    assert float(target @ solution) >= 0  # still a direction of descent, or none


def test_systems_in_a_batch_are_solved_as_each_alone():
    """One ends after a product, one is indefinite, one has nothing to solve."""
    matrices = torch.stack(
        [
            torch.eye(6, dtype=torch.float64),
            positive_definite(6, 1),
            torch.diag(torch.tensor([4.0, 2.0, 1.0, 1.0, 1.0, -0.9], dtype=torch.float64)),
            torch.diag(torch.full((6,), -1.0, dtype=torch.float64)),
            positive_definite(6, 2),
        ]
    )
    targets = torch.stack([normal(6, seed=row) for row in range(5)])
    targets[4] = 0
    for count in (1, 3, 10):
        together = conjugate_gradient(
            lambda v: torch.einsum("rij,rj->ri", matrices, v), targets, num_iterations=count
        )
        for row, (matrix, target) in enumerate(zip(matrices, targets, strict=True)):
            alone = conjugate_gradient(matrix.mv, target, num_iterations=count)
            torch.testing.assert_close(together[row], alone, rtol=1e-9, atol=1e-12)
    assert torch.equal(together[3:], torch.zeros(2, 6, dtype=torch.float64))
    torch.testing.assert_close(together[0], targets[0])


def test_a_target_that_is_a_number_is_rejected():
    with pytest.raises(ValueError, match=r"target must be a vector \[P\] or several \[..., P\]"):
        conjugate_gradient(lambda v: v, torch.ones(()), num_iterations=1)


# Gauss-Newton products.


def test_gauss_newton_product_equals_the_dense_matrices():
    inputs, point = normal(4, 2, seed=1), normal(9, seed=2)
    first_metric, second_metric = positive_definite(12, 3), positive_definite(3, 4)

    def outputs(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tanh(inputs @ weight.T + bias), bias.exp()

    def parts(vector: Tensor) -> tuple[Tensor, Tensor]:
        return vector[:6].view(3, 2), vector[6:]

    def metric(tangents: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        one, two = tangents
        return (first_metric @ one.flatten()).view(one.shape), second_metric @ two

    leaves = [part.clone().requires_grad_() for part in parts(point)]
    product = gauss_newton_product(outputs(*leaves), leaves, metric)
    jacobian = torch.autograd.functional.jacobian(
        lambda vector: torch.cat([o.flatten() for o in outputs(*parts(vector))]), point
    )
    dense = jacobian.T @ torch.block_diag(first_metric, second_metric) @ jacobian
    for seed in (5, 6):  # the graph serves any number of products
        vector = normal(9, seed=seed)
        products = torch.cat([p.flatten() for p in product(parts(vector))])
        torch.testing.assert_close(products, dense @ vector, rtol=1e-10, atol=1e-12)


def test_gauss_newton_product_is_zero_for_a_parameter_without_influence():
    used, idle = normal(3).requires_grad_(), normal(2).requires_grad_()
    product = gauss_newton_product([2 * used], [used, idle], lambda tangents: tangents)
    on_used, on_idle = product([normal(3, seed=1), normal(2, seed=2)])
    torch.testing.assert_close(on_used, 4 * normal(3, seed=1))
    assert torch.equal(on_idle, torch.zeros_like(idle))


# The step.


def test_the_step_solves_the_damped_system_and_meets_the_bound_exactly():
    fisher, gradient = positive_definite(6, 0), normal(6, seed=1)
    damped = fisher + 0.3 * torch.eye(6, dtype=torch.float64)
    step, decrease = trust_region_step(
        gradient, lambda v: fisher @ v, max_kl_nats=0.02, cg_iterations=30, cg_damping=0.3
    )
    direction = -torch.linalg.solve(damped, gradient)
    torch.testing.assert_close(
        step / step.norm(), direction / direction.norm(), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(
        0.5 * step @ damped @ step, torch.tensor(0.02, dtype=torch.float64), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(decrease, gradient @ step)
    assert decrease < 0


def test_the_bound_holds_however_few_the_iterations():
    fisher, gradient = positive_definite(20, 2), normal(20, seed=3)
    step, _ = trust_region_step(
        gradient, lambda v: fisher @ v, max_kl_nats=0.01, cg_iterations=2, cg_damping=0.0
    )
    torch.testing.assert_close(
        0.5 * step @ fisher @ step, torch.tensor(0.01, dtype=torch.float64), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("size", [0.0, -1.0])
def test_no_gradient_or_no_curvature_gives_no_step(size):
    gradient = torch.zeros(3) if size == 0 else torch.ones(3)
    step, decrease = trust_region_step(
        gradient, lambda v: size * v, max_kl_nats=0.01, cg_iterations=10, cg_damping=0.1
    )
    assert torch.equal(step, torch.zeros(3))
    assert decrease.shape == ()
    assert float(decrease) == 0


# The line search.


PARAMS, STEP = torch.tensor([1.0, -2.0, 0.1]), torch.tensor([0.8, 0.4, -0.3])


class Script:
    """An evaluation that returns values from a list and records its arguments."""

    def __init__(self, *answers: tuple[float, float]) -> None:
        self.answers, self.requested = list(answers), list[Tensor]()

    def __call__(self, params: Tensor) -> tuple[Tensor, Tensor]:
        self.requested.append(params)
        loss, kl = self.answers[len(self.requested) - 1]
        return torch.tensor(loss), torch.tensor(kl)


def search(evaluate: Script, *, max_steps: int = 4, ratio: float = 0.5) -> object:
    return backtracking_line_search(
        evaluate,
        PARAMS,
        STEP,
        initial_loss=torch.tensor(1.0),
        max_kl_nats=0.25,
        max_steps=max_steps,
        backtrack_ratio=ratio,
    )


def test_the_first_good_step_is_taken():
    script = Script((1.5, 0.0), (0.75, 0.5), (0.5, 0.25), (0.0, 0.0))
    result = search(script)
    assert torch.equal(result.params, PARAMS + 0.25 * STEP)
    assert (result.accepted, result.num_evaluations) == (True, 3)
    assert (result.loss, result.kl_nats) == (0.5, 0.25)
    for requested, share in zip(script.requested, (1, 0.5, 0.25), strict=True):
        assert torch.equal(requested, PARAMS + share * STEP)


def test_a_good_full_step_takes_one_evaluation():
    result = search(Script((0.5, 0.1)), ratio=0.8)
    assert result.num_evaluations == 1
    assert torch.equal(result.params, PARAMS + STEP)


@pytest.mark.parametrize(
    ("loss", "kl"),
    [
        (1.0, 0.0),  # as good as before is not better
        (2.0, 0.0),
        (0.5, 0.26),
        (math.nan, 0.0),
        (0.5, math.nan),
        (math.inf, 0.0),
        (0.5, math.inf),
        (-math.inf, 0.0),
        (0.5, -math.inf),
        (math.nan, math.nan),
    ],
)
def test_a_search_without_a_good_step_restores_the_parameters_exactly(loss, kl):
    before = PARAMS.clone()
    script = Script(*[(loss, kl)] * 4)
    result = search(script)
    assert result.params is PARAMS
    assert torch.equal(PARAMS, before)
    assert (result.accepted, result.num_evaluations) == (False, 4)
    assert (result.loss, result.kl_nats) == (1.0, 0.0)
    assert len(script.requested) == 4


def test_no_tries_leave_the_parameters():
    result = search(Script(), max_steps=0)
    assert result.params is PARAMS
    assert (result.accepted, result.num_evaluations) == (False, 0)


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, 1.5, math.nan])
def test_a_ratio_out_of_range_is_rejected(ratio):
    with pytest.raises(ValueError, match="backtrack_ratio must be between 0 and 1, exclusive, got"):
        search(Script((0.0, 0.0)), ratio=ratio)


def test_a_step_of_another_shape_is_rejected():
    with pytest.raises(ValueError, match=r"step must have the shape of params \(3,\), got \(2,\)"):
        backtracking_line_search(
            Script((0.0, 0.0)),
            PARAMS,
            STEP[:2],
            initial_loss=torch.tensor(1.0),
            max_kl_nats=0.1,
            max_steps=1,
            backtrack_ratio=0.5,
        )
