"""Grids: every move, rewards by hand, exact returns of the oracle, tasks by split."""

import re

import numpy as np
import pytest
import torch
from family_runs import last_step_without_and_with_reset, run_oracle
from torch import Tensor

from metarl.envs.navigation.grids import DarkRoom, GridNavigation, KeyToDoor

GRID, DPT, AD, DOOR = GridNavigation("varibad"), DarkRoom("dpt"), DarkRoom("ad"), KeyToDoor("ad")
every_family = pytest.mark.parametrize("family", [GRID, DPT, AD, DOOR], ids=lambda f: f.id)
MOVES = {
    GRID: [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)],
    DPT: [(1, 0), (-1, 0), (0, 1), (0, -1), (0, 0)],
    AD: [(1, 0), (-1, 0), (0, 1), (0, -1), (0, 0)],
    DOOR: [(1, 0), (-1, 0), (0, 1), (0, -1), (0, 0)],
}
SIZES = {GRID: 5, DPT: 10, AD: 9, DOOR: 9}
RIGHT, LEFT, UP, DOWN, STAY = range(5)  # in the dark


def act(*actions: int) -> Tensor:
    """Actions of the environments of one task."""
    return torch.tensor([actions])


def placed(family, task, *state: float):
    """Step function of one environment in a given state."""
    parameters = family.prepare(torch.tensor([task], dtype=torch.float32))

    def step(action: int):
        states = torch.tensor([[state]], dtype=torch.float32)
        return family.transition(states, act(action), parameters, torch.Generator())

    return step


@every_family
def test_each_action_moves_as_documented_and_stops_at_the_edges(family):
    last = SIZES[family] - 1
    task = [0, 0] if family is DOOR else [0]
    found = (0.0, 0.0) if family is DOOR else ()
    for x, y in [(2, 3), (0, 0), (last, last), (0, last)]:
        step = placed(family, task, x, y, *found)
        for action, (dx, dy) in enumerate(MOVES[family]):
            led = family.observe(step(action).states)[0, 0].tolist()
            assert led == [min(max(x + dx, 0), last), min(max(y + dy, 0), last)]


def test_grid_navigation_has_reward_1_on_the_goal_and_minus_a_tenth_elsewhere():
    env = GRID.make_batch([[0]], num_envs=2)  # the goal is (0, 2)
    assert not env.reset(torch.Generator()).any()
    up, stay, right = 1, 0, 2
    rewards = [env.step(act(up, a)).rewards[0].tolist() for a in (up, up)]
    np.testing.assert_allclose(rewards, [[-0.1, -0.1], [1.0, 1.0]], rtol=1e-6)
    step = env.step(act(stay, right))  # (0, 2) and (1, 2)
    np.testing.assert_allclose(step.rewards[0], [1.0, -0.1], rtol=1e-6)
    assert step.observations.tolist() == [[[0, 2], [1, 2]]]


def test_goals_of_grid_navigation_are_all_cells_off_the_starts_block():
    block = [[0, 0], [0, 1], [1, 0], [1, 1]]
    cells = [[x, y] for x in range(5) for y in range(5) if [x, y] not in block]
    goals = GRID.prepare(torch.arange(21.0).unsqueeze(1)).goals
    assert goals[:, 0].tolist() == cells
    assert set(GRID.sample_tasks(400, seed=0)[:, 0]) == set(range(21))
    with pytest.raises(ValueError, match=r"tasks must lie in Discrete\(21\), got \[21\.0\]"):
        GRID.check_tasks([[21]])


def test_the_oracle_of_grid_navigation_has_the_published_maximum_return():
    got = run_oracle(GRID, np.arange(21.0)[:, None])
    away = np.array([x + y for x in range(5) for y in range(5) if x > 1 or y > 1])
    np.testing.assert_allclose(got.returns[:, 0], (16 - away) - 0.1 * (away - 1), rtol=1e-5)
    assert got.returns.mean() == pytest.approx(11.0714, abs=1e-4)


