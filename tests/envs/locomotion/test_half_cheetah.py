"""The cheetah and the batched physics under it, against Gymnasium's HalfCheetah."""

import copy
import re
from collections.abc import Callable, Iterator
from importlib import resources

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.envs.locomotion.half_cheetah import HalfCheetahDir, HalfCheetahDirSparse, HalfCheetahVel
from metarl.envs.simulators.mujoco_batch import MujocoBatch, gymnasium_model, refresh_constants
from metarl.envs.simulators.mujoco_family import ControlStep, MujocoFamilyBatch

Array = NDArray[np.float64]
Make = Callable[..., MujocoFamilyBatch]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def _log_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """MuJoCo writes a log of its warnings into the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes batches and closes them: make(tasks, num_envs, variant)."""
    made = []

    def make_batch(
        tasks: list[float], num_envs: int = 1, variant: str = "cavia"
    ) -> MujocoFamilyBatch:
        family = HalfCheetahVel(variant)
        made.append(family.make_batch(np.array(tasks)[:, None], num_envs=num_envs))
        made[-1].reset(generator())
        return made[-1]

    yield make_batch
    for batch in made:
        batch.close()


@pytest.fixture
def make_physics() -> Iterator[Callable[..., MujocoBatch]]:
    """Makes physics in random states and closes them."""
    made = []

    def make(models=None, batch_size: int = 6, **options) -> MujocoBatch:
        models = gymnasium_model("half_cheetah.xml") if models is None else models
        made.append(MujocoBatch(models, batch_size, frame_skip=5, **options))
        rng = np.random.default_rng(0)
        qpos, qvel = rng.uniform(-0.1, 0.1, (batch_size, 9)), rng.normal(size=(batch_size, 9))
        made[-1].set_states(qpos, qvel)
        return made[-1]

    yield make
    for batch in made:
        batch.close()


def controls(steps: int, batch_size: int = 6) -> Array:
    return np.random.default_rng(1).uniform(-1, 1, (steps, batch_size, 6))


def run(physics: MujocoBatch, steps: int = 30) -> Array:
    """All states visited under random controls, [steps, B, 18]."""
    visited = []
    for control in controls(steps, len(physics.qpos)):
        physics.step(control)
        visited.append(np.concatenate([physics.qpos, physics.qvel], axis=1))
    return np.array(visited)


def random_actions(env: MujocoFamilyBatch, source: torch.Generator, scale: float = 1.0) -> Tensor:
    uniform = torch.rand(env.num_tasks, env.num_envs, 6, generator=source, dtype=torch.float64)
    return scale * (2 * uniform - 1)


def test_every_control_step_equals_gymnasiums_from_the_same_state(make):
    env, source = make([1.0], num_envs=8), generator(1)
    reference = gymnasium.make("HalfCheetah-v5").unwrapped
    reference.reset(seed=0)
    in_contact, fastest = 0, 0.0
    for _ in range(50):
        qpos, qvel = env.physics.qpos.copy(), env.physics.qvel.copy()
        actions = random_actions(env, source)
        rewards = env.step(actions).rewards
        for i, action in enumerate(actions[0].numpy()):
            reference.set_state(qpos[i], qvel[i])
            *_, info = reference.step(action)
            in_contact += reference.data.ncon > 0
            data = reference.data
            np.testing.assert_allclose(env.physics.qpos[i], data.qpos, rtol=0, atol=1e-9)
            np.testing.assert_allclose(env.physics.qvel[i], data.qvel, rtol=0, atol=1e-9)
            expected = -abs(info["x_velocity"] - 1.0) + 0.5 * info["reward_ctrl"]  # .1 there
            assert float(rewards[0, i]) == pytest.approx(expected, abs=1e-5)
        fastest = max(fastest, abs(qvel).max())
    reference.close()
    assert in_contact > 50  # the states were not all in free fall
    assert fastest > 10


