"""The training environments: created once, reused for new tasks, created again after an error."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from metarl.envs.navigation.goals import Navigation2D
from metarl.envs.simulators.tensor import TensorBatch
from metarl.tasks.reused_batch import TrainingBatch


class Counted(Navigation2D):
    """Records its batches, and which of them were closed."""

    def __init__(self) -> None:
        super().__init__("maml17")
        self.made: list[TensorBatch] = []
        self.closed: list[TensorBatch] = []

    def make_batch(self, tasks, *, num_envs, device="cpu"):
        batch = super().make_batch(tasks, num_envs=num_envs, device=device)
        batch.close = lambda: self.closed.append(batch)
        self.made.append(batch)
        return batch


@pytest.fixture
def family() -> Counted:
    return Counted()


@pytest.fixture
def training(family: Counted) -> TrainingBatch:
    return TrainingBatch(family, device=torch.device("cpu"))


def goal_of(env: TensorBatch) -> list[float]:
    """The oracle's first step from the start, times ten."""
    env.reset(torch.Generator().manual_seed(0))
    return [round(10 * float(x)) for x in env.oracle_actions()[0, 0]]


def test_nothing_is_created_before_it_is_needed(family, training):
    training.close()
    assert family.made == family.closed == []


def test_one_batch_serves_all_tasks(family, training):
    for goal in ([[0.1, 0.0]], [[0.0, -0.1]]):
        with training.with_tasks(np.array(goal), num_envs=3) as env:
            assert (env.num_tasks, env.num_envs) == (1, 3)
            assert goal_of(env) == [round(10 * x) for x in goal[0]]
    assert len(family.made) == 1
    assert family.closed == []


def test_an_error_closes_the_batch_and_the_next_use_creates_another(family, training):
    tasks = np.array([[0.1, 0.0]])
    with pytest.raises(KeyboardInterrupt), training.with_tasks(tasks, num_envs=3):
        raise KeyboardInterrupt
    assert family.closed == family.made
    with training.with_tasks(tasks, num_envs=3) as env:
        assert env is family.made[1]
    assert len(family.closed) == 1


def test_invalid_tasks_close_it(family, training):
    with training.with_tasks(np.array([[0.1, 0.0]]), num_envs=3):
        pass
    with (
        pytest.raises(ValueError, match="tasks must"),
        training.with_tasks(np.zeros((1, 3)), num_envs=3),
    ):
        raise AssertionError("no environments to step")
    assert family.closed == family.made


@pytest.mark.parametrize(("num_tasks", "num_envs"), [(2, 3), (1, 4)])
def test_another_size_closes_the_batch_and_opens_one_of_that_size(
    family, training, num_tasks, num_envs
):
    with training.with_tasks(np.zeros((1, 2)), num_envs=3):
        pass
    with training.with_tasks(np.zeros((num_tasks, 2)), num_envs=num_envs) as env:
        assert (env.num_tasks, env.num_envs) == (num_tasks, num_envs)
    assert family.closed == family.made[:1]


def test_the_time_in_the_environments_is_measured(training):
    assert training.seconds == 0
    with training.with_tasks(np.zeros((1, 2)), num_envs=3):
        time.sleep(0.02)
    assert 0.02 <= training.seconds < 2


def test_closing_frees_it_once(family, training):
    with training.with_tasks(np.zeros((1, 2)), num_envs=3):
        pass
    training.close()
    training.close()
    assert family.closed == family.made
    assert len(family.closed) == 1
