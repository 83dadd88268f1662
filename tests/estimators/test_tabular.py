"""Exact values, gradients and Hessians against enumeration and finite differences."""

from __future__ import annotations

import torch
from small_mdps import discounted_problem

from metarl.estimators.episode_tables import EpisodeTable
from metarl.estimators.tabular import (
    expected_return,
    random_mdp,
    return_gradient,
    return_hessian,
    state_values,
)


def test_the_expected_return_is_the_mean_over_all_episodes():
    problem = discounted_problem()
    table = EpisodeTable.of(problem.mdp)
    probabilities = table.probabilities(problem.logits)
    returns = table.steps(problem.mdp, problem.logits).rewards.sum(-1)
    assert len(probabilities) == 3**3 * 2**3
    torch.testing.assert_close(probabilities.sum(), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(
        probabilities @ returns, expected_return(problem.mdp, problem.logits)
    )


def test_values_are_the_mean_of_the_rewards_to_go():
    problem = discounted_problem()
    table = EpisodeTable.of(problem.mdp)
    steps = table.steps(problem.mdp, problem.logits, baseline=False)
    probabilities, values = table.probabilities(problem.logits), state_values(*_parts(problem))
    for time in range(3):
        for state in range(3):
            here = probabilities * (table.states[:, time] == state)
            mean = (here @ steps.advantages[:, time]) / here.sum()
            torch.testing.assert_close(mean, 0.9**time * values[time, state])


def test_an_episode_that_cannot_occur_is_not_enumerated():
    mdp = random_mdp(torch.Generator().manual_seed(0))
    assert len(EpisodeTable.of(mdp).states) == 72  # starts in state 0: 3² · 2³


def test_derivatives_equal_finite_differences():
    problem, step = discounted_problem(), 1e-5
    gradient, hessian = return_gradient(*_parts(problem)), return_hessian(*_parts(problem))
    for index in range(6):
        change = torch.zeros(6, dtype=torch.float64)
        change[index] = step
        up, down = (problem.logits + sign * change.view(3, 2) for sign in (1, -1))
        slope = (expected_return(problem.mdp, up) - expected_return(problem.mdp, down)) / 2 / step
        curve = (return_gradient(problem.mdp, up) - return_gradient(problem.mdp, down)) / 2 / step
        torch.testing.assert_close(gradient.flatten()[index], slope, rtol=1e-7, atol=1e-8)
        torch.testing.assert_close(hessian[index], curve.flatten(), rtol=1e-7, atol=1e-8)


def test_policies_are_evaluated_in_batches():
    problem = discounted_problem()
    both = torch.stack([problem.logits, 2 * problem.logits])
    gradients = return_gradient(problem.mdp, both)
    torch.testing.assert_close(gradients[1], return_gradient(problem.mdp, 2 * problem.logits))
    assert not torch.allclose(gradients[0], gradients[1])


def _parts(problem):
    return problem.mdp, problem.logits