def test_the_oracle_of_the_dark_room_has_the_published_maximum_return():
    got = run_oracle(DPT, np.arange(100.0)[:, None])
    away = np.array([x + y for x in range(10) for y in range(10)])
    assert got.returns[:, 0].tolist() == (101 - np.maximum(away, 1)).tolist()
    assert got.returns.mean() == pytest.approx(91.99, abs=1e-4)


def test_the_oracle_of_the_smaller_dark_room_starts_at_its_center():
    got = run_oracle(AD, np.arange(81.0)[:, None])
    assert (got.observations[:, 0, 0] == 4).all()
    away = np.array([abs(x - 4) + abs(y - 4) for x in range(9) for y in range(9)])
    assert got.returns[:, 0].tolist() == (21 - np.maximum(away, 1)).tolist()


def test_a_dark_room_rewards_every_step_that_leads_to_the_goal():
    env = DPT.make_batch([[12]], num_envs=3)  # (1, 2)
    assert not env.reset(torch.Generator()).any()
    rewards = [
        env.step(act(*actions)).rewards[0].tolist()
        for actions in (
            (RIGHT, UP, UP),
            (UP, RIGHT, UP),
            (UP, UP, RIGHT),
            (STAY, UP, LEFT),
            (STAY, DOWN, RIGHT),
        )
    ]
    assert rewards == [[0, 0, 0], [0, 0, 0], [1, 1, 1], [1, 0, 0], [1, 1, 1]]


def test_a_key_is_rewarded_once_then_the_door_once():
    key, door = 9 * 4 + 5, 9 * 4 + 4
    found = placed(DOOR, [key, door], 4, 4, 0, 0)
    assert float(found(STAY).rewards) == 0  # no key yet
    took = found(UP)
    assert took.states[0, 0].tolist() == [4, 5, 1, 0]
    assert float(took.rewards) == 1
    assert float(placed(DOOR, [key, door], 4, 5, 1, 0)(STAY).rewards) == 0
    opened = placed(DOOR, [key, door], 4, 5, 1, 0)(DOWN)
    assert opened.states[0, 0].tolist() == [4, 4, 1, 1]
    assert float(opened.rewards) == 1
    assert float(placed(DOOR, [key, door], 4, 4, 1, 1)(STAY).rewards) == 0
    assert float(placed(DOOR, [key, door], 4, 4, 1, 1)(UP).rewards) == 0
    assert opened.terminated is None


def test_key_and_door_in_one_cell_are_rewarded_together():
    got = placed(DOOR, [30, 30], 3, 4, 0, 0)(DOWN)  # 30 is (3, 3)
    assert float(got.rewards) == 2
    assert got.states[0, 0].tolist() == [3, 3, 1, 1]


def test_the_oracle_finds_key_and_door_on_a_shortest_path_from_every_start():
    tasks = np.concatenate([[[0, 80], [80, 0], [40, 40]], DOOR.sample_tasks(20, seed=0)])
    got = run_oracle(DOOR, tasks, num_envs=20)
    assert (got.returns == 2).all()
    starts = got.observations[:, :, 0].numpy()
    for (n, e), first in np.ndenumerate(got.rewards.argmax(-1).numpy()):
        key, door = (np.array(divmod(int(i), 9)) for i in tasks[n])
        to_key = max(abs(starts[n, e] - key).sum(), 1)
        assert first + 1 == to_key
        last = int(got.rewards[n, e].nonzero()[-1])
        assert last + 1 == to_key + abs(key - door).sum()


def test_found_objects_are_not_observed_and_starts_are_uniform():
    env = DOOR.make_batch([[0, 1]], num_envs=3000)
    starts = env.reset(torch.Generator().manual_seed(0))
    assert starts.shape == (1, 3000, 2)
    cells, counts = torch.unique(9 * starts[..., 0] + starts[..., 1], return_counts=True)
    assert cells.tolist() == list(range(81))
    assert counts.min() > 10
    assert torch.equal(starts, env.reset(torch.Generator().manual_seed(0)))
    assert not torch.equal(starts, env.reset(torch.Generator().manual_seed(1)))


