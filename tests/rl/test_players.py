"""Players: deterministic and sampled actions, adaptation, and random actions."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.envs.navigation.goals import Navigation2D
from metarl.parameters import Params
from metarl.rl.players import PolicyPlayer, StatelessPlayer, as_agent, unadapted
from metarl.rollouts.actors import random_actor, select_actions
from metarl.rollouts.episodes import Episodes, collect
from metarl.rollouts.trials import ActorInput


def make_generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def actor_input(observations: Tensor, deterministic: list[list[bool]] | None = None) -> ActorInput:
    """The first input of a trial."""
    batch_shape = observations.shape[:2]
    never = torch.zeros(batch_shape, dtype=torch.bool)
    requested = never if deterministic is None else torch.tensor(deterministic)
    return ActorInput(observations, None, torch.zeros(batch_shape), never, requested)


def some_episodes(num_tasks: int = 2, num_envs: int = 3) -> Episodes:
    env = Navigation2D("maml17").make_batch(np.zeros((num_tasks, 2)), num_envs=num_envs)
    return collect(env, lambda o: torch.zeros(*o.shape[:2], 2), make_generator())


# Deterministic actions in environments that request them.


def constant(value: float):
    return lambda observations: torch.full((*observations.shape[:2], 2), value)


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        ([[False, False]], [[[1, 1], [1, 1]]]),
        ([[True, True]], [[[2, 2], [2, 2]]]),
        ([[False, True]], [[[1, 1], [2, 2]]]),
    ],
)
def test_each_environment_acts_as_requested(requested, expected):
    got = select_actions(actor_input(torch.zeros(1, 2, 4), requested), constant(1), constant(2))
    assert got.tolist() == expected


def test_discrete_actions_are_chosen_the_same_way():
    sampled, best = (lambda o, a=a: torch.full(o.shape[:2], a) for a in (3, 5))
    got = select_actions(actor_input(torch.zeros(1, 3, 4), [[True, False, True]]), sampled, best)
    assert got.tolist() == [[5, 3, 5]]


def test_nothing_is_sampled_if_all_act_deterministically():
    def never(_: Tensor) -> Tensor:
        raise AssertionError("an action was sampled")

    got = select_actions(actor_input(torch.zeros(1, 2, 4), [[True, True]]), never, constant(2))
    assert got.tolist() == [[[2, 2], [2, 2]]]


# Agents that learn by steps.


class Climb(NamedTuple):
    """Distributions whose mode is a number for each task, and whose samples are 100 more."""

    state: Tensor
    observations: Tensor

    def mode(self) -> Tensor:
        return self.state.view(-1, 1, 1).expand(*self.observations.shape[:2], 1)

    def sample(self, generator: torch.Generator) -> Tensor:
        assert isinstance(generator, torch.Generator)
        return self.mode() + 100


class Climber:
    """A policy with one number; a step adds the mean return of each task's episodes."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def init(self, generator: torch.Generator) -> Params:
        raise NotImplementedError

    def distribution(self, params: Params, observations: Tensor) -> Any:
        return Climb(params["height"], observations)

    def adapt_step(self, params: Params, episodes: Episodes, *, step: int) -> Params:
        self.steps.append(step)
        return {"height": params["height"] + episodes.returns.mean(1)}


def test_a_policy_player_acts_with_the_parameters_of_each_task():
    policy, episodes = Climber(), some_episodes()
    start = {"height": torch.tensor(7.0)}
    player = PolicyPlayer(policy, start, 2, make_generator(), policy.adapt_step)
    observations = torch.zeros(2, 3, 5)
    requested = [[True] * 3] * 2
    for step in range(3):
        sampled = player.act(actor_input(observations))
        best = player.act(actor_input(observations, requested))
        expected = 7 + step * episodes.returns.mean(1)
        assert torch.equal(best, expected.view(2, 1, 1).expand(2, 3, 1))
        assert torch.equal(sampled, best + 100)
        assert torch.equal(player.actor(observations), sampled)
        player.adapt(episodes)
    assert policy.steps == [0, 1, 2]


def test_a_stateless_player_never_learns():
    player = StatelessPlayer(lambda o: 2 * o)
    observations = torch.rand(2, 3, 5, generator=make_generator())
    player.adapt(some_episodes())
    assert torch.equal(player.act(actor_input(observations)), 2 * observations)


# A user's own object.


class Follower:
    """Acts with the observations; counts its adaptations."""

    def __init__(self, num_tasks: int, num_envs: int) -> None:
        self.size, self.num_adapted = (num_tasks, num_envs), 0

    def act(self, observations: Tensor) -> np.ndarray:
        return observations.numpy() + self.num_adapted

    def adapt(self, episodes: Episodes) -> None:
        self.num_adapted += len(episodes.returns)


def test_an_object_of_a_user_acts_and_adapts():
    made: list[Follower] = []

    def make(num_tasks: int, num_envs: int) -> Follower:
        made.append(Follower(num_tasks, num_envs))
        return made[-1]

    agent = as_agent(make)
    assert agent.remembers is False
    player = agent.play(2, 3, make_generator())
    assert made[0].size == (2, 3)
    observations = torch.rand(2, 3, 2, generator=make_generator())
    assert torch.equal(player.act(actor_input(observations)), observations)
    player.adapt(some_episodes())
    assert torch.equal(player.act(actor_input(observations)), observations + 2)
    other = agent.play(2, 3, make_generator())  # another set of tasks, without any data
    assert torch.equal(other.act(actor_input(observations)), observations)


