"""Walker2D and Swimmer of ProMP: physics against Gymnasium's, rewards and ends by hand."""

from importlib import resources

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from restarts import restart_ended

from metarl.envs.locomotion.walkers import SwimmerVel, Walker2DDir, Walker2DVel
from metarl.envs.simulators.mujoco_family import ControlStep, MujocoFamily, States

Array = NDArray[np.float64]
ASSETS = resources.files("gymnasium") / "envs" / "mujoco" / "assets"


@pytest.fixture(autouse=True)
def _log_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """MuJoCo writes a log of its warnings into the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("family", "reference"),
    [
        (Walker2DVel("promp"), {"id": "Walker2d-v5", "file": "walker2d.xml", "frame_skip": 8}),
        (SwimmerVel("promp"), {"id": "Swimmer-v5", "file": "swimmer.xml", "frame_skip": 4}),
    ],
    ids=["walker", "swimmer"],
)
def test_every_control_step_equals_gymnasiums_from_the_same_state(family, reference):
    env = gymnasium.make(
        reference["id"],
        xml_file=str(ASSETS / reference["file"]),
        frame_skip=reference["frame_skip"],
    ).unwrapped
    env.reset(seed=0)
    batch = family.make_batch(family.sample_tasks(1, seed=0), num_envs=3)
    batch.reset(torch.Generator().manual_seed(0))
    source, moved, in_contact = torch.Generator().manual_seed(1), 0.0, 0
    for _ in range(40):
        qpos, qvel = batch.physics.qpos.copy(), batch.physics.qvel.copy()
        size = family.action_space.shape[0]
        actions = 2 * torch.rand(1, 3, size, generator=source, dtype=torch.float64) - 1
        step = batch.step(actions)
        for i in range(3):
            env.set_state(qpos[i], qvel[i])
            env.data.qacc_warmstart[:] = (
                0  # the constraint solver's tolerance: the batch has no warm start
            )
            env.step(actions[0, i].numpy())
            in_contact += env.data.ncon > 0
            np.testing.assert_allclose(batch.physics.qpos[i], env.data.qpos, rtol=0, atol=1e-8)
            np.testing.assert_allclose(batch.physics.qvel[i], env.data.qvel, rtol=0, atol=1e-8)
            moved = max(moved, abs(env.data.qpos - qpos[i]).max())
        restart_ended(batch, step, source)
    batch.close()
    env.close()
    assert moved > 0.1
    assert in_contact > 20 or family.name == "SwimmerVel"  # it swims without touching


def reward(family: MujocoFamily, task: float, way: float) -> float:
    """Reward of a control step over `way` meters, under ‖a‖² = 1.25."""
    controls = np.zeros((1, family.action_space.shape[0]))
    controls[0, :2] = 0.5, -1.0
    qpos, nothing = np.zeros((1, 9)), np.zeros((1, 0))
    before = qpos - way * np.eye(9)[:1]
    moves = ControlStep(
        qpos, nothing, nothing, np.array([[task]]), controls, before, nothing, controls
    )
    return float(family.reward(moves)[0])


def test_walking_at_the_target_velocity_has_reward_fifteen():
    family = Walker2DVel("promp")  # 0.032 m in 0.016 s are 2 m/s
    assert reward(family, 2.0, way=0.032) == pytest.approx(15 - 0.00125)
    assert reward(family, 5.0, way=0.032) == pytest.approx(12 - 0.00125)
    assert reward(family, 0.5, way=0.032) == pytest.approx(13.5 - 0.00125)


def test_walking_in_the_right_direction_is_rewarded_by_the_velocity():
    family = Walker2DDir("promp")
    assert reward(family, 1, way=0.032) == pytest.approx(3 - 0.00125)
    assert reward(family, 0, way=0.032) == pytest.approx(-1 - 0.00125)


def test_the_swimmers_reward_decreases_with_the_distance_from_the_target():
    """Trap: ProMP's code has reward +|v − v*|. 0.006 m in 0.04 s are 0.15 m/s."""
    family = SwimmerVel("promp")
    assert reward(family, 0.15, way=0.006) == pytest.approx(-0.000125)
    assert reward(family, 0.2, way=0.006) == pytest.approx(-0.05 - 0.000125)
    assert reward(family, 0.15, way=0.04) == pytest.approx(-0.85 - 0.000125)
    assert "wrong sign" in family.warning


@pytest.mark.parametrize("family", [Walker2DVel("promp"), Walker2DDir("promp")])
def test_a_walk_ends_with_a_fall(family):
    states = [(0.8, 0), (0.81, 0), (1.99, 0), (2.0, 0), (1.2, 0.99), (1.2, 1.0), (1.2, -1.0)]
    qpos, nothing = np.zeros((7, 9)), np.zeros((7, 0))
    qpos[:, 1:3] = states
    ends = family.terminated(
        ControlStep(qpos, nothing, nothing, nothing, nothing, qpos, nothing, nothing)
    )
    assert ends.tolist() == [True, False, False, True, False, True, True]


def test_swimming_never_ends():
    nothing = np.zeros((1, 0))
    moves = ControlStep(nothing, nothing, nothing, nothing, nothing, nothing, nothing, nothing)
    assert SwimmerVel("promp").terminated(moves) is None


@pytest.mark.parametrize(
    ("family", "size", "low", "high"),
    [
        (Walker2DVel("promp"), 17, 0, 10),
        (Walker2DDir("promp"), 17, 0, 1),
        (SwimmerVel("promp"), 8, 0.1, 0.2),
    ],
)
def test_the_variants_carry_their_published_numbers(family, size, low, high):
    assert (family.horizon, family.action_divisor) == (200, 10)
    assert family.observation_space.shape == (size,)
    tasks = family.sample_tasks(300, seed=0)
    assert tasks.min() == pytest.approx(low, abs=0.02 * high)
    assert tasks.max() == pytest.approx(high, rel=0.02)


def test_observations_omit_the_position_and_clip_the_velocities_of_the_walker():
    nothing = np.zeros((1, 0))
    qpos, qvel = np.arange(9.0)[None], np.array([[1.0, -2, 3, 10, -10, 11, -12.5, 0, 0.5]])
    walker = Walker2DVel("promp").observe(States(qpos, qvel, nothing, nothing, nothing))
    expected = [[1, 2, 3, 4, 5, 6, 7, 8, 1, -2, 3, 10, -10, 10, -10, 0, 0.5]]
    assert walker.tolist() == expected
    states = States(qpos[:, :5], qvel[:, :5], nothing, nothing, nothing)
    assert SwimmerVel("promp").observe(states).tolist() == [[2, 3, 4, 1, -2, 3, 10, -10]]