def test_the_reward_is_the_hand_computed_one_from_the_states(make):
    env = make([0.0, 1.5], num_envs=2)
    before = env.physics.qpos[:, 0].copy()
    action = torch.tensor([0.5, -0.5, 1.0, 0.0, 0.0, -1.0])  # ‖a‖² = 2.5
    step = env.step(action.expand(2, 2, 6))
    velocity = ((env.physics.qpos[:, 0] - before) / 0.05).reshape(2, 2)
    assert abs(velocity).min() > 1e-3
    expected = -abs(velocity - [[0.0], [1.5]]) - 0.05 * 2.5
    torch.testing.assert_close(step.rewards, torch.tensor(expected).float(), rtol=0, atol=1e-6)


def test_tasks_differ_in_the_reward_and_in_nothing_else(make):
    env, source = make([0.5, 1.5]), generator(1)
    env.physics.set_states(np.tile(env.physics.qpos[:1], (2, 1)), np.zeros((2, 9)))
    for _ in range(20):
        before = env.physics.qpos[0, 0]
        step = env.step(random_actions(env, source)[:1].expand(2, 1, 6))
        velocity = (env.physics.qpos[0, 0] - before) / 0.05
        assert torch.equal(step.observations[0], step.observations[1])
        difference = float(step.rewards[0, 0] - step.rewards[1, 0])
        assert difference == pytest.approx(abs(velocity - 1.5) - abs(velocity - 0.5), abs=1e-5)


