"""Batch norm over tasks, against torch's and its own on one task."""

from __future__ import annotations

import torch
from fewshot_episodes import normal
from torch import Tensor
from torch.nn import functional

from metarl.nn.batch_norm import Moments, batch_moments, normalize


def first(maps: Tensor) -> Tensor:
    """[tasks, points, H, W, C] of the first task as torch lays them, [points, C, H, W]."""
    return maps[0].movedim(-1, 1)


def test_batch_norm_is_torchs():
    maps, scale, offset = normal(1, 6, 4, 5, 3), normal(3, seed=1), normal(3, seed=2)
    expected = functional.batch_norm(first(maps), None, None, scale, offset, training=True)
    found = normalize(maps, batch_moments(maps), scale, offset)
    torch.testing.assert_close(first(found), expected)
    frozen = functional.batch_norm(first(maps), scale, offset.exp(), scale, offset)
    found = normalize(maps, Moments(scale, offset.exp()), scale, offset)
    torch.testing.assert_close(first(found), frozen)


def test_each_task_is_normalized_by_itself_with_its_own_scale_and_offset():
    maps, scale, offset = normal(2, 6, 4, 5, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
    found = normalize(maps, batch_moments(maps), scale, offset)
    for k in range(2):
        alone = maps[k : k + 1]
        expected = normalize(alone, batch_moments(alone), scale[k], offset[k])
        torch.testing.assert_close(found[k : k + 1], expected)


def test_moments_of_the_points_that_count_are_those_of_the_points_alone():
    maps = normal(2, 6, 4, 5, 3)
    counts = torch.tensor([[True, False, True, True, False, True], [False, True] + 4 * [False]])
    for k in range(2):
        alone = batch_moments(maps[k : k + 1, counts[k]])
        for found, expected in zip(batch_moments(maps, counts), alone, strict=True):
            torch.testing.assert_close(found[k], expected[0])


def test_second_derivatives_of_batch_norm_are_those_of_torchs():
    maps = normal(2, 4, 3, 3, 2).requires_grad_()
    one = torch.ones(2, dtype=torch.float64)

    def theirs(points: Tensor) -> Tensor:
        out = functional.batch_norm(points, None, None, one, one, training=True)
        return out.square().tanh().sum()

    total = normalize(maps, batch_moments(maps), one, one).square().tanh().sum()
    (slopes,) = torch.autograd.grad(total, maps, create_graph=True)
    (found,) = torch.autograd.grad(slopes.square().sum(), maps)
    for k in range(2):
        points = maps[k].movedim(-1, 1).detach().requires_grad_()
        (slope,) = torch.autograd.grad(theirs(points), points, create_graph=True)
        (expected,) = torch.autograd.grad(slope.square().sum(), points)
        torch.testing.assert_close(found[k], expected.movedim(1, -1))
