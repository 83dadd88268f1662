"""Choosing by scores: ties at random, and exploration with its probability."""

import torch

from metarl.planning.selection import explore, random_argmax


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_highest_score_is_chosen():
    scores = torch.tensor([[1.0, -2.0, 3.0], [-5.0, -4.0, -6.0]])
    assert random_argmax(scores, generator()).tolist() == [2, 1]


def test_equal_scores_are_chosen_equally_often():
    scores = torch.tensor([2.0, 7.0, 7.0, 7.0]).expand(30_000, 4)
    counts = random_argmax(scores, generator()).bincount(minlength=4)
    assert counts[0] == 0
    assert (counts[1:] - 10_000).abs().max() < 400  # 5 standard deviations


def test_infinite_scores_can_be_highest_or_lowest():
    scores = torch.tensor([[torch.inf, 1.0], [-torch.inf, -torch.inf]])
    chosen = random_argmax(scores, generator())
    assert chosen[0] == 0
    assert chosen[1] in (0, 1)


def test_exploration_replaces_a_fraction_epsilon():
    choices = torch.full((40_000,), 2)
    explored = explore(choices, 4, 0.2, generator())
    # one in four of the replaced keep their choice
    assert abs(float((explored != 2).float().mean()) - 0.15) < 0.01
    assert explored.unique().tolist() == [0, 1, 2, 3]


def test_without_exploration_no_random_number_is_used():
    rng = generator()
    before = rng.get_state()
    choices = torch.tensor([3, 1])
    assert explore(choices, 4, 0.0, rng) is choices
    assert torch.equal(before, rng.get_state())
