"""Random dynamics: what a task scales, what follows from it, and that it reaches the physics."""

import copy
import time
from collections.abc import Callable, Iterator
from importlib import resources

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from restarts import restart_ended
from torch import Tensor

from metarl.envs.locomotion.random_dynamics import (
    HopperRandParams,
    Walker2DRandParams,
    num_exponents,
    scaled_model,
)
from metarl.envs.simulators.mujoco_family import (
    ControlStep,
    MujocoFamily,
    MujocoFamilyBatch,
    Noise,
)

Array = NDArray[np.float64]
FAMILIES = [Walker2DRandParams("pearl"), HopperRandParams("pearl")]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


@pytest.fixture(autouse=True)
def _log_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """MuJoCo writes a log of its warnings into the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make() -> Iterator[Callable[..., MujocoFamilyBatch]]:
    """Makes batches and closes them: make(family, tasks, num_envs)."""
    made = []

    def make_batch(family: MujocoFamily, tasks: Array, num_envs: int = 1) -> MujocoFamilyBatch:
        made.append(family.make_batch(tasks, num_envs=num_envs))
        made[-1].reset(torch.Generator().manual_seed(0))
        return made[-1]

    yield make_batch
    for batch in made:
        batch.close()


def run(batch: MujocoFamilyBatch, steps: int = 15) -> Tensor:
    """Observations of random steps, the same in all environments, [N, E, T, O]."""
    size = batch.action_space.shape[0]
    source = torch.Generator().manual_seed(1)
    actions = 2 * torch.rand(steps, 1, 1, size, generator=source) - 1
    shape = (steps, batch.num_tasks, batch.num_envs, size)
    return torch.stack([batch.step(action).observations for action in actions.expand(shape)], 2)


def scaled(family: MujocoFamily, exponents: Array) -> mujoco.MjModel:
    return scaled_model(family.model, exponents, mujoco.MjData(family.model))


def numbers(model: mujoco.MjModel) -> dict[str, Array]:
    """Copies of all arrays of a model."""
    return {
        name: getattr(model, name).copy()
        for name in dir(model)
        if not name.startswith("_") and isinstance(getattr(model, name), np.ndarray)
    }


@every_family
def test_the_multipliers_are_powers_within_the_sources_range(family):
    count = num_exponents(family.model)
    assert family.task_space.shape == (count,)
    assert count == {"Walker2DRandParams": 58, "HopperRandParams": 34}[family.name]
    tasks = family.sample_tasks(100, seed=0)
    assert -3 <= tasks.min() < -2.95
    assert 2.95 < tasks.max() <= 3
    for exponent in (-3.0, 1.0, 3.0):
        model = scaled(family, np.full(count, exponent))
        for name, base in (
            ("body_mass", 1.5),
            ("body_inertia", 1.5),
            ("dof_damping", 1.3),
            ("geom_friction", 1.5),
        ):
            expected = getattr(family.model, name) * base**exponent
            np.testing.assert_allclose(getattr(model, name), expected, rtol=1e-15)
            assert abs(expected).max() > 0


def test_each_exponent_scales_one_number_in_mujocos_order():
    family = Walker2DRandParams("pearl")
    original = family.model
    masses, inertias, dampings = 7, 21, 6
    places = {
        "body_mass": (0, lambda m: m.body_mass[1]),
        "body_inertia": (masses, lambda m: m.body_inertia[1, 0]),
        "dof_damping": (masses + inertias, lambda m: m.dof_damping[3]),
        "geom_friction": (masses + inertias + dampings, lambda m: m.geom_friction[0, 0]),
    }
    for name, (index, number) in places.items():
        exponents = np.zeros(58)
        exponents[index] = 2.0
        model = scaled(family, exponents)
        base = 1.3 if name == "dof_damping" else 1.5
        assert number(model) == pytest.approx(number(original) * base**2)
        changed = [n for n in places if not np.array_equal(getattr(model, n), getattr(original, n))]
        assert changed == [name]
        assert (getattr(model, name) != getattr(original, name)).sum() == 1


@every_family
def test_constants_that_depend_on_masses_and_damping_are_recomputed(family):
    """Trap: old code modified masses and left the derived constants unchanged."""
    model = scaled(family, np.full(family.task_space.shape, 3.0))
    factor = 1.5**3
    np.testing.assert_allclose(model.body_subtreemass, family.model.body_subtreemass * factor)
    armature = family.model.dof_armature
    inertia = family.model.dof_M0 - armature
    np.testing.assert_allclose(model.dof_M0 - armature, inertia * factor, rtol=1e-9)
    assert (model.dof_invweight0 < family.model.dof_invweight0).all()
    assert (model.body_invweight0[1:] < family.model.body_invweight0[1:]).all()
    assert model.stat.meaninertia == pytest.approx(model.dof_M0.mean())
    assert model.stat.meanmass == pytest.approx(family.model.stat.meanmass * factor)


@every_family
def test_exponents_of_zero_give_the_shared_model(family):
    same, shared = numbers(scaled(family, np.zeros(family.task_space.shape))), numbers(family.model)
    assert len(shared) > 100
    for name, array in shared.items():
        np.testing.assert_allclose(same[name], array, rtol=1e-12, atol=1e-15, err_msg=name)


@every_family
def test_the_shared_model_is_never_changed(make, family):
    before = numbers(family.model)
    batch = make(family, family.sample_tasks(3, seed=0), 2)
    run(batch, steps=3)
    batch.set_tasks(family.sample_tasks(3, seed=1))
    run(batch, steps=3)
    for name, array in numbers(family.model).items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


@every_family
def test_different_tasks_move_differently_from_the_same_state_and_actions(make, family):
    batch = make(family, family.sample_tasks(4, seed=0))
    start = batch.physics.qpos[:1].copy()
    batch.physics.set_states(np.repeat(start, 4, axis=0), np.zeros((4, batch.physics.model.nv)))
    seen = run(batch)[:, 0]
    for i in range(4):
        for j in range(i):
            assert abs(seen[i, -1] - seen[j, -1]).max() > 0.01


@every_family
def test_setting_tasks_changes_the_dynamics_of_their_environments_only(make, family):
    tasks = family.sample_tasks(3, seed=0)
    others = tasks.copy()
    others[1] = family.sample_tasks(1, seed=9)[0]
    plain, changed, fresh = make(family, tasks, 2), make(family, tasks, 2), make(family, others, 2)
    changed.set_tasks(others)
    one, two, three = run(plain), run(changed), run(fresh)
    assert torch.equal(two, three)
    assert torch.equal(one[[0, 2]], two[[0, 2]])
    assert abs(one[1] - two[1]).max() > 0.01


@pytest.mark.parametrize(
    ("family", "reference"),
    [(FAMILIES[0], "Walker2d-v5"), (FAMILIES[1], "Hopper-v5")],
    ids=["walker", "hopper"],
)
def test_every_control_step_equals_gymnasiums_with_the_scaled_model(make, family, reference):
    file = {"Walker2d-v5": "walker2d.xml", "Hopper-v5": "hopper.xml"}[reference]
    path = resources.files("gymnasium") / "envs" / "mujoco" / "assets" / file
    env = gymnasium.make(reference, xml_file=str(path), frame_skip=4).unwrapped
    env.reset(seed=0)
    task = family.sample_tasks(1, seed=3)
    model = scaled(family, task[0])
    for name in ("body_mass", "body_inertia", "dof_damping", "geom_friction"):
        getattr(env.model, name)[:] = getattr(model, name)
    env.model.opt.timestep = 0.004
    mujoco.mj_setConst(env.model, mujoco.MjData(env.model))
    env.model.stat.meaninertia = model.stat.meaninertia  # scales the solver's tolerance
    batch = make(family, task, 2)
    source, in_contact = torch.Generator().manual_seed(1), 0
    for _ in range(40):
        qpos, qvel = batch.physics.qpos.copy(), batch.physics.qvel.copy()
        size = family.action_space.shape[0]
        actions = 2 * torch.rand(1, 2, size, generator=source, dtype=torch.float64) - 1
        step = batch.step(actions)
        for i in range(2):
            env.set_state(qpos[i], qvel[i])
            env.data.qacc_warmstart[:] = (
                0  # the constraint solver's tolerance: the batch has no warm start
            )
            env.step(actions[0, i].numpy())
            in_contact += env.data.ncon > 0
            np.testing.assert_allclose(batch.physics.qpos[i], env.data.qpos, rtol=0, atol=1e-8)
            np.testing.assert_allclose(batch.physics.qvel[i], env.data.qvel, rtol=0, atol=1e-8)
            velocity = (env.data.qpos[0] - qpos[i, 0]) / 0.016
            reward = velocity + 1 - 0.001 * float(actions[0, i] @ actions[0, i])
            assert float(step.rewards[0, i]) == pytest.approx(reward, abs=1e-5)
        restart_ended(batch, step, source)
    env.close()
    assert in_contact > 20


@every_family
def test_the_reward_is_the_hand_computed_one(family):
    qpos, nothing = np.zeros((2, 9)), np.zeros((2, 0))
    before, controls = qpos.copy(), np.zeros((2, family.action_space.shape[0]))
    before[:, 0] = -0.032, 0.016  # 2 m/s and −1 m/s
    controls[1, :2] = 0.5, -1.0
    moves = ControlStep(qpos, nothing, nothing, nothing, controls, before, nothing, controls)
    np.testing.assert_allclose(family.reward(moves), [3, -0.00125], atol=1e-12)


def ends(family: MujocoFamily, states: list[tuple[float, float]], fastest: float = 0) -> list[bool]:
    qpos, nothing = np.zeros((len(states), 6)), np.zeros((len(states), 0))
    qpos[:, 1:3] = states
    qvel = np.full((len(states), 6), fastest)
    moves = ControlStep(qpos, qvel, nothing, nothing, nothing, qpos, nothing, nothing)
    found = family.terminated(moves)
    assert found is not None
    return list(found)


def test_a_walk_ends_with_a_fall():
    states = [(0.8, 0), (0.81, 0), (1.99, 0), (2.0, 0), (1.2, 0.99), (1.2, 1.0), (1.2, -1.0)]
    fallen = [True, False, False, True, False, True, True]
    assert ends(Walker2DRandParams("pearl"), states) == fallen


def test_a_hop_ends_with_a_fall_or_at_high_speed():
    states = [(0.7, 0), (0.71, 0), (9.0, 0), (1.2, 0.19), (1.2, 0.2), (1.2, -0.2)]
    hopper = HopperRandParams("pearl")
    assert ends(hopper, states) == [True, False, False, False, True, True]
    assert ends(hopper, [(1.2, 0.0)], fastest=99.9) == [False]
    assert ends(hopper, [(1.2, 0.0)], fastest=-100.0) == [True]


@every_family
def test_the_variant_carries_its_published_numbers(family):
    assert (family.horizon, family.action_divisor) == (200, 1)
    assert family.robot.dt_seconds == pytest.approx(0.016)
    size = {"Walker2DRandParams": 17, "HopperRandParams": 11}[family.name]
    assert family.observation_space.shape == (size,)
    assert family.robot.position_noise == family.robot.velocity_noise == Noise("uniform", 0.005)


def test_models_are_created_quickly_and_shared_by_the_environments_of_a_task(make):
    family = Walker2DRandParams("pearl")
    batch = make(family, family.sample_tasks(2, seed=0), 3)
    models = batch.physics.models
    assert [id(model) for model in models] == [id(models[0])] * 3 + [id(models[3])] * 3
    assert models[0] is not models[3]
    started = time.perf_counter()
    family.task_models(family.sample_tasks(50, seed=1))
    assert time.perf_counter() - started < 5  # about 1 ms a model; the machine may be busy


def test_a_copy_of_a_model_is_independent():
    model = Walker2DRandParams("pearl").model
    copied = copy.copy(model)
    copied.body_mass[1] += 1
    assert copied.body_mass[1] == model.body_mass[1] + 1
