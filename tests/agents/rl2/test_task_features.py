"""Encoded tasks: their units, and mean 0 and deviation 1 over training tasks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl.agents.rl2.task_features import TaskEncoder, encode_tasks, task_size
from metarl.envs.bandits import Bandit
from metarl.envs.navigation.grids import DarkRoom
from metarl.envs.tabular_mdp import TabularMDP

CPU = torch.device("cpu")
BOX = spaces.Box(np.array([-2.0, 0.0, 3.0]), np.array([2.0, 10.0, 3.0]), dtype=np.float64)


@pytest.mark.parametrize(
    ("space", "tasks", "numbers"),
    [
        (BOX, [[-2, 10, 3], [1, 2.5, 3]], [[-1, 1, 0], [0.5, -0.5, 0]]),
        (spaces.Discrete(3), [[2], [0]], [[0, 0, 1], [1, 0, 0]]),
        (spaces.MultiDiscrete([2, 3]), [[1, 0], [0, 2]], [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]),
        (spaces.Discrete(3, start=4), [[6], [4]], [[0, 0, 1], [1, 0, 0]]),
        (spaces.MultiDiscrete([2, 2], start=[1, 5]), [[1, 6]], [[1, 0, 0, 1]]),
    ],
    ids=["box", "discrete", "multi-discrete", "discrete from 4", "multi-discrete from 1 and 5"],
)
def test_tasks_are_encoded_as_numbers_of_magnitude_one(space, tasks, numbers):
    got = encode_tasks(space, np.array(tasks, dtype=np.float64))
    assert got.dtype == torch.float32
    assert got.tolist() == numbers
    assert task_size(space) == len(numbers[0])


@pytest.mark.parametrize("family", [TabularMDP("rl2"), Bandit("n10-k5")], ids=lambda f: f.id)
def test_tasks_have_mean_0_and_deviation_1(family):
    rows = TaskEncoder(family, seed=0, device=CPU)(family.sample_tasks(20_000, seed=1))
    assert rows.shape[1] == task_size(family.task_space)
    assert rows.mean(0).abs().max() < 0.15  # 5 standard errors of 1,000 tasks
    assert (rows.std(0) - 1).abs().max() < 0.3


def test_the_sample_depends_on_the_seed_alone():
    family = Bandit("n10-k5")
    tasks = family.sample_tasks(3, seed=5)
    first, again, other = (TaskEncoder(family, seed=s, device=CPU)(tasks) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_unseen_tasks_have_encodings_of_the_same_magnitude():
    family = DarkRoom("dpt")
    rows = TaskEncoder(family, seed=0, device=CPU)(family.sample_tasks(50, split="test", seed=1))
    assert rows.abs().max() <= 10


def test_tasks_without_bounds_are_rejected(monkeypatch):
    family = Bandit("n10-k5")
    monkeypatch.setattr(family, "task_space", spaces.Box(-np.inf, np.inf, (5,), np.float64))
    with pytest.raises(
        ValueError, match="privileged_critic must be False with Bandit:n10-k5, whose"
    ):
        TaskEncoder(family, seed=0, device=CPU)
