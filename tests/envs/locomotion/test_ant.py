"""The Ant families: physics, contact forces, rewards and tasks of every variant."""

from collections.abc import Iterator

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.envs.locomotion.ant import AntDir, AntVel
from metarl.envs.locomotion.ant_goals import AntGoal, AntGoalSparse
from metarl.envs.simulators import mujoco_sensors
from metarl.envs.simulators.mujoco_family import ControlStep, MujocoFamily, MujocoFamilyBatch

Array = NDArray[np.float64]
FAMILIES = [
    family(v) for family in (AntVel, AntDir, AntGoal, AntGoalSparse) for v in family.variants
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def _log_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """MuJoCo writes a log of its warnings into the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def batch() -> Iterator[MujocoFamilyBatch]:
    """Three environments of each of two tasks of "AntVel:cavia", reset."""
    made = AntVel("cavia").make_batch(np.array([[0.5], [2.5]]), num_envs=3)
    made.reset(generator())
    yield made
    made.close()


def walk(batch: MujocoFamilyBatch, steps: int) -> Iterator[tuple[Array, Array, Tensor, Tensor]]:
    """Random steps: positions and velocities before, actions [6, 8], observations [6, O]."""
    source = generator(1)
    for _ in range(steps):
        qpos, qvel = batch.physics.qpos.copy(), batch.physics.qvel.copy()
        actions = 2 * torch.rand(2, 3, 8, generator=source, dtype=torch.float64) - 1
        observations = batch.step(actions).observations
        yield qpos, qvel, actions.view(6, 8), observations.view(6, -1)


def test_every_control_step_equals_gymnasiums_from_the_same_state(batch):
    reference = gymnasium.make("Ant-v5").unwrapped
    reference.reset(seed=0)
    data, in_contact = reference.data, 0
    for qpos, qvel, actions, _ in walk(batch, 40):
        for i in (0, 4):
            reference.set_state(qpos[i], qvel[i])
            data.qacc_warmstart[:] = (
                0  # the constraint solver's tolerance: the batch has no warm start
            )
            reference.step(actions[i].numpy())
            in_contact += data.ncon > 0
            np.testing.assert_allclose(batch.physics.qpos[i], data.qpos, rtol=0, atol=1e-8)
            np.testing.assert_allclose(batch.physics.qvel[i], data.qvel, rtol=0, atol=1e-8)
    reference.close()
    assert in_contact > 20


def test_initial_states_of_maml17_have_the_pose_and_noise_of_rllab():
    """maml_rl vendor/mujoco_models/ant.xml:5, rllab/envs/mujoco/mujoco_env.py:78-83, 108-113."""
    env = AntVel("maml17").make_batch(np.array([[0.5]]), num_envs=2000)
    env.reset(generator())
    pose = [0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1]
    np.testing.assert_allclose(env.physics.qpos.mean(0), pose, rtol=0, atol=5 * 0.01 / 44)
    np.testing.assert_allclose(env.physics.qpos.std(0), 0.01, rtol=5 / np.sqrt(4000))
    np.testing.assert_allclose(env.physics.qvel.mean(0), 0, rtol=0, atol=5 * 0.1 / 44)
    np.testing.assert_allclose(env.physics.qvel.std(0), 0.1, rtol=5 / np.sqrt(4000))
    assert (env.physics.model.geom_solimp[:, :3] == [0.8, 0.8, 0.01]).all()  # ant.xml:9
    env.close()


def test_contact_forces_are_those_of_mujoco_in_the_observed_state(batch):
    model = batch.physics.model
    data, largest = mujoco.MjData(model), 0.0
    for _, _, actions, _ in walk(batch, 60):
        forces = mujoco_sensors.contact_forces(batch.physics.sensors, 13)
        for i in range(6):
            data.qpos[:], data.qvel[:] = batch.physics.qpos[i], batch.physics.qvel[i]
            data.ctrl[:], data.qacc_warmstart[:] = actions[i], 0
            mujoco.mj_forward(model, data)
            mujoco.mj_rnePostConstraint(model, data)
            np.testing.assert_allclose(forces[i], data.cfrc_ext, rtol=0, atol=1e-8)
            largest = max(largest, abs(data.cfrc_ext).max())
    assert largest > 50


def test_the_long_observation_has_the_layout_of_the_rllab_ant(batch):
    model = batch.physics.model
    data, clipped = mujoco.MjData(model), 0
    for _, _, actions, observations in walk(batch, 40):
        for i in range(6):
            data.qpos[:], data.qvel[:] = batch.physics.qpos[i], batch.physics.qvel[i]
            data.ctrl[:], data.qacc_warmstart[:] = actions[i], 0
            mujoco.mj_forward(model, data)
            mujoco.mj_rnePostConstraint(model, data)
            torso = data.body("torso")
            contacts = np.clip(data.cfrc_ext, -1, 1).ravel()
            parts = (data.qpos, data.qvel, contacts, torso.xmat, torso.xpos)
            expected = torch.tensor(np.concatenate(parts)).float()
            torch.testing.assert_close(observations[i], expected, rtol=1e-6, atol=1e-6)
            clipped += (abs(contacts) == 1).sum()
    assert clipped > 100


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.id)
def test_every_variant_observes_what_its_source_does(family):
    sizes = {
        "maml17": 125,
        "cavia": 125,
        "pytorch-maml-rl": 125,
        "promp": 111,
        "promp-2d": 111,
        "learn2learn": 111,
        "pearl": 27,
        "pearl-forward-backward": 27,
        "varibad": 27,
        "ldm": 27,
        "hyperx": 116,
        "metacure": 113,
    }
    size = sizes[family.variant]
    if family.name == "AntGoal" and size != 125:
        size = 113  # also the torso's position
    made = family.make_batch(family.sample_tasks(1, seed=0), num_envs=2)
    observations = made.reset(generator()).view(2, -1)
    for _ in range(20):  # down to the ground
        observations = made.step(torch.ones(1, 2, 8)).observations.view(2, -1)
    qpos, qvel = made.physics.qpos, made.physics.qvel
    contacts = np.clip(mujoco_sensors.contact_forces(made.physics.sensors, 13), -1, 1)
    place, joints, forces = qpos[:, :3], qpos[:, 2:], contacts.reshape(2, 84)
    layouts = {27: (joints, qvel), 111: (joints, qvel, forces), 113: (qpos, qvel, forces)}
    layouts[116] = (place, qpos, qvel, forces)
    expected = np.concatenate(layouts.get(size, (qpos, qvel, forces)), axis=1)
    made.close()
    assert abs(forces).max() == 1
    assert family.observation_space.shape == (size,) == observations.shape[1:]
    torch.testing.assert_close(
        observations[:, : expected.shape[1]], torch.tensor(expected).float(), rtol=0, atol=0
    )


def reward(family: MujocoFamily, task: list[float], end=(0.3, 0.4), way=(0.1, 0.05)) -> float:
    """Reward of a step along `way` that ends at `end`; ‖a‖² = 1.25, Σ clip(cfrc_ext)² = 2.5."""
    qpos = np.zeros((1, 15))
    qpos[0, :2] = end
    before = qpos.copy()
    before[0, :2] -= way
    contacts = np.zeros((1, 84))
    contacts[0, :3] = 1.0, -1.0, np.sqrt(0.5)
    controls = np.array([[0.5, -1.0, 0, 0, 0, 0, 0, 0]])
    moves = ControlStep(
        *(qpos, np.zeros((1, 14)), contacts, np.array([task]), controls),
        *(before, np.zeros((1, 84)), controls),
    )
    return float(family.reward(moves)[0])


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.id)
def test_actions_beyond_the_bounds_cost_what_the_source_charges(family):
    """‖(4, 0, …)‖² is 16, and 1 after clipping.

    varibad ant_dir.py:24-33 and ant_goal.py:16-25, LDM ant_dir.py:25-37 and ant_goal.py:20-30, and
    hyperx ant_goal.py:75-91 square the action that the policy returned; no wrapper clips it. In
    the other sources a wrapper clips before the step.
    """
    batches = [family.make_batch(family.sample_tasks(1, seed=0), num_envs=1) for _ in range(2)]
    rewards = []
    for batch, size in zip(batches, (1.0, 4.0), strict=True):
        batch.reset(generator())
        actions = torch.zeros(1, 1, 8)
        actions[..., 0] = size
        rewards.append(float(batch.step(actions).rewards))
        batch.close()
    assert np.array_equal(batches[0].physics.qpos, batches[1].physics.qpos)
    charges = family.variant in ("varibad", "ldm", "hyperx")
    cost = {"AntDir": 0.5, "AntGoal": 0.1, "AntGoalSparse": 0.01}[family.name] if charges else 0.0
    assert rewards[0] - rewards[1] == pytest.approx(15 * cost, abs=1e-5)


COSTS = {  # 0.0005 · 2.5 and the control cost of 1.25
    "small": 0.00125 + 0.005 * 1.25,
    "large": 0.00125 + 0.5 * 1.25,
    "goal": 0.00125 + 0.1 * 1.25,
    "sparse": 0.00125 + 0.01 * 1.25,
}


@pytest.mark.parametrize("variant", ["cavia", "pytorch-maml-rl"])
def test_the_velocity_reward_decreases_with_the_distance_from_the_target(variant):
    family = AntVel(variant)  # v = 0.1 m / 0.05 s = 2 m/s
    assert reward(family, [2.0]) == pytest.approx(1.05 - COSTS["small"])
    assert reward(family, [0.5]) == pytest.approx(1.05 - 1.5 - COSTS["small"])
    assert reward(family, [2.75]) == pytest.approx(1.05 - 0.75 - COSTS["small"])


@pytest.mark.parametrize("variant", ["cavia", "pytorch-maml-rl", "promp"])
def test_forward_and_backward_lie_along_x(variant):
    family = AntDir(variant)
    rest = 1 - COSTS["large"] if variant == "promp" else 0.05 - COSTS["small"]
    assert reward(family, [1]) == pytest.approx(2 + rest)
    assert reward(family, [0]) == pytest.approx(-2 + rest)


@pytest.mark.parametrize("variant", ["promp-2d", "learn2learn", "pearl", "ldm"])
def test_other_directions_are_angles(variant):
    family, rest = AntDir(variant), 1 - COSTS["large"]
    assert reward(family, [0.0]) == pytest.approx(2 + rest)
    assert reward(family, [np.pi / 2]) == pytest.approx(1 + rest)
    assert reward(family, [np.pi]) == pytest.approx(-2 + rest)
    assert reward(family, [7 * np.pi / 4]) == pytest.approx(np.sqrt(0.5) + rest)


def test_the_faulty_variant_keeps_its_fault_and_has_a_warning():
    """Trap: cos and sin of ±1.0 put "forward" and "backward" at ±57°."""
    family, rest = AntDir("varibad"), 1 - COSTS["large"]
    assert reward(family, [1]) == pytest.approx(2 * np.cos(1) + np.sin(1) + rest)
    assert reward(family, [0]) == pytest.approx(2 * np.cos(1) - np.sin(1) + rest)
    assert "±1 radian" in family.warning
    assert "Warning: the directions are ±1 radian" in family.description
    warned = [family.id for family in FAMILIES if family.warning]
    assert warned == ["AntVel:maml17", "AntDir:maml17", "AntDir:varibad", "AntGoal:maml17"]


@pytest.mark.parametrize("variant", sorted({*AntGoal.variants} - {"maml17"}))
def test_the_goal_reward_is_minus_the_taxicab_distance(variant):
    family = AntGoal(variant)
    dense = variant in ("maml17", "cavia", "pytorch-maml-rl")
    rest = 4.05 - COSTS["small"] if dense else -COSTS["goal"]
    assert reward(family, [1.0, -1.0]) == pytest.approx(-0.7 - 1.4 + rest)
    assert reward(family, [0.3, 0.4]) == pytest.approx(rest)


def test_the_sparse_goal_of_hyperx_is_rewarded_within_a_radius():
    family = AntGoalSparse("hyperx")
    assert reward(family, [0.3, 1.1]) == pytest.approx(1 - 0.7 - COSTS["sparse"])
    assert reward(family, [0.3, 1.2]) == pytest.approx(-0.75 - COSTS["sparse"])


def test_the_sparse_goal_of_metacure_subtracts_the_costs_twice_near_the_goal():
    family = AntGoalSparse("metacure")
    near = 2 - 0.6 - 2 * COSTS["goal"]
    assert reward(family, [0.3, 1.0]) == pytest.approx(near)
    assert reward(family, [0.3, 1.1]) == pytest.approx(-COSTS["goal"])  # −0.7 − costs < −0.8


def test_success_is_defined_as_in_hyperx():
    family = AntGoalSparse("hyperx")
    made = family.make_batch(np.array([[0.0, 0.0], [2.0, 0.0]]), num_envs=2)
    made.reset(generator())
    step = made.step(torch.zeros(2, 2, 8))
    made.close()
    assert step.success is not None
    assert step.success.tolist() == [[True, True], [False, False]]
    metacure = AntGoalSparse("metacure").make_batch(np.array([[0.0, 1.0]]), num_envs=1)
    metacure.reset(generator())
    assert metacure.step(torch.zeros(1, 1, 8)).success is None
    metacure.close()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.id)
def test_episodes_end_by_height_in_the_variants_of_sources_that_do_so(family):
    heights = np.array([-0.01, 0.01, 0.19, 0.21, 0.99, 1.01])
    qpos = np.zeros((6, 15))
    qpos[:, 2] = heights
    nothing = np.zeros((6, 1))
    moves = ControlStep(qpos, nothing, nothing, nothing, nothing, qpos, nothing, nothing)
    ends = family.terminated(moves)
    never = family.name == "AntGoalSparse" or (
        family.name == "AntGoal" and family.variant not in ("maml17", "cavia", "pytorch-maml-rl")
    )
    if never:
        assert ends is None
    elif family.variant in ("promp", "promp-2d", "learn2learn"):
        assert ends.tolist() == [True, False, False, False, False, True]
    else:
        assert ends.tolist() == [True, True, True, False, False, True]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.id)
def test_every_variant_has_the_steps_and_action_divisor_of_its_source(family):
    horizon = {"pytorch-maml-rl": 100, "learn2learn": 100, "metacure": 32}.get(family.variant, 200)
    scaled = family.variant in ("pytorch-maml-rl", "promp", "promp-2d")
    assert (family.horizon, family.action_divisor) == (horizon, 10 if scaled else 1)


def test_forward_and_backward_of_pearl_are_equally_many_tasks():
    family, rest = AntDir("pearl-forward-backward"), 1 - COSTS["large"]
    assert reward(family, [1]) == pytest.approx(2 + rest)
    assert reward(family, [0]) == pytest.approx(-2 + rest)
    tasks = family.sample_tasks(10, seed=0)[:, 0]
    assert (tasks.reshape(5, 2).sum(axis=1) == 1).all()


def radii(family: MujocoFamily, num_tasks: int = 600, split: str = "train") -> Array:
    tasks = family.sample_tasks(num_tasks, split=split, seed=0)
    assert abs(np.arctan2(tasks[:, 1], tasks[:, 0])).max() > 3  # all around
    return np.linalg.norm(tasks, axis=1)


def test_goals_fill_the_square_or_the_disc_evenly():
    for variant in ("maml17", "cavia", "pytorch-maml-rl"):
        tasks = AntGoal(variant).sample_tasks(600, seed=0)
        assert abs(tasks).max() > 2.95
        assert (abs(tasks) > 1.5).mean() == pytest.approx(0.5, abs=0.06)
        assert np.linalg.norm(tasks, axis=1).max() > 3.5  # corners
    for family in (*(AntGoal(v) for v in ("promp", "pearl", "varibad")), AntGoalSparse("hyperx")):
        assert radii(family).max() <= 3
        assert (radii(family) < 1.5).mean() == pytest.approx(0.25, abs=0.06)  # area, not radius


def test_the_goals_of_metacure_lie_on_a_half_circle():
    tasks = AntGoalSparse("metacure").sample_tasks(200, seed=0)
    np.testing.assert_allclose(np.linalg.norm(tasks, axis=1), 1)
    assert tasks[:, 1].min() >= 0
    assert tasks[:, 0].min() < -0.95


def test_ldm_tests_outside_what_it_trains_on():
    goals = AntGoal("ldm")
    train = radii(goals)
    assert ((train <= 1) | ((train >= 2.5) & (train <= 3))).all()
    assert (train <= 1).mean() == pytest.approx(4 / 15, abs=0.06)
    test = goals.sample_tasks(12, split="test", seed=0)
    assert sorted(np.linalg.norm(test, axis=1)) == [0.5] * 4 + [1.75] * 4 + [2.75] * 4
    assert len(np.unique(test, axis=0)) == 12
    directions = AntDir("ldm")
    assert set(directions.sample_tasks(50, seed=0)[:, 0] / (np.pi / 2)) == {0, 1, 2, 3}
    eight = directions.sample_tasks(8, split="test", seed=0)[:, 0]
    np.testing.assert_allclose(sorted(eight / (np.pi / 4)), np.arange(8))
    assert goals.ood_splits == directions.ood_splits == ("test",)


def test_without_contact_sensors_the_robot_is_rejected(monkeypatch):
    monkeypatch.delattr(mujoco.mjtSensor, "mjSENS_CONTACT")
    message = "contact forces need MuJoCo 3.3.5 or newer .*installed is "
    with pytest.raises(RuntimeError, match=message):
        mujoco_sensors.sensing_model.__wrapped__("ant.xml")
    assert AntDir("pearl").description  # it can still be listed
