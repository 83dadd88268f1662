"""The comparison of all estimators over many random MDPs, as medians."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from metarl.estimators.catalog import ESTIMATORS, EstimatorName
from metarl.estimators.episode_tables import EpisodeTable, episode_derivatives
from metarl.estimators.laboratory import Credit, InnerStep, Laboratory, Measurement
from metarl.estimators.support_sets import SupportSets, all_support_sets, sampled_support_sets
from metarl.estimators.tabular import SmallMDP, random_mdp, return_gradient, return_hessian

__all__ = [
    "DerivativeErrors",
    "Problem",
    "Row",
    "compare",
    "derivative_errors",
    "inner_step_of",
    "median_derivative_errors",
    "random_problems",
]

_LARGEST_ENUMERATED_SET = 2


@dataclass(frozen=True)
class Problem:
    """An MDP and a softmax policy."""

    mdp: SmallMDP
    logits: Tensor
    """θ, shape [S, A]."""


@dataclass(frozen=True)
class Row:
    """One line of the comparison."""

    estimator: EstimatorName | None
    """None: the exact Hessian with the sampled inner step."""
    has_baseline: bool = True
    """The inner advantages have the exact values of the policy as baseline."""
    credit: Credit | None = None
    """The credit for sampling that is added."""


@dataclass(frozen=True)
class DerivativeErrors:
    """Errors of the derivatives of a surrogate, for data of a given policy."""

    gradient_bias: float
    """‖E[gradient] − ∇V‖ / ‖∇V‖."""
    hessian_bias: float
    """‖E[Hessian] − ∇²V‖ / ‖∇²V‖, Frobenius norms."""
    hessian_std: float
    """Standard deviation of the Hessian from one episode, relative to ‖∇²V‖."""


def random_problems(num_problems: int, generator: torch.Generator) -> list[Problem]:
    """Random MDPs of three states, two actions and three steps, and policies θ ~ N(0, 1)."""
    return [
        Problem(random_mdp(generator), torch.randn(3, 2, generator=generator, dtype=torch.float64))
        for _ in range(num_problems)
    ]


def inner_step_of(laboratory: Laboratory, row: Row) -> InnerStep:
    """Derivatives of the inner objective of a row on every episode."""
    if row.estimator is None:
        step = laboratory.inner_step(ESTIMATORS["log_prob"].surrogate, baseline=row.has_baseline)
        return InnerStep(step.gradients, laboratory.hessian.expand_as(step.hessians))
    estimator = ESTIMATORS[row.estimator]
    step = laboratory.inner_step(estimator.surrogate, baseline=row.has_baseline)
    if estimator.is_first_order:
        return InnerStep(step.gradients, torch.zeros_like(step.hessians))
    return step


def compare(
    rows: Sequence[Row],
    problems: Sequence[Problem],
    *,
    inner_lr: float,
    num_episodes: int,
    num_sets: int,
    generator: torch.Generator,
) -> list[Measurement]:
    """Medians over problems of every row's errors.

    Args:
        rows: the estimators to compare.
        problems: MDPs and policies.
        inner_lr: α.
        num_episodes: B, episodes of a support set. Up to 2, all support sets are enumerated.
        num_sets: support sets to sample for larger B.
        generator: for the support sets.
    """
    found = []
    for problem in problems:
        laboratory = Laboratory(problem.mdp, problem.logits, inner_lr=inner_lr)
        sets = _support_sets(laboratory.probabilities, num_episodes, num_sets, generator)
        sampled = {
            has_baseline: laboratory.sampled_step_gradient(
                inner_step_of(laboratory, Row("log_prob", has_baseline)), sets
            )
            for has_baseline in {row.has_baseline for row in rows}
        }
        found.append(
            [
                laboratory.measure(
                    inner_step_of(laboratory, row), sets, sampled[row.has_baseline], row.credit
                )
                for row in rows
            ]
        )
    return [_medians(of_row) for of_row in zip(*found, strict=True)]


def derivative_errors(
    name: EstimatorName, problem: Problem, acting: Tensor, *, has_baseline: bool = True
) -> DerivativeErrors:
    """Errors of an estimator's gradient and Hessian at θ, if another policy acted.

    Args:
        name: the estimator.
        problem: the MDP and θ.
        acting: logits of the policy that acted, [S, A]; its values are the baseline.
        has_baseline: use that baseline.
    """
    table = EpisodeTable.of(problem.mdp)
    steps = table.steps(problem.mdp, acting, baseline=has_baseline)
    probabilities = table.probabilities(acting)
    gradients, hessians = episode_derivatives(
        ESTIMATORS[name].surrogate, table, steps, problem.logits
    )
    gradient = return_gradient(problem.mdp, problem.logits).flatten()
    hessian = return_hessian(problem.mdp, problem.logits)
    mean = torch.tensordot(probabilities, hessians, 1)
    spread = (probabilities @ (hessians - mean).square().sum((-2, -1))).sqrt()
    return DerivativeErrors(
        float((probabilities @ gradients - gradient).norm() / gradient.norm()),
        float((mean - hessian).norm() / hessian.norm()),
        float(spread / hessian.norm()),
    )


def median_derivative_errors(
    name: EstimatorName,
    problems: Sequence[Problem],
    noises: Sequence[Tensor],
    *,
    has_baseline: bool = True,
) -> DerivativeErrors:
    """Medians over problems of `derivative_errors`; the policy θ + noise acted."""
    found = [
        derivative_errors(name, problem, problem.logits + noise, has_baseline=has_baseline)
        for problem, noise in zip(problems, noises, strict=True)
    ]
    return DerivativeErrors(*map(statistics.median, zip(*map(astuple, found), strict=True)))


def _medians(measurements: Sequence[Measurement]) -> Measurement:
    return Measurement(*map(statistics.median, zip(*map(astuple, measurements), strict=True)))


def _support_sets(
    probabilities: Tensor, size: int, num_sets: int, generator: torch.Generator
) -> SupportSets:
    if size <= _LARGEST_ENUMERATED_SET:
        return all_support_sets(probabilities, size)
    return sampled_support_sets(probabilities, size, num_sets, generator)
