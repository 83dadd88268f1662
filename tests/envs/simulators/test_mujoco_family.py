"""The contract of every MuJoCo family's batch: resets, divergence, tasks, randomness, images."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.envs import make_family
from metarl.envs.simulators.mujoco_batch import MujocoBatch
from metarl.envs.simulators.mujoco_family import MujocoFamilyBatch
from metarl.envs.simulators.mujoco_rendering import _Renderers
from metarl.finite import NonFiniteError

IDS = [
    "HalfCheetahVel:pearl",
    "AntDir:promp",
    "HumanoidDir:pearl",
    "Walker2DVel:promp",
    "SwimmerVel:promp",
    "Walker2DRandParams:pearl",
    "HopperRandParams:pearl",
]
every_robot = pytest.mark.parametrize("family_id", IDS)


@pytest.fixture(autouse=True)
def _log_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """MuJoCo writes a log of its warnings into the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make() -> Iterator[Callable[..., MujocoFamilyBatch]]:
    """Makes batches of two tasks with two environments each, reset, and closes them."""
    made = []

    def make_batch(family_id: str, *, reset: bool = True) -> MujocoFamilyBatch:
        family = make_family(family_id)
        made.append(family.make_batch(family.sample_tasks(2, seed=0), num_envs=2))
        if reset:
            made[-1].reset(generator())
        return made[-1]

    yield make_batch
    for batch in made:
        batch.close()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run(batch: MujocoFamilyBatch, steps: int = 5, seed: int = 1) -> Tensor:
    """Observations, rewards and ends of random steps, [N, E, T, O + 3]."""
    source, seen = generator(seed), []
    shape = (2, 2, batch.action_space.shape[0])
    for _ in range(steps):
        high = float(batch.action_space.high[0])
        step = batch.step(high * (2 * torch.rand(shape, generator=source) - 1))
        rest = torch.stack([step.rewards, step.terminated, step.truncated], -1)
        seen.append(torch.cat([step.observations, rest], -1))
    return torch.stack(seen, 2)


@every_robot
def test_a_partial_reset_leaves_the_others_bitwise_equal(make, family_id):
    plain, partly = make(family_id), make(family_id)
    run(plain)
    last = run(partly)[:, :, -1, :-3]
    where = torch.tensor([[False, True], [False, False]])
    observations = partly.reset(generator(7), where)
    assert torch.equal(observations[~where], last[~where])
    assert not torch.equal(observations[where], last[where])
    one, two = run(plain, seed=2), run(partly, seed=2)
    assert torch.equal(one[~where], two[~where])
    assert not torch.equal(one[where], two[where])


def test_a_partial_reset_restarts_the_clock_of_its_episodes_only(make):
    batch = make("SwimmerVel:promp")
    still = torch.zeros(2, 2, 2)
    for _ in range(150):
        batch.step(still)
    where = torch.tensor([[True, False], [False, False]])
    batch.reset(generator(), where)
    cut = [batch.step(still).truncated for _ in range(200)]
    assert torch.equal(cut[48], torch.zeros_like(where))
    assert torch.equal(cut[49], ~where)
    assert not cut[198][where].any()
    assert cut[199].all()


@every_robot
def test_a_seed_determines_everything(make, family_id):
    used, fresh = make(family_id), make(family_id)
    run(used, seed=3)
    used.reset(generator(4))
    fresh.reset(generator(4))
    one, two = run(used), run(fresh)
    assert torch.equal(one, two)
    fresh.reset(generator(5))
    assert not torch.equal(run(fresh), two)


@every_robot
def test_the_number_of_threads_does_not_change_results(make, family_id, monkeypatch):
    runs = []
    for cores in (1, 2):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        runs.append(run(make(family_id)))
    assert torch.equal(*runs)
    assert runs[0].std() > 0.01


@every_robot
@pytest.mark.parametrize("speed", [1e9, 1e12])  # of which MuJoCo sees the acceleration, the speed
def test_diverging_physics_terminate_their_environment_with_reward_0(make, family_id, speed):
    plain, broken = make(family_id), make(family_id)
    qpos, qvel = broken.physics.qpos.copy(), broken.physics.qvel.copy()
    qvel[2] = speed
    broken.physics.set_states(qpos, qvel, np.array([False, False, True, False]))
    one, two = run(plain, steps=1)[:, :, 0], run(broken, steps=1)[:, :, 0]
    lost = torch.tensor([[False, False], [True, False]])
    assert torch.isfinite(two).all()
    assert torch.equal(one[~lost], two[~lost])
    reward, terminated = two[lost][0, -3:-1]
    assert (float(reward), float(terminated)) == (0.0, 1.0)
    assert torch.isfinite(run(broken)).all()  # it may be stepped on