@pytest.mark.parametrize(("variant", "size"), [("cavia", 20), ("promp", 17)])
def test_the_observation_has_the_layout_of_the_variant(make, variant, size):
    env, source = make([0.5, 1.5], num_envs=2, variant=variant), generator(1)
    for _ in range(10):
        observations = env.step(random_actions(env, source)).observations
    assert observations.shape == (2, 2, size)
    assert observations.dtype == torch.float32
    assert env.observation_space.shape == (size,)
    qpos, qvel = env.physics.qpos, env.physics.qvel
    flat = observations.view(4, size)
    torch.testing.assert_close(flat[:, :8], torch.tensor(qpos[:, 1:]).float(), rtol=0, atol=0)
    torch.testing.assert_close(flat[:, 8:17], torch.tensor(qvel).float(), rtol=0, atol=0)
    if variant == "cavia":
        model = gymnasium_model("half_cheetah.xml")
        data = mujoco.MjData(model)
        for i in range(4):
            data.qpos[:] = qpos[i]
            mujoco.mj_kinematics(model, data)
            torso = torch.tensor(data.body("torso").xpos).float()
            torch.testing.assert_close(flat[i, 17:], torso, rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", HalfCheetahVel.variants)
def test_the_variants_carry_their_published_numbers(variant):
    """Highest velocity, steps, observation and action divisor, from the field's papers and code."""
    high, horizon, size, divisor = {
        "maml17": (2, 200, 20, 1),
        "cavia": (2, 200, 20, 1),
        "pytorch-maml-rl": (2, 100, 20, 10),
        "garage": (2, 100, 20, 10),
        "promp": (3, 200, 17, 10),
        "pearl": (3, 200, 20, 1),
        "varibad": (3, 200, 20, 1),
        "amago": (3, 1000, 17, 1),
        "ldm": (3.5, 200, 20, 1),
    }[variant]
    family = HalfCheetahVel(variant)
    assert (family.horizon, family.action_divisor) == (horizon, divisor)
    assert family.observation_space.shape == (size,)
    assert (family.task_space.low.tolist(), family.task_space.high.tolist()) == ([0], [high])
    tasks = family.sample_tasks(400, seed=0)
    assert tasks.min() < 0.05 * high
    assert tasks.max() > 0.95 * high


def test_the_test_velocities_of_ldm_lie_between_its_training_velocities():
    family = HalfCheetahVel("ldm")
    train = family.sample_tasks(400, seed=0)
    assert ((train <= 0.5) | (train >= 3.0)).all()
    assert 150 < (train > 1).sum() < 250
    test = family.sample_tasks(7, split="test", seed=0)
    assert sorted(test[:, 0]) == [0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25]
    assert family.ood_splits == ("test",)


ALL_VARIANTS = [
    family(variant)
    for family in (HalfCheetahVel, HalfCheetahDir, HalfCheetahDirSparse)
    for variant in family.variants
]


@pytest.mark.parametrize("family", ALL_VARIANTS, ids=lambda family: family.id)
def test_actions_beyond_the_bounds_cost_what_the_source_charges(family):
    """‖(4, 0, …)‖² is 16, and 1 after clipping.

    varibad half_cheetah_vel.py:33-43 and half_cheetah_dir.py:36-46, LDM half_cheetah_vel.py:36-43,
    hyperx half_cheetah_dir.py:38-48 and hyper half_cheetah_dir.py:39-49 square the action that the
    policy returned; no wrapper clips it. In the other sources a wrapper clips before the step, such
    as `NormalizedBoxEnv` (oyster rlkit/envs/wrappers.py) and `NormalizedEnv` (rllab, ProMP).
    """
    batches = [family.make_batch(family.sample_tasks(1, seed=0), num_envs=1) for _ in range(2)]
    rewards = []
    for batch, size in zip(batches, (1.0, 4.0), strict=True):
        batch.reset(generator())
        actions = torch.zeros(1, 1, 6)
        actions[..., 0] = size
        rewards.append(float(batch.step(actions).rewards))
        batch.close()
    assert np.array_equal(batches[0].physics.qpos, batches[1].physics.qpos)
    charged = 0.05 * 15 if family.variant in ("varibad", "ldm", "hyperx", "hyper") else 0.0
    assert rewards[0] - rewards[1] == pytest.approx(charged, abs=1e-5)


def moved_by(family, meters: float, x: float, task: float) -> float:
    """The reward of a control step over so many meters that ends at x, under ‖a‖² = 1.25."""
    qpos = np.zeros((1, 9))
    qpos[0, 0] = x
    controls = np.array([[0.5, -1.0, 0, 0, 0, 0]])
    nothing = np.zeros((1, 0))
    before = qpos - np.eye(9)[:1] * meters
    tasks = np.array([[task]])
    moves = ControlStep(qpos, np.zeros((1, 9)), nothing, tasks, controls, before, nothing, controls)
    return float(family.reward(moves)[0])


@pytest.mark.parametrize("variant", sorted({*HalfCheetahDir.variants} - {"maml17"}))
def test_running_in_the_right_direction_is_rewarded_by_the_velocity(variant):
    family = HalfCheetahDir(variant)
    assert moved_by(family, 0.1, x=0.1, task=1) == pytest.approx(2 - 0.0625)
    assert moved_by(family, 0.1, x=0.1, task=0) == pytest.approx(-2 - 0.0625)


def test_the_two_directions_of_pearl_come_in_turn():
    tasks = HalfCheetahDir("pearl").sample_tasks(10, seed=0)[:, 0]
    assert (tasks.reshape(5, 2).sum(axis=1) == 1).all()


@pytest.mark.parametrize(("variant", "gate"), [("hyperx", 5.0), ("hyper", 10.0)])
def test_sparse_running_is_rewarded_beyond_the_minimum_distance(variant, gate):
    family = HalfCheetahDirSparse(variant)
    assert moved_by(family, 0.1, x=gate - 0.01, task=1) == pytest.approx(-0.0625)
    assert moved_by(family, 0.1, x=gate, task=1) == pytest.approx(2 - 0.0625)
    assert moved_by(family, -0.1, x=-gate, task=0) == pytest.approx(2 - 0.0625)
    assert moved_by(family, -0.1, x=-gate, task=1) == pytest.approx(-2 - 0.0625)


def test_actions_are_clipped_before_they_act_and_before_they_cost(make):
    wild, tame, source = make([1.0], 4), make([1.0], 4), generator(1)
    for _ in range(10):
        actions = random_actions(wild, source, scale=3.0)
        one, two = wild.step(actions), tame.step(actions.clamp(-1, 1))
        assert torch.equal(one.observations, two.observations)
        assert torch.equal(one.rewards, two.rewards)
    still = make([1.0], 4)
    assert float(still.step(torch.full((1, 4, 6), 100.0)).rewards.min()) > -5


def test_an_episode_is_cut_after_two_hundred_steps_and_never_terminates(make):
    env = make([1.0], num_envs=2)
    for _ in range(2):
        ends = [env.step(torch.zeros(1, 2, 6)) for _ in range(200)]
        assert not torch.stack([end.terminated for end in ends]).any()
        truncated = torch.stack([end.truncated for end in ends])
        assert not truncated[:199].any()
        assert truncated[199].all()
        env.reset(generator())


def test_initial_states_have_the_noise_of_gymnasium(make):
    env = make([1.0], num_envs=2000)
    qpos, qvel = env.physics.qpos, env.physics.qvel
    assert abs(qpos).max() <= 0.1
    assert abs(qpos).max() > 0.099
    assert abs(qpos.mean(0)).max() < 5 * 0.1 / np.sqrt(3 * 2000)
    deviation = (qvel / 0.1) ** 2 - 1
    assert abs(deviation.mean(0)).max() < 5 * np.sqrt(2 / 2000)
    assert abs(qvel.mean(0)).max() < 5 * 0.1 / np.sqrt(2000)


@pytest.mark.parametrize("family", [HalfCheetahVel("maml17"), HalfCheetahDir("maml17")])
def test_initial_states_of_maml17_have_the_noise_of_rllab(family):
    """maml_rl rllab/envs/mujoco/mujoco_env.py:108-113: N(0, 0.01) and N(0, 0.1)."""
    env = family.make_batch(family.sample_tasks(1, seed=0), num_envs=2000)
    env.reset(generator())
    for values, scale in ((env.physics.qpos, 0.01), (env.physics.qvel, 0.1)):
        assert abs(values.mean(0)).max() < 5 * scale / np.sqrt(2000)
        assert abs(values).max() > 3 * scale  # uniform noise ends at 1.7 deviations
        np.testing.assert_allclose(values.std(0), scale, rtol=5 / np.sqrt(4000))
    env.close()


def test_the_oracle_is_limited_to_the_steps_and_speeds_that_it_was_trained_on():
    for variant in HalfCheetahVel.variants:
        family = HalfCheetahVel(variant)
        env = family.make_batch(family.sample_tasks(1, seed=0), num_envs=1)
        env.reset(generator())
        assert (env.oracle_actions() is None) == (variant in ("maml17", "ldm"))
        env.close()


def episode(env: MujocoFamilyBatch, seed: int) -> tuple[Tensor, Tensor]:
    """Observations and rewards of twenty random steps, time last but one and last."""
    source = generator(seed)
    steps = [env.reset(generator(seed))]
    rewards = []
    for _ in range(20):
        step = env.step(random_actions(env, source))
        steps.append(step.observations)
        rewards.append(step.rewards)
    return torch.stack(steps, 2), torch.stack(rewards, 2)


def test_the_seed_determines_everything_whatever_ran_before(make):
    used, fresh = make([0.5, 1.5], 3), make([0.5, 1.5], 3)
    other = episode(used, seed=1)
    first, second = episode(used, seed=2), episode(fresh, seed=2)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])