def test_an_object_without_adapt_is_not_adapted():
    agent = as_agent(lambda *_: SimpleNamespace(act=lambda o: o))
    player = agent.play(2, 3, make_generator())
    player.adapt(some_episodes())
    assert player.act(actor_input(torch.ones(2, 3, 1))).tolist() == [[[1]] * 3] * 2


@pytest.mark.parametrize("made", [object(), SimpleNamespace(act=3), None])
def test_objects_without_act_are_rejected(made):
    agent = as_agent(lambda *_: made)
    kind = type(made).__name__
    message = rf"agent must make a player with a method act\(observations\), got one of type {kind}"
    with pytest.raises(TypeError, match=message):
        agent.play(2, 3, make_generator())


# The random policy.


def random_actions(space: Any, *, num_tasks: int = 2, num_envs: int = 10_000) -> Tensor:
    actor = random_actor(SimpleNamespace(action_space=space), make_generator())
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


def test_random_multi_discrete_actions_are_uniform_in_each_component_and_independent():
    actions = random_actions(spaces.MultiDiscrete([2, 3], start=[0, 5]))
    assert actions.shape == (2, 10_000, 2)
    assert actions.dtype == torch.int64
    pairs = actions[..., 0] * 3 + actions[..., 1] - 5
    values, counts = pairs.unique(return_counts=True)
    assert values.tolist() == [0, 1, 2, 3, 4, 5]
    expected = 20_000 / 6
    assert (counts - expected).abs().max() < 5 * math.sqrt(expected * 5 / 6)


def test_random_actions_differ_between_calls_and_follow_the_generator():
    env = SimpleNamespace(action_space=spaces.Box(-1, 1, (2,)))
    observations = torch.zeros(2, 3, 1)
    actor = random_actor(env, make_generator(3))
    first, second = actor(observations), actor(observations)
    assert not torch.isin(first, second).any()
    again = random_actor(env, make_generator(3))
    assert torch.equal(again(observations), first)


def test_numbers_without_bounds_are_sampled_as_in_gymnasium():
    bounds = [[-np.inf, -np.inf, 2.0, -1.0], [np.inf, 1.0, np.inf, 3.0]]
    sampled = random_actions(spaces.Box(*np.array(bounds, np.float32)), num_envs=4000).flatten(
        0, -2
    )
    normal, below, above, uniform = sampled.double().T
    assert (float(normal.mean()), float(normal.std())) == pytest.approx((0, 1), abs=0.06)
    assert float(normal.abs().max()) > 2.5
    for excess in (1 - below, above - 2):
        assert excess.min() >= 0
        assert (float(excess.mean()), float(excess.std())) == pytest.approx((1, 1), abs=0.08)
    assert -1 <= uniform.min() < uniform.max() <= 3
    assert float(uniform.mean()) == pytest.approx(1, abs=0.08)


def test_parts_of_a_dict_are_sampled_independently():
    space = spaces.Dict(
        a=spaces.Discrete(3, start=1), b=spaces.Box(0, 5, (2,), np.int64), c=spaces.MultiBinary(1)
    )
    sampled = random_actions(space, num_envs=500).flatten(0, -2)
    assert sampled.dtype == torch.float32
    assert sampled[:, 0].unique().tolist() == [1, 2, 3]
    assert sampled[:, 1].unique().tolist() == [0, 1, 2, 3, 4, 5]
    assert sampled[:, 3].unique().tolist() == [0, 1]


def test_a_space_that_has_no_rows_is_rejected():
    message = "action_space must be built from Box, Discrete, MultiDiscrete and MultiBinary, got T"
    with pytest.raises(TypeError, match=message):
        random_actions(spaces.Text(3))


# An agent as it is before any data.


def test_an_unadapted_agent_acts_as_it_does_before_adaptation():
    agent = as_agent(Follower)
    player = unadapted(agent).play(2, 3, make_generator())
    observations = torch.rand(2, 3, 2, generator=make_generator())
    player.adapt(some_episodes())
    assert torch.equal(player.act(actor_input(observations)), observations)


def test_an_agent_with_a_memory_cannot_be_unadapted():
    with pytest.raises(ValueError, match="agent must not have a memory: an agent with a memory"):
        unadapted(SimpleNamespace(remembers=True))


class Failing:
    """Raises errors."""

    def act(self, _: Tensor) -> Tensor:
        return {}["speed"]

    def adapt(self, _: Episodes) -> None:
        raise IndexError("no episode 7")


def test_an_error_of_a_user_s_code_names_its_method():
    player = as_agent(lambda *_: Failing()).play(2, 3, make_generator())
    with pytest.raises(ValueError, match="act of the agent failed: KeyError: 'speed'"):
        player.act(actor_input(torch.ones(2, 3, 1)))
    with pytest.raises(ValueError, match="adapt of the agent failed: IndexError: no episode 7"):
        player.adapt(some_episodes())
