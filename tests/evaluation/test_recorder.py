"""A recorded batch reports states and steps with their indices, and changes nothing."""

from __future__ import annotations

import numpy as np
import torch

from metarl.envs.navigation.goals import Navigation2D, PointRobot
from metarl.evaluation.recorder import RecordedBatch, RecordIndices
from metarl.rollouts.trials import collect_trials

GOALS = np.array([[0.05, 0.0], [0.4, 0.0]])


class Diary:
    """Keeps everything by stage, task, environment and time."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, ...], list[float]] = {}
        self.done: dict[tuple[int, ...], tuple[float, float]] = {}

    def on_states(self, index: RecordIndices, observations: torch.Tensor) -> None:
        for key, value in zip(zip(*index, strict=True), index.select(observations), strict=True):
            assert tuple(map(int, key)) not in self.seen
            self.seen[tuple(map(int, key))] = value.tolist()

    def on_step(self, index: RecordIndices, actions: torch.Tensor, rewards: torch.Tensor) -> None:
        entries = zip(index.select(actions), index.select(rewards), strict=True)
        for key, (action, reward) in zip(zip(*index, strict=True), entries, strict=True):
            self.done[tuple(map(int, key))] = (float(action[0]), float(reward))


class Ahead:
    """Walks to the right, 0.01 a step."""

    def act(self, actor_input):
        return torch.tensor([0.01, 0.0]).expand(*actor_input.observations.shape[:2], 2)


def recorded(stages: dict[int, int], num_envs: int = 1, num_episodes: int = 3):
    """The diary and the trials of two tasks, two environments each; task 0 is over in 5 steps."""
    diary = Diary()
    batch = Navigation2D("maml17").make_batch(GOALS, num_envs=2)
    reporting = RecordedBatch(batch, diary, stages, num_envs=num_envs)
    generator = torch.Generator().manual_seed(0)
    return diary, collect_trials(reporting, Ahead(), generator, num_episodes=num_episodes)


def test_only_the_episodes_and_environments_chosen_are_recorded():
    diary, _ = recorded({1: 0})
    assert {key[:3] for key in diary.seen} == {(0, 0, 0), (0, 1, 0)}
    diary, _ = recorded({0: 0, 2: 1}, num_envs=2)
    assert {key[:3] for key in diary.seen} == {
        (stage, task, env) for stage in (0, 1) for task in (0, 1) for env in (0, 1)
    }


def test_each_environment_counts_its_own_episodes_and_steps():
    diary, _ = recorded({2: 0})
    times = {task: [key[3] for key in diary.seen if key[1] == task] for task in (0, 1)}
    assert times == {0: list(range(6)), 1: list(range(41))}  # 0.05 and 0.4 away
    for (_, _, _, time), place in diary.seen.items():
        assert np.allclose(place, [0.01 * time, 0], atol=1e-6)


def test_actions_and_rewards_have_the_index_of_their_state():
    diary, _ = recorded({0: 0})
    assert [key[3] for key in diary.done if key[1] == 0] == list(range(5))
    for (_, task, _, time), (action, reward) in diary.done.items():
        assert np.isclose(action, 0.01)
        assert np.isclose(reward, -abs(GOALS[task, 0] - 0.01 * (time + 1)), atol=1e-6)


def test_recording_changes_nothing():
    family, tasks = PointRobot("pearl"), GOALS
    alone = collect_trials(
        family.make_batch(tasks, num_envs=2),
        Ahead(),
        torch.Generator().manual_seed(3),
        num_episodes=2,
    )
    batch = RecordedBatch(family.make_batch(tasks, num_envs=2), Diary(), {0: 0}, num_envs=2)
    seen = collect_trials(batch, Ahead(), torch.Generator().manual_seed(3), num_episodes=2)
    torch.testing.assert_close(seen.observations, alone.observations, rtol=0, atol=0)
    torch.testing.assert_close(seen.rewards, alone.rewards, rtol=0, atol=0)