def test_changing_one_task_leaves_the_others_bitwise_equal(make):
    before = episode(make([0.5, 1.0, 1.5], 2), seed=1)
    after = episode(make([0.5, 1.9, 1.5], 2), seed=1)
    assert torch.equal(before[0], after[0])  # the physics does not know the task
    assert torch.equal(before[1][[0, 2]], after[1][[0, 2]])
    assert not torch.equal(before[1][1], after[1][1])


def test_changing_one_environment_leaves_the_others_bitwise_equal(make_physics):
    plain, changed = make_physics(), make_physics()
    qpos, qvel = plain.qpos.copy(), plain.qvel.copy()
    qvel[2] += 0.5
    changed.set_states(qpos, qvel)
    one, two = run(plain), run(changed)
    rest = [0, 1, 3, 4, 5]
    assert np.array_equal(one[:, rest], two[:, rest])
    assert not np.array_equal(one[:, 2], two[:, 2])


def test_the_number_of_threads_does_not_change_results(make_physics):
    one, two = run(make_physics(num_threads=1)), run(make_physics(num_threads=2))
    assert np.array_equal(one, two)
    assert abs(one[-1] - one[0]).max() > 0.1


def test_a_step_depends_on_the_state_and_the_controls_alone(make_physics):
    traveled, placed = make_physics(), make_physics()
    run(traveled)
    placed.set_states(traveled.qpos, traveled.qvel)
    assert np.array_equal(run(traveled), run(placed))


