"""Recordings of agents whose every step is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from metarl.envs import family_ids, make_family
from metarl.envs.bandits import DependentBandit, ElevenArmBandit
from metarl.envs.navigation.goals import Navigation2D, PointRobot
from metarl.envs.navigation.grids import DarkRoom
from metarl.evaluation.behavior import Choices, Paths, Videos, record_behavior, record_videos
from metarl.evaluation.evaluator import evaluate, evaluation_tasks
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.rl.players import as_agent

PROTOCOL = EvaluationProtocol(
    num_tasks=2, exploration_episodes=3, adaptation_steps=2, evaluation_episodes=3
)
GOALS = np.array([[0.3, 0.0], [0.0, -0.2]])


class Walker:
    """Walks to the right, 0.01 per step for each time that it adapted."""

    def __init__(self, *_: int) -> None:
        self.adapted = 0

    def act(self, observations):
        return torch.tensor([0.01 * self.adapted, 0.0]).expand(*observations.shape[:2], 2)

    def adapt(self, episodes):
        assert episodes.rewards.shape[1] == 3
        self.adapted += 1


class Counting:
    """Has a memory: takes action k in every step of the k-th episode of its trial."""

    remembers = True

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> Any:
        del generator
        return CountingPlayer(torch.zeros(num_tasks, num_envs, dtype=torch.int64))


class CountingPlayer:
    def __init__(self, episode: torch.Tensor) -> None:
        self.episode = episode

    def act(self, actor_input):
        self.episode = self.episode + actor_input.episode_ended
        self.deterministic = actor_input.deterministic
        return self.episode.clone()


def paths(family=None, tasks=GOALS, protocol=PROTOCOL, **options: Any) -> Paths:
    family = family or Navigation2D("maml17")
    shown = record_behavior(as_agent(Walker), family, tasks, protocol, **options)
    assert isinstance(shown, Paths)
    return shown


def test_paths_are_recorded_before_and_after_all_steps():
    shown = paths(num_episodes=2)
    assert shown.stages == ("before", "after 2 steps")
    assert shown.places.shape == (2, 2, 2, 101, 2)
    assert not shown.places[0].any()  # it stands at the origin
    steps = np.arange(101)
    np.testing.assert_allclose(shown.places[1, 1, 0, :, 0], 0.02 * steps, rtol=1e-5)
    assert not shown.is_grid


def test_returns_are_sums_of_rewards_up_to_the_end():
    shown = paths()
    np.testing.assert_allclose(shown.returns[0], [[-30] * 3, [-20] * 3], rtol=1e-5)
    on_the_way = [-abs(0.3 - 0.02 * k) for k in range(1, 101)]
    ends = next(k for k, reward in enumerate(on_the_way) if reward > -0.01)
    np.testing.assert_allclose(shown.returns[1, 0], sum(on_the_way[: ends + 1]), rtol=1e-4)


def test_nothing_is_recorded_after_an_episode_has_ended():
    way = paths().places[1, 0, 0]
    last = 15  # 0.02 a step, the goal is 0.3 away
    assert way[last] == pytest.approx([0.3, 0])
    assert np.isnan(way[last + 1 :]).all()
    assert not np.isnan(way[: last + 1]).any()


def test_the_oracle_goes_to_the_goal():
    shown = paths(num_episodes=1)
    assert shown.oracle is not None
    for goal, way in zip(GOALS, shown.oracle[:, 0], strict=True):
        assert way[0].tolist() == [0, 0]
        assert way[~np.isnan(way[:, 0])][-1] == pytest.approx(goal, abs=1e-6)


def test_the_oracle_has_the_random_start_of_the_agent_before_adaptation():
    shown = paths(PointRobot("pearl"))
    assert shown.oracle is not None
    np.testing.assert_array_equal(shown.oracle[:, :, 0], shown.places[0, :, :, 0])
    assert (shown.places[0, :, :, 0] != shown.places[1, :, :, 0]).all()


def test_separate_evaluation_episodes_are_recorded():
    apart = replace(PROTOCOL, evaluation_episodes=2, deterministic="evaluation")
    shown = paths(protocol=apart)
    assert shown.places.shape[2] == 2  # no more episodes than are measured
    np.testing.assert_allclose(shown.places[1, 1, :, 1, 0], 0.02, rtol=1e-5)


def test_recorded_episodes_equal_those_of_an_evaluation():
    family = Navigation2D("maml17")
    tasks = evaluation_tasks(family, PROTOCOL)
    shown = record_behavior(as_agent(Walker), family, tasks, PROTOCOL)
    measured = evaluate(as_agent(Walker), family, PROTOCOL).measured.returns[0]
    assert isinstance(shown, Paths)
    np.testing.assert_allclose(shown.returns, measured[[0, 2]], rtol=1e-5)


def test_without_adaptation_there_is_one_stage():
    shown = paths(protocol=replace(PROTOCOL, adaptation_steps=0))
    assert shown.stages == ("before",)
    assert shown.places.shape[0] == 1


def test_paths_on_a_grid_are_cells():
    protocol = replace(PROTOCOL, exploration_episodes=1)
    shown = record_behavior(Counting(), DarkRoom("ad"), np.array([[80.0]]), protocol)
    assert isinstance(shown, Paths)
    assert shown.is_grid
    assert shown.stages == ("episode 1", "episode 3")
    cells = shown.places[0, 0, 0]
    assert cells[:6].tolist() == [[4, 4], [5, 4], [6, 4], [7, 4], [8, 4], [8, 4]]  # to the right
    assert shown.places[1, 0, 0, :6].tolist() == [[4, y] for y in (4, 5, 6, 7, 8, 8)]  # and up


def choices(family, tasks, protocol=PROTOCOL, **options: Any) -> Choices:
    shown = record_behavior(Counting(), family, np.array(tasks), protocol, **options)
    assert isinstance(shown, Choices)
    return shown


def test_choices_of_an_agent_with_a_memory_are_from_the_scored_episode():
    shown = choices(ElevenArmBandit("wang16"), [[3.0], [6.0]], num_episodes=4)
    assert shown.chosen.shape == (2, 2, 4, 5)
    assert (shown.chosen[0] == 0).all()
    assert (shown.chosen[1] == 6).all()  # two steps of three episodes came before
    assert shown.num_choices == 11
    assert shown.best is not None
    assert (shown.best[:, 0] == 3).all()
    assert (shown.best[:, 1] == 6).all()
    np.testing.assert_allclose(shown.returns[1, 1], 25)


def test_without_an_oracle_there_is_no_best_choice():
    class Unknown(DependentBandit):
        def best_actions(self, *_):
            return None

    protocol = replace(PROTOCOL, adaptation_steps=0)
    assert choices(Unknown("easy"), [[1.0]], protocol).best is None


def test_a_family_that_does_not_observe_positions_cannot_show_paths():
    family = DependentBandit("easy")
    family.behavior = "path"
    with pytest.raises(ValueError, match="must observe a position in the plane for its paths"):
        record_behavior(Counting(), family, np.array([[1.0]]), PROTOCOL)


def test_a_family_without_discrete_actions_cannot_show_choices():
    family = Navigation2D("maml17")
    family.behavior = "choices"
    with pytest.raises(ValueError, match="must have Discrete actions for its choices"):
        record_behavior(as_agent(Walker), family, GOALS, PROTOCOL)


def videos(max_frames: int = 20, stages=(0, 2)) -> Videos:
    family = Navigation2D("maml17")
    shown = record_videos(
        as_agent(Walker), family, GOALS, PROTOCOL, stages=stages, max_frames=max_frames
    )
    assert shown is not None
    return shown


def test_videos_show_the_first_environment_of_each_task_every_few_steps():
    shown = videos()
    assert shown.steps_per_frame == 5
    assert [[len(video) for video in stage] for stage in shown.frames] == [[21, 21], [4, 21]]
    family = Navigation2D("maml17")
    for k, frame in enumerate(shown.frames[1][0]):
        expected = family.render_state(np.array([0.02 * 5 * k, 0.0]), GOALS[0])
        np.testing.assert_array_equal(frame, expected)
    np.testing.assert_allclose(shown.returns[0], [-30, -20], rtol=1e-5)


def test_the_spacing_of_frames_follows_the_longest_episode_not_the_horizon():
    family = Navigation2D("maml17")
    family.horizon = 10_000  # the walker reaches its goal after 15 steps, or is stopped
    goals = GOALS[:1]
    shown = record_videos(as_agent(Walker), family, goals, PROTOCOL, stages=(2,), max_frames=20)
    assert shown is not None
    assert shown.steps_per_frame == 1
    assert len(shown.frames[0][0]) == 16
    few = record_videos(as_agent(Walker), family, goals, PROTOCOL, stages=(2,), max_frames=5)
    assert few is not None
    assert few.steps_per_frame == 3
    assert len(few.frames[0][0]) == 6


def test_a_video_can_be_of_one_stage():
    shown = videos(stages=(1,))
    assert shown.stages == ("after 1 step",)
    assert len(shown.frames) == 1


@pytest.mark.parametrize("stages", [(), (3,), (-1, 0)])
def test_an_invalid_stage_is_rejected(stages):
    with pytest.raises(ValueError, match=r"stages must be numbers from 0 to 2, got \["):
        videos(stages=stages)


def test_numbers_out_of_range_are_rejected():
    with pytest.raises(ValueError, match="max_frames must be 1 or more, got 0"):
        videos(max_frames=0)
    with pytest.raises(ValueError, match="num_episodes must be 1 or more, got 0"):
        paths(num_episodes=0)


def test_a_family_with_videos_that_cannot_be_rendered_has_no_recording():
    family = ElevenArmBandit("wang16")
    family.behavior = "video"
    assert record_behavior(Counting(), family, np.array([[3.0]]), PROTOCOL) is None


def test_the_families_declare_their_kind_of_recording():
    kinds: dict[str, set[str]] = {}
    for family_id in family_ids():
        name = family_id.split(":")[0]
        if name in ("Navigation2D", "KeyToDoor", "WindyPoint", "Bandit", "TabularMDP", "AntGoal"):
            kinds.setdefault(make_family(family_id).behavior, set()).add(name)
    assert kinds == {
        "path": {"Navigation2D", "KeyToDoor", "WindyPoint"},
        "choices": {"Bandit", "TabularMDP"},
        "video": {"AntGoal"},
    }
    assert make_family("Navigation2D:maml17+task").behavior == "path"
