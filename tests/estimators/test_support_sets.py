"""Support sets as counts: probabilities, means, and samples against the enumeration."""

from __future__ import annotations

import torch

from metarl.estimators.support_sets import all_support_sets, sampled_support_sets

PROBABILITIES = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
VALUES = torch.tensor([1.0, -2.0, 5.0], dtype=torch.float64)


def test_all_pairs_have_their_multinomial_probabilities():
    sets = all_support_sets(PROBABILITIES, 2)
    found = {tuple(c): w for c, w in zip(sets.counts.tolist(), sets.weights.tolist(), strict=True)}
    assert len(found) == 6
    assert abs(found[2, 0, 0] - 0.25) < 1e-12
    assert abs(found[1, 1, 0] - 0.3) < 1e-12
    assert sets.size == 2


def test_the_variance_of_a_mean_falls_with_the_size():
    mean = float(PROBABILITIES @ VALUES)
    variance = float(PROBABILITIES @ (VALUES - mean).square())
    for size in (1, 2, 3):
        sets = all_support_sets(PROBABILITIES, size)
        means = sets.mean_of(VALUES)
        assert abs(float(sets.expectation(means)) - mean) < 1e-12
        assert abs(float(sets.expectation((means - mean).square())) - variance / size) < 1e-12


def test_samples_approach_the_enumeration():
    generator = torch.Generator().manual_seed(0)
    sets = sampled_support_sets(PROBABILITIES, 20, 4000, generator)
    assert sets.counts.sum(-1).unique().tolist() == [20]
    shares = sets.expectation(sets.counts) / 20
    torch.testing.assert_close(shares, PROBABILITIES, rtol=0, atol=0.006)  # 4 standard errors
