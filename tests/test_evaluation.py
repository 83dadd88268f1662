"""Evaluation by hand-made numbers, and of an agent and a family whose returns are known exactly."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor

from metarl.episodes import Actor, Episodes
from metarl.evaluation import Evaluation, evaluate_adaptation, random_actor
from metarl.statistics import mean_interval
from metarl.tasks import Step, TaskFamily, Tasks

HORIZON = 3
NUM_TASKS, NUM_EPISODES = 4, 5


class Slope(TaskFamily):
    """One number v a task; a step pays v · action, so that the best action is the sign of v.

    v is above zero in the train split and below in the test split. Observations are random.
    """

    name: ClassVar[str] = "Slope"
    variant, horizon, source = "one", HORIZON, "this test"
    task_description, observation_description = "slope v", "nothing but chance"
    task_space = spaces.Box(-1, 1, (1,), np.float64)
    observation_space = spaces.Box(0, 1, (1,))
    action_space = spaces.Box(-1, 1, (1,))

    def __init__(self, *, has_oracle: bool = True) -> None:
        self.has_oracle = has_oracle
        self.batches: list[SlopeBatch] = []

    def make_batch(self, tasks: Tasks, *, num_envs: int, device: object = "cpu") -> SlopeBatch:
        assert device == "cpu"
        slopes = torch.as_tensor(self.check_tasks(tasks))
        self.batches.append(SlopeBatch(slopes, num_envs, has_oracle=self.has_oracle))
        return self.batches[-1]

    def _draw_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        return rng.uniform(0.1, 1, (num_tasks, 1)) * (1 if split == "train" else -1)


class SlopeBatch:
    """All steps of all slopes, in float64; where slopes flip, they change sign at every step."""

    autoreset_mode: ClassVar[AutoresetMode] = AutoresetMode.DISABLED
    horizon, flip = HORIZON, False
    observation_space, action_space = Slope.observation_space, Slope.action_space

    def __init__(self, slopes: Tensor, num_envs: int, *, has_oracle: bool) -> None:
        self.num_tasks, self.num_envs = len(slopes), num_envs
        self._slopes, self._has_oracle, self.closed = slopes, has_oracle, False

    def reset(self, generator: torch.Generator, where: Tensor | None = None) -> Tensor:
        assert not self.closed
        assert where is None
        self._time, shape = 0, (self.num_tasks, self.num_envs, 1)
        self._observations = torch.rand(shape, generator=generator, dtype=torch.float64)
        return self._observations

    def step(self, actions: Tensor) -> Step:
        rewards = self._present_slopes() * actions.squeeze(-1)
        self._time += 1
        never = torch.zeros_like(rewards, dtype=torch.bool)
        return Step(self._observations, rewards, never, never | (self._time >= HORIZON))

    def set_tasks(self, tasks: Tasks) -> None:  # noqa: ARG002
        raise AssertionError("an evaluation has one set of tasks")

    def oracle_actions(self) -> Tensor | None:
        best = self._present_slopes().sign().unsqueeze(1)
        return best.expand(-1, self.num_envs, 1) if self._has_oracle else None

    def close(self) -> None:
        self.closed = True

    def _present_slopes(self) -> Tensor:  # [N, 1]
        return -self._slopes if self.flip and self._time % 2 else self._slopes


class Diver:
    """Acts with its state, one number a task; every adaptation step lowers it by .25."""

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise
        self.adapted_on: list[Episodes] = []

    def initial_state(self, num_tasks: int) -> Tensor:
        return torch.zeros(num_tasks, dtype=torch.float64)

    def actor(
        self, state: Tensor, generator: torch.Generator, *, deterministic: bool = False
    ) -> Actor:
        assert not deterministic

        def act(observations: Tensor) -> Tensor:
            drawn = torch.randn(observations.shape, generator=generator, dtype=torch.float64)
            return state.view(-1, 1, 1) + self.noise * (drawn + observations)

        return act

    def adapt_step(self, state: Tensor, episodes: Episodes, *, step: int = 0) -> Tensor:
        assert step == len(self.adapted_on)
        self.adapted_on.append(episodes)
        return state - 0.25


def evaluate(agent: Diver, *, family: Slope | None = None, **settings: object) -> Evaluation:
    sizes = {"num_tasks": NUM_TASKS, "num_episodes": NUM_EPISODES, "num_steps": 2}
    return evaluate_adaptation(agent, family or Slope(), **{**sizes, **settings})


def by_hand(*, oracle: list[float] | None = None) -> Evaluation:
    """Three tasks, two steps: means −10, −4 and −2."""
    return Evaluation(
        environment="Slope:one",
        split="test",
        seed=7,
        num_episodes=5,
        tasks=np.array([[0.5], [0.25], [-1.0]]),
        returns=np.array([[-8.0, -10.0, -12.0], [-2.0, -4.0, -6.0], [-1.0, -5.0, 0.0]]),
        random=np.array([-20.0, -30.0, -40.0]),
        oracle=None if oracle is None else np.array(oracle),
    )


# Statistics of known returns.


def test_the_gap_closed_is_the_share_of_the_way_to_the_oracle():
    made = by_hand(oracle=[0.0, -1.0, 1.0])
    assert [made.gap_closed(k) for k in range(3)] == pytest.approx([0, 0.6, 0.8])
    assert by_hand(oracle=[5.0, 5.0, 5.0]).gap_closed(1) == pytest.approx(6 / 15)


@pytest.mark.parametrize("oracle", [None, [-10.0, -10.0, -10.0], [-11.0, -12.0, -13.0]])
def test_there_is_no_gap_to_close_without_a_better_oracle(oracle):
    assert by_hand(oracle=oracle).gap_closed(1) is None


def test_the_gain_is_taken_task_by_task():
    made = by_hand()
    assert made.gain(0) == (0, 0, 0)
    assert made.gain(1) == (6, 6, 6)  # the same on every task: nothing is uncertain
    gains = np.array([7.0, 5.0, 12.0])
    assert made.gain(2) == mean_interval(gains, seed=7)
    assert made.gain(2).mean == pytest.approx(8)
    assert made.gain(2).low < 8 < made.gain(2).high


def test_the_number_of_steps_is_one_less_than_the_rows():
    assert by_hand().num_steps == 2


def test_json_holds_every_number_and_comes_back_as_it_was():
    made = by_hand(oracle=[0.0, -1.0, 1.0])
    content = made.to_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["tasks"] == [[0.5], [0.25], [-1.0]]
    assert [step["returns"] for step in content["steps"]] == made.returns.tolist()
    assert content["random"]["returns"] == [-20, -30, -40]
    assert content["oracle"]["returns"] == [0, -1, 1]
    named = {key: content[key] for key in ("environment", "split", "seed")}
    assert named == {"environment": "Slope:one", "split": "test", "seed": 7}
    protocol = content["protocol"]
    sizes = [protocol[key] for key in ("num_tasks", "num_steps", "episodes_per_step")]
    assert sizes == [3, 2, 5]


def test_the_statistics_in_json_follow_from_the_returns_in_it():
    content = by_hand(oracle=[0.0, -1.0, 1.0]).to_json()
    before = np.array(content["steps"][0]["returns"])
    for k, step in enumerate(content["steps"]):
        returns = np.array(step["returns"])
        assert step["step"] == k
        assert step["mean"] == mean_interval(returns, seed=7)._asdict()
        assert step["gain"] == mean_interval(returns - before, seed=7)._asdict()
        assert step["gap_closed"] == pytest.approx((returns.mean() + 10) / 10)
    for name, mean in (("random", -30), ("oracle", 0)):
        assert content[name]["mean"] == mean_interval(content[name]["returns"], seed=7)._asdict()
        assert content[name]["mean"]["mean"] == mean


def test_json_without_an_oracle_says_so():
    content = by_hand().to_json()
    assert content["oracle"] is None
    assert [step["gap_closed"] for step in content["steps"]] == [None] * 3


# Adaptation to tasks.


def test_the_return_after_each_step_is_that_of_the_policy_after_it():
    got = evaluate(Diver(), num_steps=3)
    slopes = got.tasks[:, 0]
    for k, row in enumerate(got.returns):
        np.testing.assert_allclose(row, HORIZON * slopes * -0.25 * k, atol=1e-12)
    assert got.returns.shape == (4, NUM_TASKS)


def test_the_episodes_of_a_step_are_the_data_of_the_next():
    agent = Diver(noise=1.0)
    got = evaluate(agent)
    assert len(agent.adapted_on) == 2  # nothing is adapted on the last ones
    for row, episodes in zip(got.returns, agent.adapted_on, strict=False):
        assert episodes.rewards.shape == (NUM_TASKS, NUM_EPISODES, HORIZON)
        np.testing.assert_array_equal(row, episodes.returns.mean(1).numpy())


@pytest.mark.parametrize(("split", "sign"), [("train", 1), ("test", -1)])
def test_tasks_are_those_of_the_split(split, sign):
    got = evaluate(Diver(), split=split)
    assert (np.sign(got.tasks) == sign).all()
    assert got.tasks.shape == (NUM_TASKS, 1)
    assert got.split == split


def test_tasks_come_from_the_test_split_unless_another_is_asked_for():
    assert evaluate_adaptation(Diver(), Slope(), num_tasks=2, num_steps=0).split == "test"


def test_the_oracle_row_is_the_best_return_of_each_task():
    got = evaluate(Diver())
    np.testing.assert_allclose(got.oracle, HORIZON * np.abs(got.tasks[:, 0]))


def test_the_oracle_is_asked_in_every_state(monkeypatch):
    monkeypatch.setattr(SlopeBatch, "flip", True)
    got = evaluate(Diver())
    np.testing.assert_allclose(got.oracle, HORIZON * np.abs(got.tasks[:, 0]))


def test_a_family_without_an_oracle_has_no_oracle_row():
    assert evaluate(Diver(), family=Slope(has_oracle=False)).oracle is None


def test_the_random_row_is_that_of_actions_uniform_over_the_action_space():
    got = evaluate(Diver(), num_tasks=500, num_episodes=4)
    deviations = np.abs(got.tasks[:, 0]) * math.sqrt(HORIZON / 3 / 4)  # Var U(−1, 1) = 1/3
    standardized = got.random / deviations
    assert abs(standardized.mean()) < 5 / math.sqrt(500)
    assert standardized.std() == pytest.approx(1, abs=5 / math.sqrt(2 * 500))


def test_the_evaluation_remembers_how_it_was_made():
    got = evaluate(Diver(), seed=5)
    assert (got.environment, got.seed, got.num_episodes) == ("Slope:one", 5, NUM_EPISODES)
    assert got.num_steps == 2


def test_without_steps_the_agent_is_measured_and_never_adapted():
    agent = Diver(noise=1.0)
    got = evaluate(agent, num_steps=0)
    assert got.returns.shape == (1, NUM_TASKS)
    assert agent.adapted_on == []
    np.testing.assert_array_equal(got.returns[0], evaluate(Diver(noise=1.0)).returns[0])


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others():
    first, again, other = (evaluate(Diver(noise=1.0), seed=seed) for seed in (0, 0, 1))
    for name in ("tasks", "returns", "random", "oracle"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        assert not np.isin(getattr(first, name), getattr(other, name)).any()


def test_environments_are_closed_even_if_the_agent_fails(monkeypatch):
    family = Slope()
    evaluate(Diver(), family=family)
    monkeypatch.setattr(Diver, "adapt_step", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(Diver(), family=family)
    assert [batch.closed for batch in family.batches] == [True, True]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": -1}, "num_steps must be 0 or more, got -1"),
        ({"num_tasks": 0}, "num_tasks must be 1 or more, got 0"),
        ({"split": "tets"}, "split must be one of train, test, got 'tets'; did you mean 'test'"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        evaluate(Diver(), **settings)


# The random policy.


def random_actions(space: spaces.Space, *, num_tasks: int = 2, num_envs: int = 10_000) -> Tensor:
    actor = random_actor(SimpleNamespace(action_space=space), torch.Generator().manual_seed(0))
    return actor(torch.zeros(num_tasks, num_envs, 7))


def test_random_actions_of_a_box_are_uniform_between_its_bounds():
    low, high = np.array([-1.0, 2.0], np.float32), np.array([0.5, 6.0], np.float32)
    actions = random_actions(spaces.Box(low, high))
    assert actions.shape == (2, 10_000, 2)
    for k in range(2):
        values = actions[..., k].flatten().numpy()
        counts, _ = np.histogram(values, bins=10, range=(low[k], high[k]))
        assert counts.sum() == 20_000  # none outside
        assert np.abs(counts - 2000).max() < 5 * math.sqrt(2000 * 0.9)
    correlation = np.corrcoef(actions.flatten(0, 1).T.numpy())[0, 1]
    assert abs(correlation) < 5 / math.sqrt(20_000)


def test_random_discrete_actions_are_uniform_over_the_choices():
    actions = random_actions(spaces.Discrete(4, start=-1))
    assert actions.shape == (2, 10_000)
    assert actions.dtype == torch.int64
    values, counts = actions.unique(return_counts=True)
    assert values.tolist() == [-1, 0, 1, 2]
    assert (counts - 5000).abs().max() < 5 * math.sqrt(5000 * 0.75)


def test_random_actions_are_drawn_anew_and_follow_the_generator():
    env = SimpleNamespace(action_space=spaces.Box(-1, 1, (2,)))
    observations = torch.zeros(2, 3, 1)
    actor = random_actor(env, torch.Generator().manual_seed(3))
    first, second = actor(observations), actor(observations)
    assert not torch.isin(first, second).any()
    again = random_actor(env, torch.Generator().manual_seed(3))
    assert torch.equal(again(observations), first)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, 1, (2,)),
        spaces.Box(0, np.inf, (1,)),
        spaces.MultiDiscrete([2, 3]),
    ],
)
def test_a_space_without_a_uniform_distribution_is_refused(space):
    with pytest.raises(TypeError, match="action_space must be Discrete or a bounded Box, got"):
        random_actions(space)
