"""The search of a dark grid: exact returns of all goals, episode by episode."""

import numpy as np
import pytest
import torch
from reference_trials import generator

from metarl.agents.references.grids import GridSearch
from metarl.envs import make_family
from metarl.rollouts.trials import ActorInput, Trials, collect_trials


def all_goals(family_id: str, num_episodes: int, num_envs: int = 1) -> Trials:
    family = make_family(family_id)
    goals = np.arange(family.task_space.n, dtype=np.float64)[:, None]
    env = family.make_batch(goals, num_envs=num_envs)
    player = GridSearch(family).play(len(goals), num_envs, generator())
    return collect_trials(env, player, generator(), num_episodes=num_episodes)


def test_returns_on_the_varibad_grid_are_bayes_optimal_and_then_those_of_an_oracle():
    returns = all_goals("GridNavigation:varibad", 4, num_envs=2).episode_returns.mean((0, 1))
    # one new goal a step from the second on: (14 + … + 1 − .1 (1 + … + 14) − 7 · 1.5) / 21
    assert float(returns[0]) == pytest.approx((105 - 10.5 - 10.5) / 21, abs=1e-5)
    assert float(returns[1]) < float(returns[2])
    assert returns[2:].tolist() == pytest.approx([11.0714] * 2, abs=1e-4)


def test_a_dark_room_is_searched_in_one_episode():
    returns = all_goals("DarkRoom:dpt", 2).episode_returns.mean((0, 1))
    # found at step t = 1 … 99 the return is 101 − t; at the start it is not found
    assert float(returns[0]) == pytest.approx((sum(range(2, 101))) / 100)
    assert float(returns[1]) == pytest.approx(91.99)


def test_a_search_continues_in_the_next_episode():
    returns = all_goals("DarkRoom:ad", 9).episode_returns.mean((0, 1))
    assert float(returns[0]) == pytest.approx(sum(range(1, 21)) / 81, abs=1e-5)
    assert (returns.diff() >= 0).all()
    oracle = make_family("DarkRoom:ad")
    distances = [abs(x - 4) + abs(y - 4) for x in range(9) for y in range(9)]
    # a goal at the start gives reward from the first step on, because staying leads to it
    known = np.mean([oracle.horizon + 1 - max(d, 1) for d in distances])
    assert float(returns[-1]) == pytest.approx(known, abs=1e-4)


def test_every_step_of_the_first_walk_visits_a_new_cell():
    walk = GridSearch(make_family("DarkRoom:ad")).search_paths[0]
    assert len(set(walk)) == len(walk) == 21


def test_environments_whose_episodes_end_at_different_times_are_independent():
    search = GridSearch(make_family("GridNavigation:varibad"))
    together, alone = search.play(1, 2, generator()), search.play(1, 1, generator())
    never = torch.zeros(1, 2, dtype=torch.bool)
    start = torch.zeros(1, 2, 2)
    actions = together.act(ActorInput(start, None, torch.zeros(1, 2), never, never))
    single = alone.act(
        ActorInput(start[:, :1], None, torch.zeros(1, 1), never[:, :1], never[:, :1])
    )
    for t in range(12):
        rewards = torch.tensor([[-0.1, 1.0 if t == 4 else -0.1]])
        ended = torch.tensor([[False, t in (2, 8)]])
        actions = together.act(ActorInput(start, actions, rewards, ended, never))
        single = alone.act(
            ActorInput(start[:, :1], single, rewards[:, :1], never[:, :1], never[:, :1])
        )
        assert actions[0, 0] == single[0, 0]


def test_other_families_than_grids_with_one_goal_are_rejected():
    for family_id in ("KeyToDoor:ad", "Bandit:n10-k5", "Navigation2D:maml17"):
        with pytest.raises(ValueError, match=f"needs a grid with one hidden goal, .*{family_id}"):
            GridSearch(make_family(family_id))
