"""Trials as episodes: against the loop that collects trials, and with other interfaces."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.bridges.gymnasium_env import TaskEnv
from metarl.bridges.vector_env import TaskVectorEnv
from metarl.envs import make_family
from metarl.envs.bandits import Bandit
from metarl.envs.navigation.goals import Navigation2D
from metarl.envs.navigation.grids import GridNavigation
from metarl.envs.tabular_mdp import TabularMDP
from metarl.rollouts.episodes import collect
from metarl.rollouts.trial_env import TrialFamily
from metarl.rollouts.trial_inputs import TrialInputs
from metarl.rollouts.trials import ActorInput, collect_trials
from metarl.soundness.check import require_sound


def make_generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Walker:
    """Walks to the corners of a square in turn, faster in later environments; ends vary."""

    def __init__(self) -> None:
        self.time = 0

    def __call__(self, observations: torch.Tensor) -> torch.Tensor:
        corners = torch.tensor([[0.4, 0.4], [-0.4, 0.4], [-0.4, -0.4], [0.4, -0.4]])
        corner = corners[self.time // 25 % 4]
        self.time += 1
        speed = 0.02 * (1 + torch.arange(observations.shape[1])).view(1, -1, 1)
        away = corner - observations[..., :2]
        return speed * away / away.norm(dim=-1, keepdim=True).clamp(min=1e-3)

    def act(self, actor_input: ActorInput) -> torch.Tensor:
        return self(actor_input.observations)


def test_an_episode_is_the_trial_that_the_trial_loop_collects():
    """Episodes end at goals at different times; observations equal the encoded trial inputs."""
    inner = Navigation2D("maml17")
    tasks = np.array([[0.4, 0.4], [-0.4, 0.4], [0.0, -0.4]])
    trials = collect_trials(
        inner.make_batch(tasks, num_envs=3), Walker(), make_generator(), num_episodes=3
    )
    episodes = collect(
        TrialFamily(inner, 3).make_batch(tasks, num_envs=3), Walker(), make_generator()
    )
    steps = trials.mask.shape[-1]
    counts = trials.mask.sum(-1)
    assert len(counts.unique()) > 3
    assert counts.max() == steps
    assert torch.equal(episodes.mask[:, :, :steps], trials.mask)
    assert not bool(episodes.mask[:, :, steps:].any())
    assert torch.equal(episodes.rewards[:, :, :steps], trials.rewards)
    assert torch.equal(episodes.terminated.sum(-1), torch.ones(3, 3, dtype=torch.int64))
    assert not bool(episodes.truncated.any())
    inputs = TrialInputs(inner.observation_space, inner.action_space, inner.action_divisor)
    inputs = inputs.encode_trials(trials)
    fed = episodes.observations[:, :, :steps]
    assert torch.equal(fed[trials.mask], inputs[trials.mask])


def test_discrete_actions_are_observed_one_hot():
    env = TrialFamily(Bandit("n10-k5"), 2).make_batch(np.full((2, 5), 1.0), num_envs=1)
    first = env.reset(make_generator())
    assert first.tolist() == [[[0] * 8]] * 2
    observed = env.step(torch.tensor([[3], [0]])).observations
    assert observed.tolist() == [[[0, 0, 0, 0, 1, 0, 1, 0]], [[0, 1, 0, 0, 0, 0, 1, 0]]]
    for _ in range(9):
        step = env.step(torch.tensor([[3], [0]]))
    assert step.observations[..., -1].tolist() == [[1], [1]]  # an episode ended
    assert not bool(step.terminated.any())
    assert env.step(torch.tensor([[3], [0]])).observations[..., -1].tolist() == [[0], [0]]


def test_a_trial_terminates_with_its_last_episode():
    family = TrialFamily(Bandit("n10-k5"), 2)
    assert family.horizon == 20
    env = family.make_batch(family.sample_tasks(3, seed=0), num_envs=2)
    env.reset(make_generator())
    ends = [env.step(torch.zeros(3, 2, dtype=torch.int64)) for _ in range(22)]
    assert [bool(step.terminated.all()) for step in ends] == [False] * 19 + [True] * 3
    assert [bool(step.terminated.any()) for step in ends] == [False] * 19 + [True] * 3
    assert not any(bool(step.truncated.any()) for step in ends)


def test_a_partial_reset_starts_new_trials_and_the_others_continue():
    family = TrialFamily(Bandit("n10-k5"), 2)
    env = family.make_batch(np.ones((1, 5)), num_envs=2)
    env.reset(make_generator())
    for _ in range(12):
        last = env.step(torch.tensor([[2, 4]]))
    again = env.reset(make_generator(1), torch.tensor([[True, False]]))
    assert again[0, 0].tolist() == [0] * 8
    assert torch.equal(again[0, 1], last.observations[0, 1])
    ends = [env.step(torch.tensor([[2, 4]])).terminated[0].tolist() for _ in range(20)]
    assert [a for a, _ in ends] == [False] * 19 + [True]
    assert [b for _, b in ends] == [False] * 7 + [True] * 13


@pytest.mark.parametrize(
    "family",
    [Bandit("n10-k5"), Navigation2D("maml17"), GridNavigation("varibad"), TabularMDP("rl2")],
    ids=lambda family: family.id,
)
def test_trials_are_a_sound_family(family):
    require_sound(TrialFamily(family, 2))


def test_the_bridges_of_a_family_work_for_trials():
    family = TrialFamily(Bandit("n10-k5"), 2)
    env = TaskEnv(family)
    observation, info = env.reset(seed=3)
    assert observation.shape == (8,)
    ends = [env.step(1)[2:4] for _ in range(20)]
    assert ends == [(False, False)] * 19 + [(True, False)]
    assert (env.reset()[1]["task"] != info["task"]).all()  # a new task for each trial
    envs = TaskVectorEnv(family, 3)
    assert envs.reset(seed=0)[0].shape == (3, 8)


def test_invalid_trials_are_rejected():
    with pytest.raises(ValueError, match="num_episodes must be 1 or more, got 0"):
        TrialFamily(Bandit("n10-k5"), 0)


def test_a_trial_family_describes_itself():
    family = TrialFamily(make_family("HalfCheetahVel:promp"), 2)
    assert family.id == "HalfCheetahVel:promp × 2 episodes"
    assert "previous action and reward, end of an episode (25 numbers)" in family.description
    assert family.action_divisor == make_family("HalfCheetahVel:promp").action_divisor


def test_a_trial_is_rendered_like_its_episodes():
    inner = make_family("PointRobot:pearl")
    images = []
    for family in (inner, TrialFamily(inner, 2)):
        env = TaskEnv(family, render_mode="rgb_array")
        env.reset(seed=0)
        env.step(np.array([0.05, -0.02], np.float32))
        images.append(env.render())
    np.testing.assert_array_equal(*images)
    assert not TrialFamily(make_family("Bandit:n10-k5"), 2).can_render