def test_a_new_episode_has_no_key():
    env = DOOR.make_batch([[0, 80]], num_envs=1)
    for _ in range(2):
        env.reset(torch.Generator().manual_seed(0))
        earned = sum(float(env.step(env.oracle_actions()).rewards) for _ in range(50))
        assert earned == 2


def test_the_dark_room_holds_out_the_same_test_goals_as_its_source():
    train = np.unique(DPT.sample_tasks(80, split="train", seed=0))
    test = np.unique(DPT.sample_tasks(20, split="test", seed=0))
    kept = [9, 12, 21, 25, 36, 37, 39, 44, 46, 47, 58, 64, 65, 67, 70, 81, 83, 87, 88, 96]
    assert test.tolist() == kept
    assert sorted([*train, *test]) == list(range(100))
    assert DPT.shared_tasks == "none"


def test_the_other_grids_sample_all_tasks_in_both_splits():
    for split in ("train", "test"):
        assert set(AD.sample_tasks(1000, split=split, seed=0)[:, 0]) == set(range(81))
        sampled = DOOR.sample_tasks(1000, split=split, seed=0)
        assert [set(column) for column in sampled.T] == [set(range(81))] * 2
    assert all(family.shared_tasks == "all" for family in (GRID, AD, DOOR))


@every_family
def test_each_family_has_its_published_parameters_and_is_truncated_at_its_horizon(family):
    horizon = {GRID: 15, DPT: 100, AD: 20, DOOR: 50}[family]
    assert family.horizon == horizon
    assert family.action_space.n == 5
    assert family.observation_space.high.tolist() == [SIZES[family] - 1] * 2
    got = run_oracle(family, family.sample_tasks(5, seed=0), num_envs=2)
    assert not got.terminated.any()
    assert torch.equal(got.truncated.nonzero()[:, 2].unique(), torch.tensor([horizon - 1]))


@every_family
def test_a_reset_of_some_environments_leaves_the_others_bitwise_equal(family):
    where = torch.tensor([[True, False, False], [False, False, True]])
    generator = torch.Generator().manual_seed(3)
    actions = [torch.randint(5, (2, 3), generator=generator) for _ in range(10)]
    before, after = last_step_without_and_with_reset(family, actions, where)
    assert torch.equal(before.observations[~where], after.observations[~where])
    assert torch.equal(before.rewards[~where], after.rewards[~where])
    assert not torch.equal(before.observations[where], after.observations[where])


@every_family
def test_images_show_the_state_after_the_step(family):
    env = family.make_batch(family.sample_tasks(2, seed=0), num_envs=1)
    env.reset(torch.Generator().manual_seed(0))
    before = env.render(0, 0)
    env.step(torch.tensor([[2], [2]]))  # right, or up in the dark
    assert before.shape == (SIZES[family] * (240 // SIZES[family]),) * 2 + (3,)
    assert not np.array_equal(before, env.render(0, 0))


def test_the_key_is_rendered_until_it_is_found():
    task = np.array([0.0, 80.0])
    hidden, held = (DOOR.render_state(np.array([4.0, 4.0, key, 0.0]), task) for key in (0, 1))
    assert not np.array_equal(hidden, held)


def test_actions_that_are_not_indices_are_rejected():
    env = GRID.make_batch([[0]], num_envs=2)
    env.reset(torch.Generator())
    with pytest.raises(TypeError, match=r"actions must be int64 indices, got torch\.float32"):
        env.step(torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"actions must have shape \(1, 2\)"):
        env.step(act(0, 0, 0))
    with pytest.raises(IndexError):
        env.step(act(0, 5))


@pytest.mark.parametrize("kind", [GridNavigation, DarkRoom, KeyToDoor])
def test_an_unknown_variant_is_rejected(kind):
    message = f"variant of {kind.name} must be one of {', '.join(kind.variants)}, got 'varybad'"
    with pytest.raises(ValueError, match=re.escape(message)):
        kind("varybad")