@every_robot
def test_the_first_reset_must_include_all(make, family_id):
    batch = make(family_id, reset=False)
    message = "the batch must be reset before its first step"
    with pytest.raises(RuntimeError, match=message):
        batch.step(torch.zeros(2, 2, batch.action_space.shape[0]))
    with pytest.raises(RuntimeError, match=message):
        batch.reset(generator(), torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(RuntimeError, match=message):
        batch.oracle_actions()


@every_robot
def test_another_number_of_tasks_or_a_task_outside_is_rejected(make, family_id):
    batch, family = make(family_id), make_family(family_id)
    with pytest.raises(ValueError, match="tasks must have 2 rows as before, got 3"):
        batch.set_tasks(family.sample_tasks(3, seed=0))
    outside = family.sample_tasks(2, seed=0) + 100
    with pytest.raises(ValueError, match="tasks must lie in "):
        batch.set_tasks(outside)
    with pytest.raises(ValueError, match="num_envs must be 1 or more, got 0"):
        family.make_batch(family.sample_tasks(2, seed=0), num_envs=0)


def test_setting_tasks_changes_the_reward_and_not_the_physics(make):
    plain, changed = make("AntDir:pearl"), make("AntDir:pearl")
    changed.set_tasks(np.array([[0.5], [3.0]]))
    one, two = run(plain), run(changed)
    assert torch.equal(one[..., :27], two[..., :27])
    assert (abs(one[..., 27] - two[..., 27]) > 1e-3).any()


def test_returned_tensors_are_never_modified(make):
    batch = make("AntDir:promp")
    first = batch.reset(generator())
    step = batch.step(torch.ones(2, 2, 8))
    kept = [first.clone(), *(part.clone() for part in step[:4])]
    run(batch, steps=3)
    assert all(torch.equal(a, b) for a, b in zip(kept, (first, *step[:4]), strict=True))


def test_a_batch_of_other_models_of_another_number_is_rejected():
    model = make_family("HopperRandParams:pearl").model
    physics = MujocoBatch(model, 3, frame_skip=4)
    with pytest.raises(ValueError, match="models must have 3 entries, got 2"):
        physics.set_models([model] * 2)
    physics.close()


_DRAW = """
import sys
import numpy as np
import torch
from metarl.envs import make_family

for family_id in sys.argv[1:]:
    family = make_family(family_id)
    batch = family.make_batch(family.sample_tasks(2, seed=0), num_envs=2)
    batch.reset(torch.Generator().manual_seed(0))
    qpos = batch.physics.qpos.copy()
    qpos[:, 0] += 30  # the camera has to follow
    batch.physics.set_states(qpos, np.zeros_like(batch.physics.qvel))
    straight = batch.render(1, 1).astype(int)
    qpos[3, -1] += 0.8  # the last joint bends
    batch.physics.set_states(qpos, np.zeros_like(batch.physics.qvel))
    bent = batch.render(1, 1)
    assert bent.shape == (240, 320, 3) and bent.dtype == np.uint8
    changed = (abs(bent - straight).max(axis=-1) > 30).sum()
    assert changed > 50, (family_id, changed)
    assert (batch.render(1, 0) == straight.astype(np.uint8)).mean() < 1
    batch.close()
"""


def render_in_process(backend: str, *family_ids: str) -> subprocess.CompletedProcess[str]:
    """Render in a separate process: MuJoCo selects its backend when it is imported."""
    return subprocess.run(
        [sys.executable, "-c", _DRAW, *family_ids],
        env={**os.environ, "MUJOCO_GL": backend},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_images_show_every_robot_wherever_it_is():
    done = render_in_process("egl", *(i for i in IDS if i != "Walker2DRandParams:pearl"))
    if "MuJoCo cannot render off screen here" in done.stderr or "EGL" in done.stderr:
        pytest.skip("MuJoCo cannot render on this machine")
    assert done.returncode == 0, done.stderr


def test_a_machine_that_cannot_render_names_the_remedy():
    done = render_in_process("disable", "SwimmerVel:promp")
    assert done.returncode == 1
    assert "MuJoCo cannot render off screen here" in done.stderr
    assert "it needs the libraries libegl1, libgl1 and libgles2" in done.stderr


# Silent failures.


def test_actions_that_are_not_finite_are_rejected(make):
    """MuJoCo would end the episode with reward 0, the highest that a cheetah can have."""
    batch = make("HalfCheetahVel:pearl")
    actions = torch.zeros(2, 2, 6)
    actions[1, 0, 3] = np.nan
    with pytest.raises(
        NonFiniteError, match=r"must be finite, got .*nan.* for task 1, environment 0"
    ):
        batch.step(actions)
    assert batch.step(torch.zeros(2, 2, 6)).observations.isfinite().all()


def test_models_of_another_shape_are_rejected():
    cheetah, ant = (make_family(name).model for name in ("HalfCheetahVel:pearl", "AntDir:promp"))
    with pytest.raises(ValueError, match="models must have one shape, got nq 15 in model 1 and"):
        MujocoBatch([cheetah, ant], 2, frame_skip=5)
    batch = MujocoBatch(cheetah, 2, frame_skip=5)
    try:
        with pytest.raises(
            ValueError, match="models must have one shape, got nq 15 in model 0 and"
        ):
            batch.set_models([ant, ant])
        slower = copy.deepcopy(cheetah)
        slower.opt.timestep *= 2
        with pytest.raises(ValueError, match=r"models must have one time step, got 0.02"):
            batch.set_models([cheetah, slower])
    finally:
        batch.close()


def test_no_more_than_two_renderers_are_kept(monkeypatch):
    class Renderer:
        num_open = 0

        def __init__(self, *_: object) -> None:
            Renderer.num_open += 1

        def close(self) -> None:
            Renderer.num_open -= 1

    renderers = _Renderers()
    monkeypatch.setattr(mujoco, "Renderer", Renderer)
    monkeypatch.setattr(
        "metarl.envs.simulators.mujoco_rendering._use_egl_without_a_display", lambda: None
    )
    models = [mujoco.MjModel.from_xml_string("<mujoco/>") for _ in range(3)]
    kept = renderers.get(models[0])
    assert renderers.get(models[0]) is kept
    for model in models * 2:
        renderers.get(model)
    assert Renderer.num_open == 2
    assert renderers.get(models[2]) is not kept
    renderers.close()
    assert Renderer.num_open == 0


@pytest.mark.parametrize("shared", [True, False])
def test_some_environments_step_as_if_all_did_and_the_others_wait(shared):
    family = make_family("Walker2DRandParams:pearl")
    models = family.task_models(family.sample_tasks(5, seed=0))
    used = family.model if shared else models
    controls = np.random.default_rng(0).uniform(-1, 1, (6, 5, 6))
    masks = [np.ones(5, bool), np.array([True, False, True, True, False]), np.zeros(5, bool)]
    whole, some = (MujocoBatch(used, 5, frame_skip=family.robot.frame_skip) for _ in range(2))
    for batch in (whole, some):
        batch.set_states(np.tile(family.model.qpos0, (5, 1)), np.zeros((5, family.model.nv)))
    for control in controls:
        before = whole._states.copy()
        some._states[:] = before
        whole.step(control)
        for mask in masks:
            some._states[:] = before
            some.step(control, mask)
            assert np.array_equal(some._states[mask], whole._states[mask])
            assert np.array_equal(some._states[~mask], before[~mask])
            assert some.diverged() is None
    whole.close()
    some.close()


def test_an_episode_that_has_ended_waits_for_its_reset():
    family = make_family("Walker2DRandParams:pearl")
    batch = family.make_batch(family.sample_tasks(3, seed=0), num_envs=4)
    batch.reset(generator())
    noise, waits, last = generator(1), None, None
    for _ in range(family.horizon):
        step = batch.step(2 * torch.rand(3, 4, 6, generator=noise) - 1)
        if waits is not None and bool(waits.any()):
            assert torch.equal(step.observations[waits], last[waits])
            assert not step.rewards[waits].any()
            assert (step.terminated | step.truncated)[waits].all()
            assert not torch.equal(step.observations[~waits], last[~waits]) or bool(waits.all())
        waits, last = step.terminated | step.truncated, step.observations
        if bool(waits.all()):
            break
    assert waits.any()
    ended = torch.zeros(3, 4, dtype=torch.bool)
    ended[waits.nonzero()[0][0], waits.nonzero()[0][1]] = True
    batch.reset(generator(2), ended)
    step = batch.step(torch.zeros(3, 4, 6))
    assert not torch.equal(step.observations[ended], last[ended])
    assert not step.terminated[ended].any()
    batch.close()
