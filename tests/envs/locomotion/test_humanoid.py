"""The humanoid: physics, observation, reward and ends, against MuJoCo and Gymnasium."""

from collections.abc import Iterator

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from restarts import restart_ended

from metarl.envs.locomotion.humanoid import HumanoidDir
from metarl.envs.simulators.mujoco_family import ControlStep, MujocoFamilyBatch

Array = NDArray[np.float64]


@pytest.fixture(autouse=True)
def _log_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """MuJoCo writes a log of its warnings into the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def batch() -> Iterator[MujocoFamilyBatch]:
    """Two environments of each of two tasks, reset."""
    made = HumanoidDir("pearl").make_batch(np.array([[0.0], [2.0]]), num_envs=2)
    made.reset(torch.Generator().manual_seed(0))
    yield made
    made.close()


def random_actions(steps: int) -> torch.Tensor:
    source = torch.Generator().manual_seed(1)
    return 0.8 * torch.rand(steps, 2, 2, 17, generator=source, dtype=torch.float64) - 0.4


def test_every_control_step_equals_gymnasiums_from_the_same_state(batch):
    reference = gymnasium.make("Humanoid-v5").unwrapped
    reference.reset(seed=0)
    data, in_contact = reference.data, 0
    resets = torch.Generator().manual_seed(2)
    for actions in random_actions(40):
        qpos, qvel = batch.physics.qpos.copy(), batch.physics.qvel.copy()
        step = batch.step(actions)
        for i in (0, 3):
            reference.set_state(qpos[i], qvel[i])
            data.qacc_warmstart[:] = (
                0  # the constraint solver's tolerance: the batch has no warm start
            )
            reference.step(actions.view(4, 17)[i].numpy())
            in_contact += data.ncon > 0
            np.testing.assert_allclose(batch.physics.qpos[i], data.qpos, rtol=0, atol=1e-8)
            np.testing.assert_allclose(batch.physics.qvel[i], data.qvel, rtol=0, atol=1e-8)
        restart_ended(batch, step, resets)
    reference.close()
    assert in_contact > 20


def test_observation_and_reward_are_what_mujoco_computes_in_the_observed_state(batch):
    model = batch.physics.model
    data, impacts = mujoco.MjData(model), []
    centers = [center_of_mass(model, qpos) for qpos in batch.physics.qpos]
    resets = torch.Generator().manual_seed(2)
    for actions in random_actions(40):
        step = batch.step(actions)
        for i, action in enumerate(actions.view(4, 17)):
            data.qpos[:], data.qvel[:] = batch.physics.qpos[i], batch.physics.qvel[i]
            data.ctrl[:], data.qacc_warmstart[:] = action, 0
            mujoco.mj_forward(model, data)
            mujoco.mj_rnePostConstraint(model, data)
            parts = (data.qpos[2:], data.qvel, data.cinert, data.cvel)
            parts = (*parts, data.qfrc_actuator, data.cfrc_ext)
            expected = torch.tensor(np.concatenate([part.ravel() for part in parts])).float()
            observed = step.observations.view(4, 376)[i]
            torch.testing.assert_close(observed, expected, rtol=1e-5, atol=1e-5)
            center = center_of_mass(model, data.qpos)
            way = (center - centers[i]) @ [np.cos(2.0 * (i > 1)), np.sin(2.0 * (i > 1)), 0]
            impact = min(0.5e-6 * np.square(data.cfrc_ext).sum(), 10)
            reward = 0.25 * way / 0.003 + 5 - 0.1 * float(action @ action) - impact
            assert float(step.rewards.view(4)[i]) == pytest.approx(reward, abs=1e-5)
            impacts.append(impact)
        restart_ended(batch, step, resets)
        centers = [center_of_mass(model, qpos) for qpos in batch.physics.qpos]
    assert max(impacts) > 1


def center_of_mass(model: mujoco.MjModel, qpos: Array) -> Array:
    """The bodies' centers, weighted by mass, as in the sources."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    weighted: Array = model.body_mass @ data.xipos / model.body_mass.sum()
    return weighted


def test_the_reward_is_the_hand_computed_one():
    """A displacement of (3, 4) mm, ‖a‖² = 0.2, and contact forces with squares of 10⁶ or 10⁹."""
    family = HumanoidDir("promp")
    sensed, before = np.zeros((4, 311)), np.zeros((4, 311))
    sensed[:, :2] = 0.103, -0.196
    before[:, :2] = 0.1, -0.2
    sensed[:, -1] = 1e3
    sensed[3, -1] = 1e9**0.5
    controls = np.zeros((4, 17))
    controls[:, :2] = 0.4, -0.2
    nothing = np.zeros((4, 0))
    tasks = np.array([[0.0], [np.pi / 2], [np.pi], [0.0]])
    rewards = family.reward(
        ControlStep(nothing, nothing, sensed, tasks, controls, nothing, before, controls)
    )
    rest = 5 - 0.02
    expected = [0.25 + rest - 0.5, 1 / 3 + rest - 0.5, -0.25 + rest - 0.5, 0.25 + rest - 10]
    np.testing.assert_allclose(rewards, expected)


def test_an_episode_ends_when_the_torso_leaves_one_to_two_metres():
    qpos = np.zeros((4, 24))
    qpos[:, 2] = 0.99, 1.0, 2.0, 2.01
    nothing = np.zeros((4, 0))
    moves = ControlStep(qpos, nothing, nothing, nothing, nothing, qpos, nothing, nothing)
    assert HumanoidDir("pearl").terminated(moves).tolist() == [True, False, False, True]


def test_standing_still_falls_in_time(batch):
    ends = torch.stack([batch.step(torch.zeros(2, 2, 17)).terminated for _ in range(200)])
    assert ends.any(0).all()
    assert not ends[:5].any()


@pytest.mark.parametrize(
    ("variant", "divisor"), [("pearl", 2.5), ("promp", 25), ("learn2learn", 2.5)]
)
def test_the_variants_carry_their_published_numbers(variant, divisor):
    family = HumanoidDir(variant)
    assert (family.horizon, family.action_divisor) == (200, divisor)
    assert family.observation_space.shape == (376,)
    assert family.action_space.high.tolist() == pytest.approx([0.4] * 17)
    tasks = family.sample_tasks(400, seed=0)
    assert tasks.min() < 0.1
    assert 2 * np.pi - 0.1 < tasks.max() < 2 * np.pi