def test_setting_states_copies_them(make_physics):
    physics = make_physics()
    qpos, qvel = physics.qpos.copy(), physics.qvel.copy()
    kept = qpos.copy()
    physics.set_states(qpos, qvel)
    run(physics, steps=2)
    assert np.array_equal(qpos, kept)


def heavier(factor: float) -> mujoco.MjModel:
    model = copy.copy(gymnasium_model("half_cheetah.xml"))
    model.body_mass[:] *= factor
    model.body_inertia[:] *= factor
    refresh_constants(model, mujoco.MjData(model))
    return model


def test_every_environment_may_have_a_separate_model(make_physics):
    models = [heavier(1.0), heavier(3.0), heavier(1.0), heavier(1.5), heavier(1.0), heavier(1.0)]
    shared, own = run(make_physics()), run(make_physics(models))
    same = [0, 2, 4, 5]
    assert np.array_equal(shared[:, same], own[:, same])
    for i in (1, 3):
        alone = run(make_physics([models[i]] * 6))
        assert np.array_equal(own[:, i], alone[:, i])
        assert abs(own[-1, i] - shared[-1, i]).max() > 0.1


@pytest.mark.parametrize("count", [0, 1, 5, 7])
def test_another_number_of_models_is_rejected(count):
    message = f"models must be one model or 6 of them, got {count}"
    with pytest.raises(ValueError, match=message):
        MujocoBatch([heavier(1.0) for _ in range(count)], 6, frame_skip=5)


def fields(structure: object) -> dict[str, object]:
    """The numbers, names and arrays of a MuJoCo structure."""
    found = {}
    for name in dir(structure):
        value = getattr(structure, name)
        if not name.startswith("_") and isinstance(value, np.ndarray | int | float | bytes):
            found[name] = value
    return found


def test_the_model_is_gymnasiums_bitwise():
    file = resources.files("gymnasium").joinpath("envs", "mujoco", "assets", "half_cheetah.xml")
    ours, theirs = gymnasium_model("half_cheetah.xml"), mujoco.MjModel.from_xml_path(str(file))
    compared = 0
    for part in ("", "opt", "stat"):
        one = fields(getattr(ours, part) if part else ours)
        two = fields(getattr(theirs, part) if part else theirs)
        assert one.keys() == two.keys()
        for name, value in two.items():
            np.testing.assert_array_equal(one[name], value, err_msg=f"{part}.{name}")
        compared += len(two)
    assert compared > 300
    assert ours.body_mass.sum() == pytest.approx(14)  # the mass of `settotalmass`
    assert (ours.nq, ours.nv, ours.nu) == (9, 9, 6)
    assert ours.opt.timestep == 0.01


def test_the_model_is_read_without_a_warning(capfd):
    gymnasium_model("half_cheetah.xml")
    captured = capfd.readouterr()
    assert not re.search("warning", captured.out + captured.err, re.IGNORECASE)
