"""Exact expectations of every surrogate's derivatives, and planted sign errors.

All expectations are sums over the episodes of a small MDP in float64.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from functools import partial

import pytest
import torch
from small_mdps import acting_logits, discounted_problem
from torch import Tensor

from metarl.estimators import surrogates
from metarl.estimators.episode_tables import EpisodeTable, episode_derivatives
from metarl.estimators.prefix_sums import prefix_sums
from metarl.estimators.surrogates import (
    dice,
    dr,
    loaded_dice,
    log_prob,
    lvc,
    taypo2,
    tmaml,
    tmaml_fixed,
)
from metarl.estimators.tabular import return_gradient, return_hessian

PROBLEM = discounted_problem()
ACTING = acting_logits(PROBLEM)
TABLE = EpisodeTable.of(PROBLEM.mdp)
GRADIENT = return_gradient(PROBLEM.mdp, PROBLEM.logits).flatten()
HESSIAN = return_hessian(PROBLEM.mdp, PROBLEM.logits)
ALL = (log_prob, lvc, dice, loaded_dice, taypo2, dr, tmaml, tmaml_fixed)
close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)


def mean_derivatives(
    surrogate: Callable[..., Tensor], *, acting: Tensor | None = None, baseline: bool = True
) -> tuple[Tensor, Tensor]:
    """Expected gradient [P] and Hessian [P, P] at θ."""
    acting = PROBLEM.logits if acting is None else acting
    steps = TABLE.steps(PROBLEM.mdp, acting, baseline=baseline)
    gradients, hessians = episode_derivatives(surrogate, TABLE, steps, PROBLEM.logits)
    probabilities = TABLE.probabilities(acting)
    return probabilities @ gradients, torch.tensordot(probabilities, hessians, 1)


def derivatives(surrogate: Callable[..., Tensor], acting: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient [K, P] and Hessian [K, P, P] of every episode at θ."""
    steps = TABLE.steps(PROBLEM.mdp, acting)
    return episode_derivatives(surrogate, TABLE, steps, PROBLEM.logits)


