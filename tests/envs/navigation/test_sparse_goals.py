"""Sparse, corner and windy points: rewards by hand at boundaries, exact oracles, tasks by split."""

import math
import re

import numpy as np
import pytest
import torch
from family_runs import last_step_without_and_with_reset, run_oracle
from torch import Tensor

from metarl.envs.navigation.sparse_goals import CornerPoint, SparsePointRobot
from metarl.envs.navigation.windy import WindyPoint
from metarl.rollouts.episodes import collect

SPARSE = {variant: SparsePointRobot(variant) for variant in SparsePointRobot.variants}
WINDY = {variant: WindyPoint(variant) for variant in WindyPoint.variants}
CORNERS = CornerPoint("promp")
ALL = [*SPARSE.values(), CORNERS, *WINDY.values()]
every_family = pytest.mark.parametrize("family", ALL, ids=lambda family: family.id)


def point(x: float, y: float) -> Tensor:
    """A position or an action of one environment of one task."""
    return torch.tensor([[[x, y]]], dtype=torch.float32)


def transition(family, position, action, task):
    """One step from a given position."""
    parameters = family.prepare(torch.tensor([task], dtype=torch.float32))
    return family.transition(point(*position), point(*action), parameters, torch.Generator())


@pytest.mark.parametrize(
    ("variant", "horizon", "divisor"),
    [("pearl", 20, 10.0), ("varibad", 100, 10.0), ("borel", 60, 10.0), ("metacure", 32, 10.0)],
)
def test_each_sparse_variant_has_its_published_parameters(variant, horizon, divisor):
    family = SPARSE[variant]
    assert (family.horizon, family.action_divisor) == (horizon, divisor)
    assert family.shared_tasks == "none"


def test_the_other_families_have_their_published_parameters():
    assert (CORNERS.horizon, CORNERS.action_divisor, CORNERS.shared_tasks) == (100, 50, "all")
    for family in WINDY.values():
        assert (family.horizon, family.action_divisor) == (75, 10)
        assert family.shared_tasks == "none"


@pytest.mark.parametrize(
    ("variant", "distance", "reward"),
    [
        ("pearl", 0.0, 1.0),
        ("pearl", 0.19, 0.81),
        ("pearl", 0.21, 0.0),
        ("varibad", 0.15, 0.85),
        ("varibad", 0.21, 0.0),
        ("metacure", 0.29, 0.71),
        ("metacure", 0.31, 0.0),
        ("borel", 0.0, 1.0),
        ("borel", 0.19, 1.0),
        ("borel", 0.21, 0.0),
    ],
)
def test_a_sparse_point_is_rewarded_within_the_radius_after_the_step(variant, distance, reward):
    angle = 2.0
    goal = np.array([math.cos(angle), math.sin(angle)])
    aim = goal + distance * np.array([0.8, -0.6])
    got = transition(SPARSE[variant], aim - [0.04, -0.09], (0.04, -0.09), [angle])
    assert float(got.rewards) == pytest.approx(reward, abs=1e-5)
    torch.testing.assert_close(got.states, point(*aim.tolist()))
    assert got.terminated is None


@pytest.mark.parametrize(
    ("family", "max_displacement"),
    [(SPARSE["pearl"], 0.1), (CORNERS, 0.2)],
    ids=["sparse", "corner"],
)
def test_each_coordinate_of_a_step_is_clipped(family, max_displacement):
    got = transition(family, (0.3, 0.4), (7.0, -0.15), [1.0])
    torch.testing.assert_close(
        got.states, point(0.3 + max_displacement, 0.4 - min(max_displacement, 0.15))
    )
    assert family.action_space.high.tolist() == pytest.approx([max_displacement, max_displacement])


