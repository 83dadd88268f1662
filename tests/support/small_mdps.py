"""A small MDP with a discount, and policies for it, for tests of meta-gradient estimators."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from metarl.estimators.study import Problem
from metarl.estimators.tabular import random_mdp


def discounted_problem(seed: int = 0) -> Problem:
    """Three states, two actions, three steps, γ = 0.9; every start state is possible."""
    generator = torch.Generator().manual_seed(seed)
    mdp = replace(
        random_mdp(generator), gamma=0.9, start=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    )
    return Problem(mdp, torch.randn(3, 2, generator=generator, dtype=torch.float64))


def acting_logits(problem: Problem, seed: int = 1) -> Tensor:
    """A policy that differs from the problem's."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(problem.logits.shape, generator=generator, dtype=torch.float64)
    return problem.logits + 0.5 * noise