def score_products() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of all steps: p, ∇ℓ, ∇²ℓ and the data; by one backward pass per step."""
    steps = TABLE.steps(PROBLEM.mdp, PROBLEM.logits)
    flat = PROBLEM.logits.flatten()

    def log_probs(parameters: Tensor) -> Tensor:
        return TABLE.log_probs(parameters.view(3, 2))

    scores = torch.func.jacrev(log_probs)
    return (
        TABLE.probabilities(PROBLEM.logits),
        scores(flat),
        torch.func.jacrev(scores)(flat),
        steps,
    )


def check_derivatives(name: str, surrogate: Callable[..., Tensor]) -> None:
    """Compare the expected derivatives of a surrogate with the ones that it must have."""
    gradient, hessian = mean_derivatives(surrogate)
    close(gradient, GRADIENT)
    probabilities, scores, curvatures, steps = score_products()
    values = {"log_prob": steps.log_probs * steps.advantages, "lvc": steps.advantages}
    other = steps.rewards if name in ("dice", "tmaml", "tmaml_fixed") else 0 * steps.rewards
    close(surrogate(steps.log_probs, steps), values.get(name, other))
    squares = torch.einsum("khp,khq->khpq", scores, scores)
    if name == "log_prob":  # Σ ∇²ℓ A, for advantages without a baseline, which do not average out
        _, hessian = mean_derivatives(surrogate, baseline=False)
        returns = steps.advantages + steps.values
        close(hessian, torch.einsum("k,kh,khpq->pq", probabilities, returns, curvatures))
    elif name == "lvc":
        products = squares + curvatures
        close(hessian, torch.einsum("k,kh,khpq->pq", probabilities, steps.advantages, products))
    elif name == "tmaml":
        excess = torch.einsum("k,kh,khpq->pq", probabilities, steps.values, squares)
        close(hessian, HESSIAN - 2 * excess)
    else:
        close(hessian, HESSIAN)
        close(mean_derivatives(surrogate, baseline=False)[1], HESSIAN)
    if name.startswith("tmaml"):  # the signs of control variates show in single episodes only
        gradients, hessians = derivatives(surrogate, PROBLEM.logits)
        excess = torch.einsum("kh,khpq->kpq", steps.values, squares)
        expected = derivatives(dr, PROBLEM.logits)
        close(gradients, expected[0])
        close(hessians, expected[1] - (2 * excess if name == "tmaml" else 0))
    if name in ("dr", "tmaml_fixed"):
        gradient, hessian = mean_derivatives(surrogate, acting=ACTING)
        close(gradient, GRADIENT)
        close(hessian, HESSIAN)


@pytest.mark.parametrize("surrogate", ALL, ids=lambda f: f.__name__)
def test_derivatives_have_the_expected_mean(surrogate):
    check_derivatives(surrogate.__name__, surrogate)


@pytest.mark.parametrize("surrogate", ALL, ids=lambda f: f.__name__)
def test_an_estimator_is_unbiased_only_if_its_docstring_says_so(surrogate):
    _, hessian = mean_derivatives(surrogate)
    is_unbiased = bool((hessian - HESSIAN).norm() < 1e-6 * HESSIAN.norm())
    assert is_unbiased == bool(re.search(r"\bUnbiased for J_I\b", surrogate.__doc__))
    assert is_unbiased != bool(re.search(r"\bBiased for J_I\b", surrogate.__doc__))


def test_the_curvature_of_log_prob_vanishes_with_the_values_as_baseline():
    close(mean_derivatives(log_prob)[1], torch.zeros_like(HESSIAN))
    assert mean_derivatives(log_prob, baseline=False)[1].norm() > 0.5 * HESSIAN.norm()


@pytest.mark.parametrize(
    ("first", "second", "is_on_policy"),
    [
        (taypo2, loaded_dice, True),
        (dr, loaded_dice, True),
        (tmaml_fixed, loaded_dice, True),
        (partial(loaded_dice, decay=0.0), lvc, True),
        (tmaml_fixed, dr, False),
    ],
    ids=["taypo2", "dr", "tmaml_fixed", "no decay", "tmaml_fixed off-policy"],
)
def test_these_estimators_are_equal_episode_by_episode(first, second, is_on_policy):
    acting = PROBLEM.logits if is_on_policy else ACTING
    for one, other in zip(derivatives(first, acting), derivatives(second, acting), strict=True):
        close(one, other)
        assert one.abs().max() > 0.1


def test_off_policy_errors_are_of_the_stated_order():
    direction = ACTING - PROBLEM.logits

    def errors(surrogate: Callable[..., Tensor], size: float) -> list[float]:
        found = mean_derivatives(surrogate, acting=PROBLEM.logits + size * direction)
        return [float((found[0] - GRADIENT).norm()), float((found[1] - HESSIAN).norm())]

    for order, surrogate in enumerate((lvc, taypo2), 1):
        large, small = errors(surrogate, 0.02), errors(surrogate, 0.01)
        assert large[0] / small[0] == pytest.approx(2**order, rel=0.1)
    large, small = errors(taypo2, 0.02)[1], errors(taypo2, 0.01)[1]
    assert large / small == pytest.approx(2, rel=0.1)


class _OneSignFlipped(ast.NodeTransformer):
    """Exchange + and − in the operation with a given index, or negate the result."""

    def __init__(self, index: int) -> None:
        self.index, self.count = index, 0

    def _is_next(self) -> bool:
        self.count += 1
        return self.count - 1 == self.index

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Add | ast.Sub) and self._is_next():
            node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        if self._is_next():
            node.value = ast.UnaryOp(ast.USub(), node.value)
        return node


def mutants(function: Callable[..., Tensor]) -> list[Callable[..., Tensor]]:
    """The function with each of its signs flipped in turn."""
    found: list[Callable[..., Tensor]] = []
    while True:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        flip = _OneSignFlipped(len(found))
        tree = ast.fix_missing_locations(flip.visit(tree))
        if flip.count <= flip.index:
            return found
        names = {**vars(surrogates)}
        exec(compile(tree, "<mutant>", "exec"), names)
        found.append(names[function.__name__])


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        pytest.param(f.__name__, mutant, id=f"{f.__name__} {index}")
        for f in ALL
        for index, mutant in enumerate(mutants(f))
    ],
)
def test_a_planted_sign_error_is_caught(name, mutant):
    with pytest.raises(AssertionError):
        check_derivatives(name, mutant)


def test_every_estimator_has_several_signs_to_flip():
    assert sum(len(mutants(f)) for f in ALL) > 2 * len(ALL)
    assert all(mutants(f) for f in ALL)


def test_episodes_that_share_a_row_give_the_same_terms_as_separate_ones():
    generator = torch.Generator().manual_seed(3)
    steps = TABLE.steps(PROBLEM.mdp, ACTING)
    chosen = torch.randint(len(TABLE.states), (4, 2), generator=generator)
    log_probs = TABLE.log_probs(PROBLEM.logits)
    for surrogate in ALL:
        alone = surrogate(log_probs[chosen], type(steps)(*(part[chosen] for part in steps)))
        joined = type(steps)(*(part[chosen].flatten(1) for part in steps))
        together = surrogate(log_probs[chosen].flatten(1), joined)
        close(together, alone.flatten(1))


def test_prefix_sums_have_no_sign_error():
    values = torch.tensor([1.0, 2.0, 4.0])
    assert prefix_sums(values, torch.arange(3)).tolist() == [1, 3, 7]