def test_only_borel_starts_off_the_origin_anywhere_in_its_rectangle():
    for variant, family in SPARSE.items():
        env = family.make_batch([[1.0], [2.0]], num_envs=2000)
        starts = env.reset(torch.Generator().manual_seed(0))
        if variant != "borel":
            assert not starts.any()
            continue
        low, high = starts.amin((0, 1)).tolist(), starts.amax((0, 1)).tolist()
        assert low == pytest.approx([-1.5, -0.5], abs=0.01)
        assert high == pytest.approx([1.5, 1.5], abs=0.01)
        assert not torch.equal(starts, env.reset(torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("variant", ["pearl", "varibad", "metacure"])
def test_the_oracle_of_a_sparse_point_has_the_return_computed_by_hand(variant):
    family = SPARSE[variant]
    radius = 0.3 if variant == "metacure" else 0.2
    angles = [0.0, 0.7, math.pi / 2, math.pi]
    got = run_oracle(family, [[angle] for angle in angles])
    for angle, earned in zip(angles, got.returns[:, 0].tolist(), strict=True):
        dx, dy = abs(math.cos(angle)), math.sin(angle)
        away = [
            math.hypot(max(dx - 0.1 * t, 0), max(dy - 0.1 * t, 0))
            for t in range(1, family.horizon + 1)
        ]
        rewards = [1 - d for d in away if d <= radius + 1e-6]
        assert earned == pytest.approx(sum(rewards), abs=1e-3)
    assert not got.terminated.any()


@pytest.mark.parametrize(
    ("variant", "num_train", "test_steps"),
    [
        (
            "pearl",
            80,
            [1, 6, 9, 22, 23, 24, 27, 39, 54, 61, 66, 72, 82, 84, 88, 89, 90, 92, 96, 99],
        ),
        (
            "metacure",
            40,
            [1, 6, 8, 9, 18, 20, 23, 24, 25, 26, 27, 28, 29, 39, 40, 47, 50, 53, 56, 59],
        ),
    ],
)
def test_fixed_angles_are_split_as_in_the_source(variant, num_train, test_steps):
    family, last = SPARSE[variant], num_train + 19
    train = np.unique(family.sample_tasks(num_train, split="train", seed=0))
    test = np.unique(family.sample_tasks(20, split="test", seed=0))
    np.testing.assert_allclose(test, np.array(test_steps) * math.pi / last, rtol=1e-12)
    every = np.sort(np.concatenate([train, test]))
    np.testing.assert_allclose(every, np.linspace(0, math.pi, last + 1), rtol=1e-12)


@pytest.mark.parametrize("variant", ["varibad", "borel"])
def test_free_angles_fill_the_half_circle(variant):
    angles = SPARSE[variant].sample_tasks(2000, seed=0)
    assert angles.min() < 0.01
    assert angles.max() > math.pi - 0.01
    assert angles.mean() == pytest.approx(math.pi / 2, abs=0.1)


def test_an_angle_beyond_the_half_circle_is_rejected():
    with pytest.raises(ValueError, match=r"tasks must lie in Box.*got \[3\.15\]"):
        SPARSE["varibad"].make_batch([[3.15]], num_envs=1)


@pytest.mark.parametrize(
    ("position", "action", "corner", "reward"),
    [
        ((1.0, 1.0), (0.2, 0.2), 3, 0.2 * math.sqrt(2)),
        (
            (1.0, 1.0),
            (-0.2, -0.2),
            3,
            -0.2 * math.sqrt(2),
        ),  # moving away costs as much as moving closer gives
        ((1.0, 1.0), (0.1, 0.0), 3, math.sqrt(2) - math.sqrt(1.81)),
        ((1.0, 1.0), (0.2, 0.2), 0, 0.0),  # another corner is nearer
        ((1.0, 1.0), (0.2, 0.2), 1, 0.0),
        ((-1.0, 1.0), (0.0, 0.2), 2, math.sqrt(2) - math.sqrt(1.64)),
        ((1.0, -1.0), (0.2, 0.0), 1, math.sqrt(2) - math.sqrt(1.64)),
        ((0.2, 0.2), (0.05, 0.0), 3, 0.0),  # ‖s'‖₁ = .45
        ((0.2, 0.2), (0.12, 0.0), 3, math.hypot(1.8, 1.8) - math.hypot(1.68, 1.8)),
        ((0.4, 0.2), (-0.2, 0.0), 3, 0.0),  # back into the unrewarded zone, at no cost
    ],
)
def test_a_corner_rewards_progress_in_its_quadrant_and_far_from_the_start(
    position, action, corner, reward
):
    got = transition(CORNERS, position, action, [corner])
    assert float(got.rewards) == pytest.approx(reward, abs=1e-6)
    assert got.terminated is None


def test_corner_episodes_start_in_a_small_square():
    env = CORNERS.make_batch([[0], [3]], num_envs=2000)
    starts = env.reset(torch.Generator().manual_seed(0))
    assert starts.amin((0, 1)).tolist() == pytest.approx([-0.2, -0.2], abs=0.002)
    assert starts.amax((0, 1)).tolist() == pytest.approx([0.2, 0.2], abs=0.002)


def test_all_four_corners_are_sampled_in_both_splits():
    for split in ("train", "test"):
        sampled = CORNERS.sample_tasks(400, split=split, seed=0)
        assert set(sampled[:, 0]) == {0, 1, 2, 3}
        assert min(np.unique(sampled, return_counts=True)[1]) > 70
    with pytest.raises(ValueError, match=r"tasks must lie in Discrete\(4\), got \[4\.0\]"):
        CORNERS.check_tasks([[4]])


def test_the_oracle_of_the_corners_is_rewarded_for_53_or_54_full_steps():
    got = run_oracle(CORNERS, [[0], [1], [2], [3]], num_envs=100)
    signs = torch.tensor([[-1, -1], [1, -1], [-1, 1], [1, 1]]).unsqueeze(1)
    one_step_away = (got.observations[:, :, 0] * signs >= 0).all(-1)
    full_steps = torch.where(one_step_away, 54.0, 53.0)
    torch.testing.assert_close(got.returns, full_steps * 0.2 * math.sqrt(2), atol=1e-3, rtol=0)
    assert one_step_away.any()
    assert not one_step_away.all()


def test_walking_straight_to_the_corner_has_the_return_of_the_warning():
    env = CORNERS.make_batch([[3]], num_envs=500)
    got = collect(
        env, lambda position: (2 - position).clamp(-0.2, 0.2), torch.Generator().manual_seed(0)
    )
    assert got.returns.mean() == pytest.approx(2.6, abs=0.05)
    assert (
        "return of 15, while moving to the corner, as intended, has a return of 2.6"
        in CORNERS.warning
    )


@pytest.mark.parametrize(
    ("action", "wind", "position"),
    [
        ((0.05, -0.02), (0.03, 0.08), (0.08, 0.06)),
        ((0.5, 0.0), (-0.08, 0.01), (0.02, 0.01)),  # the action is clipped, the wind is not
        ((-0.3, 0.1), (-0.08, 0.08), (-0.18, 0.18)),
    ],
)
def test_the_wind_is_added_to_the_clipped_step(action, wind, position):
    got = transition(WINDY["borel"], (0.0, 0.0), action, wind)
    torch.testing.assert_close(got.states, point(*position))
    assert float(got.rewards) == 0
    assert got.terminated is None


@pytest.mark.parametrize(
    ("offset", "reward"),
    [((0.0, 0.0), 1), ((0.02, -0.02), 1), ((0.0, 0.031), 0), ((0.025, 0.02), 0)],
)
def test_a_windy_point_has_reward_1_within_three_hundredths_of_the_goal(offset, reward):
    start = (offset[0] - 0.01, 1 + offset[1] - 0.02)
    got = transition(WINDY["pomdp"], start, (0.05, -0.03), (-0.04, 0.05))
    assert float(got.rewards) == reward


@pytest.mark.parametrize(
    ("wind", "first_rewarded"),
    [
        ((0.0, 0.0), 10),  # .1 a step
        ((0.08, 0.08), 6),  # .18 a step: 6 to reach .97
        ((-0.08, -0.08), 49),  # .02 a step
        ((0.05, -0.05), 20),
    ],
)
def test_the_oracle_reaches_the_windy_goal_as_soon_as_possible_and_stays(wind, first_rewarded):
    got = run_oracle(WINDY["borel"], [wind])
    assert got.rewards[0, 0].tolist() == [0.0] * (first_rewarded - 1) + [1.0] * (
        76 - first_rewarded
    )
    assert got.num_steps == 75


def test_fixed_winds_are_split_as_in_the_source():
    family = WINDY["pomdp"]
    train = np.unique(family.sample_tasks(40, split="train", seed=0), axis=0)
    test = np.unique(family.sample_tasks(20, split="test", seed=0), axis=0)
    assert (len(train), len(test)) == (40, 20)
    first, first_of_test = [-0.03807605, -0.05461056], [0.03583166, 0.04688369]
    assert np.isclose(train, first, atol=1e-8).all(axis=1).any()
    assert np.isclose(test, first_of_test, atol=1e-8).all(axis=1).any()
    assert not np.isin(test, train).any()


def test_free_winds_fill_the_square():
    winds = WINDY["borel"].sample_tasks(2000, seed=0)
    assert winds.min(axis=0) == pytest.approx([-0.08, -0.08], abs=1e-3)
    assert winds.max(axis=0) == pytest.approx([0.08, 0.08], abs=1e-3)


@every_family
def test_episodes_are_cut_at_the_horizon_and_end_in_no_other_way(family):
    got = run_oracle(family, family.sample_tasks(5, seed=0), num_envs=2)
    assert not got.terminated.any()
    assert got.mask.all()
    assert torch.equal(got.truncated.nonzero()[:, 2].unique(), torch.tensor([family.horizon - 1]))


@every_family
def test_a_reset_of_some_environments_leaves_the_others_bitwise_equal(family):
    where = torch.tensor([[True, False, False], [False, False, True]])
    generator = torch.Generator().manual_seed(3)
    actions = [0.2 * torch.rand(2, 3, 2, generator=generator) - 0.1 for _ in range(6)]
    before, after = last_step_without_and_with_reset(family, actions, where)
    assert torch.equal(before.observations[~where], after.observations[~where])
    assert torch.equal(before.rewards[~where], after.rewards[~where])
    assert (before.observations[where] != after.observations[where]).all()


@every_family
def test_images_show_the_state_after_the_step(family):
    env = family.make_batch(family.sample_tasks(2, seed=0), num_envs=2)
    env.reset(torch.Generator().manual_seed(0))
    before = [env.render(task, 1) for task in (0, 1)]
    env.step(torch.tensor([[[0.0, 0.0], [0.1, 0.1]], [[0.0, 0.0], [-0.1, 0.1]]]))
    for task, image in enumerate(before):
        assert image.shape == (240, 240, 3)
        assert not np.array_equal(image, env.render(task, 1))


@pytest.mark.parametrize("kind", [SparsePointRobot, CornerPoint, WindyPoint])
def test_an_unknown_variant_is_rejected_with_the_nearest(kind):
    near = kind.variants[-1]
    message = f"variant of {kind.name} must be one of {', '.join(kind.variants)}, got '{near}x'"
    with pytest.raises(ValueError, match=re.escape(f"{message}; did you mean {near!r}?")):
        kind(near + "x")
