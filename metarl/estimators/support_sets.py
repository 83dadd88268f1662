"""Support sets of B episodes as counts over all possible episodes: all of them, or a sample."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["SupportSets", "all_support_sets", "sampled_support_sets"]


class SupportSets(NamedTuple):
    """M support sets over K possible episodes."""

    counts: Tensor
    """How often each episode occurs; every row adds up to B. Shape [M, K], float64."""
    weights: Tensor
    """Probability of each set; 1 / M if they are sampled. Shape [M]."""

    @property
    def size(self) -> float:
        """B, the number of episodes of a set."""
        return float(self.counts[0].sum())

    def mean_of(self, values: Tensor) -> Tensor:
        """Mean over the episodes of each set, of values [K, ...]. Shape [M, ...]."""
        mean: Tensor = torch.tensordot(self.counts / self.size, values, 1)
        return mean

    def expectation(self, values: Tensor) -> Tensor:
        """Expectation over sets, of values [M, ...]. Shape [...]."""
        expected: Tensor = torch.tensordot(self.weights, values, 1)
        return expected


def all_support_sets(probabilities: Tensor, size: int) -> SupportSets:
    """All multisets of B episodes with their multinomial probabilities.

    Args:
        probabilities: of the K episodes, [K].
        size: B. There are (K + B − 1)! / (B! (K − 1)!) sets, so only 1 or 2 are practical.
    """
    chosen = torch.tensor(
        list(itertools.combinations_with_replacement(range(len(probabilities)), size))
    )
    counts = torch.zeros(len(chosen), len(probabilities), dtype=probabilities.dtype)
    counts.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=counts.dtype))
    orders = math.lgamma(size + 1) - torch.lgamma(counts + 1).sum(-1)
    return SupportSets(counts, torch.exp(orders) * probabilities[chosen].prod(-1))


def sampled_support_sets(
    probabilities: Tensor, size: int, num_sets: int, generator: torch.Generator
) -> SupportSets:
    """Independent support sets of B episodes; arguments as for `all_support_sets`."""
    chosen = torch.multinomial(
        probabilities, num_sets * size, replacement=True, generator=generator
    ).view(num_sets, size)
    counts = torch.zeros(num_sets, len(probabilities), dtype=probabilities.dtype)
    counts.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=counts.dtype))
    return SupportSets(counts, torch.full((num_sets,), 1 / num_sets, dtype=counts.dtype))
