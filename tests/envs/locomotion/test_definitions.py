"""One control step of every locomotion variant, against formulas written from its source.

Plain MuJoCo computes the step again from the batch's state: `frame_skip` physics steps, then forces
and velocities in the state that is observed. Rewards, observations and ends follow from the
formulas below, whose lines in the sources are named; "maml_rl" is cbfinn/maml_rl.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import mujoco
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from metarl.envs import family_ids, make_family
from metarl.envs.simulators.mujoco_family import MujocoFamily, MujocoFamilyBatch

Array: TypeAlias = NDArray[np.float64]
NUM_TASKS, NUM_ENVS, NUM_STEPS = 2, 4, 5


@pytest.fixture(autouse=True)
def _log_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """MuJoCo writes a log of its warnings into the working directory."""
    monkeypatch.chdir(tmp_path)


@dataclass
class Motion:
    """One environment before and after a control step."""

    model: mujoco.MjModel
    data: mujoco.MjData  # after the step
    qpos_before: Array
    center_before: Array  # center of mass, meters
    dt: float  # seconds
    task: Array
    action: Array  # in the control cost

    @property
    def x_speed(self) -> float:
        """Δx / dt of the root."""
        return (self.data.qpos[0] - self.qpos_before[0]) / self.dt

    @property
    def plane_speed(self) -> Array:
        return (self.data.qpos[:2] - self.qpos_before[:2]) / self.dt

    @property
    def center_speed(self) -> Array:
        """`get_body_comvel("torso")`: maml_rl rllab/mujoco_py/mjcore.py:58-81."""
        return self.data.subtree_linvel[1]

    @property
    def squares(self) -> float:
        return float(self.action @ self.action)

    @property
    def contact_cost(self) -> float:
        return 0.5e-3 * float(np.square(np.clip(self.data.cfrc_ext, -1, 1)).sum())


Reward: TypeAlias = Callable[[Motion], float]
Observe: TypeAlias = Callable[[Motion], Array]
Ends: TypeAlias = Callable[[Motion], bool]


def sign(motion: Motion) -> float:
    """Tasks 0 and 1 are −1 and +1."""
    return 2 * motion.task[0] - 1


def cheetah_vel(m: Motion) -> float:
    return -abs(m.x_speed - m.task[0]) - 0.05 * m.squares


def cheetah_dir(m: Motion) -> float:
    return sign(m) * m.x_speed - 0.05 * m.squares


def sparse_dir(m: Motion, beyond: float) -> float:
    return cheetah_dir(m) if abs(m.data.qpos[0]) >= beyond else -0.05 * m.squares


def finn_vel(m: Motion) -> float:
    return -abs(m.center_speed[0] - m.task[0]) - 0.05 * m.squares


def finn_dir(m: Motion) -> float:
    return sign(m) * m.center_speed[0] - 0.05 * m.squares


def ant_vel(m: Motion, speed: str = "plane_speed") -> float:
    forward = -abs(getattr(m, speed)[0] - m.task[0]) + 1.0
    return forward - 0.005 * m.squares - m.contact_cost + 0.05


def small_ant_dir(m: Motion, speed: str = "plane_speed") -> float:
    return sign(m) * getattr(m, speed)[0] - 0.005 * m.squares - m.contact_cost + 0.05


def ant_along(m: Motion, angle: float) -> float:
    forward = m.plane_speed @ [np.cos(angle), np.sin(angle)]
    return float(forward) - 0.5 * m.squares - m.contact_cost + 1.0


def ant_angle(m: Motion) -> float:
    return ant_along(m, m.task[0])


def ant_sign(m: Motion) -> float:
    return sign(m) * m.x_speed - 0.5 * m.squares - m.contact_cost + 1.0


def ant_radian(m: Motion) -> float:
    return ant_along(m, sign(m))


def distance(m: Motion, order: int, place: Array | None = None) -> float:
    place = m.data.qpos[:2] if place is None else place
    return float(np.linalg.norm(place - m.task, ord=order))


def small_ant_goal(m: Motion) -> float:
    return -distance(m, 1) + 4.0 - 0.005 * m.squares - m.contact_cost + 0.05


def finn_goal(m: Motion) -> float:
    center = m.data.subtree_com[1][:2]
    return -distance(m, 1, center) + 4.0 - 0.005 * m.squares - m.contact_cost + 0.05


def ant_goal(m: Motion) -> float:
    return -distance(m, 1) - 0.1 * m.squares - m.contact_cost


def hyperx_goal(m: Motion) -> float:
    d = distance(m, 2)
    return (1.0 - d if d <= 0.75 else -0.75) - 0.01 * m.squares - m.contact_cost


def metacure_goal(m: Motion) -> float:
    dense = ant_goal(m)
    return (0.0 if dense < -0.8 else dense + 2.0) - 0.1 * m.squares - m.contact_cost


def humanoid(m: Motion, angle: float) -> float:
    moved = (m.data.subtree_com[0] - m.center_before)[:2]
    forward = 0.25 * float(moved @ [np.cos(angle), np.sin(angle)]) / m.model.opt.timestep
    impact = min(0.5e-6 * float(np.square(m.data.cfrc_ext).sum()), 10)
    return forward - 0.1 * m.squares - impact + 5.0


def walker_vel(m: Motion) -> float:
    return -abs(m.x_speed - m.task[0]) + 15.0 - 1e-3 * m.squares


def walker_dir(m: Motion) -> float:
    return sign(m) * m.x_speed + 1.0 - 1e-3 * m.squares


def swimmer_vel(m: Motion) -> float:
    return -abs(m.x_speed - m.task[0]) - 1e-4 * m.squares  # the sign is corrected


def rand_params(m: Motion) -> float:
    return m.x_speed + 1.0 - 1e-3 * m.squares


PARTS: dict[str, Observe] = {
    "qpos": lambda m: m.data.qpos,
    "qpos[1:]": lambda m: m.data.qpos[1:],
    "qpos[2:]": lambda m: m.data.qpos[2:],
    "qvel": lambda m: m.data.qvel,
    "qvel±10": lambda m: np.clip(m.data.qvel, -10, 10),
    "torso": lambda m: m.data.body("torso").xpos,
    "center": lambda m: m.data.subtree_com[1],
    "xmat": lambda m: m.data.body("torso").xmat,
    "contacts": lambda m: np.clip(m.data.cfrc_ext, -1, 1),
    "cinert": lambda m: m.data.cinert,
    "cvel": lambda m: m.data.cvel,
    "qfrc_actuator": lambda m: m.data.qfrc_actuator,
    "cfrc_ext": lambda m: m.data.cfrc_ext,
}


def never(m: Motion) -> bool:
    del m
    return False


def height_outside(m: Motion, low: float, high: float) -> bool:
    return not low <= m.data.qpos[2] <= high


def walker_fallen(m: Motion) -> bool:
    return not (0.8 < m.data.qpos[1] < 2.0 and -1.0 < m.data.qpos[2] < 1.0)


def hopper_fallen(m: Motion) -> bool:
    state = np.concatenate([m.data.qpos, m.data.qvel])
    return not ((abs(state[2:]) < 100).all() and state[1] > 0.7 and abs(state[2]) < 0.2)


low_ant, tall_ant = (partial(height_outside, low=low, high=1.0) for low in (0.2, 0.0))
humanoid_fallen = partial(height_outside, low=1.0, high=2.0)


@dataclass(frozen=True)
class Source:
    """Definition of a variant, with the lines it was written from."""

    lines: str
    reward: Reward
    observation: str
    ends: Ends = never
    timestep: float = 0.01  # seconds
    frame_skip: int = 5
    steps: int = 200
    cost_of: Literal["clipped action", "policy's action"] = "clipped action"


CHEETAH = "qpos[1:] qvel torso"
ANT_125 = "qpos qvel contacts xmat torso"
ANT_113 = "qpos qvel contacts"
ANT_111 = "qpos[2:] qvel contacts"
ANT_27 = "qpos[2:] qvel"
HUMANOID = "qpos[2:] qvel cinert cvel qfrc_actuator cfrc_ext"
WALKER = "qpos[1:] qvel±10"

FINN_CHEETAH = partial(Source, observation="qpos[1:] qvel center", frame_skip=1)
FINN_ANT = partial(
    Source,
    observation="qpos qvel contacts xmat center",
    ends=low_ant,
    timestep=0.02,
    frame_skip=1,
)
SMALL_ANT = partial(Source, observation=ANT_125, ends=low_ant)
RAW = partial(Source, cost_of="policy's action")
HUMANOID_ROBOT = partial(
    Source, observation=HUMANOID, ends=humanoid_fallen, timestep=0.003, frame_skip=5
)
WALKER_ROBOT = partial(Source, observation=WALKER, ends=walker_fallen, timestep=0.002, frame_skip=8)
RAND_PARAMS = partial(Source, observation=WALKER, timestep=0.004, frame_skip=4)

SOURCES: dict[str, Source] = {
    "HalfCheetahVel:maml17": FINN_CHEETAH(
        "maml_rl half_cheetah_env_rand.py:41-66, mujoco_env.py:72-77 and 183-190", finn_vel
    ),
    "HalfCheetahVel:cavia": Source(
        "cavia rl/envs/mujoco/half_cheetah.py:6-11 and 94-109", cheetah_vel, CHEETAH
    ),
    "HalfCheetahVel:pytorch-maml-rl": Source(
        "maml_rl/envs/mujoco/half_cheetah.py:7-12 and 59-74", cheetah_vel, CHEETAH, steps=100
    ),
    "HalfCheetahVel:garage": Source(
        "half_cheetah_vel_env.py:59-73, half_cheetah_env_meta_base.py:36-40",
        cheetah_vel,
        CHEETAH,
        steps=100,
    ),
    "HalfCheetahVel:promp": Source("half_cheetah_rand_vel.py:30-46", cheetah_vel, "qpos[1:] qvel"),
    "HalfCheetahVel:pearl": Source(
        "rlkit/envs/half_cheetah_vel.py:33-47, half_cheetah.py:5-10", cheetah_vel, CHEETAH
    ),
    "HalfCheetahVel:varibad": RAW("half_cheetah_vel.py:33-48", cheetah_vel, CHEETAH),
    "HalfCheetahVel:amago": Source(
        "amago/envs/builtin/half_cheetah_v4_vel.py:65-130", cheetah_vel, "qpos[1:] qvel", steps=1000
    ),
    "HalfCheetahVel:ldm": RAW("half_cheetah_vel.py:36-51", cheetah_vel, CHEETAH),
    "HalfCheetahDir:maml17": FINN_CHEETAH(
        "maml_rl half_cheetah_env_rand_direc.py:49-74, mujoco_env.py:72-77 and 183-190", finn_dir
    ),
    "HalfCheetahDir:cavia": Source(
        "cavia rl/envs/mujoco/half_cheetah.py:6-11 and 145-160", cheetah_dir, CHEETAH
    ),
    "HalfCheetahDir:pytorch-maml-rl": Source(
        "maml_rl/envs/mujoco/half_cheetah.py:7-12 and 109-124", cheetah_dir, CHEETAH, steps=100
    ),
    "HalfCheetahDir:garage": Source(
        "half_cheetah_dir_env.py:62-83", cheetah_dir, CHEETAH, steps=100
    ),
    "HalfCheetahDir:learn2learn": Source(
        "halfcheetah_forward_backward.py:56-92", cheetah_dir, CHEETAH, steps=100
    ),
    "HalfCheetahDir:promp": Source(
        "half_cheetah_rand_direc.py:32-47", cheetah_dir, "qpos[1:] qvel"
    ),
    "HalfCheetahDir:pearl": Source(
        "rlkit/envs/half_cheetah_dir.py:34-48, half_cheetah.py:5-10", cheetah_dir, CHEETAH
    ),
    "HalfCheetahDir:varibad": RAW("half_cheetah_dir.py:36-51", cheetah_dir, CHEETAH),
    "HalfCheetahDirSparse:hyperx": RAW(
        "half_cheetah.py:12-17, half_cheetah_dir.py:38-51 and 107-117, __init__.py:31-38",
        partial(sparse_dir, beyond=5.0),
        "torso qpos qvel",
    ),
    "HalfCheetahDirSparse:hyper": RAW(
        "half_cheetah.py:12-17, half_cheetah_dir.py:39-54 and 113-123, __init__.py:110-119",
        partial(sparse_dir, beyond=10.0),
        CHEETAH,
        steps=400,
    ),
    "AntVel:maml17": FINN_ANT(
        "maml_rl ant_env_rand.py:21-65", partial(ant_vel, speed="center_speed")
    ),
    "AntVel:cavia": SMALL_ANT("cavia rl/envs/mujoco/ant.py:15-22 and 68-90", ant_vel),
    "AntVel:pytorch-maml-rl": SMALL_ANT("ant.py:16-23 and 71-95", ant_vel, steps=100),
    "AntDir:maml17": FINN_ANT(
        "maml_rl ant_env_rand_direc.py:19-64", partial(small_ant_dir, speed="center_speed")
    ),
    "AntDir:cavia": SMALL_ANT("cavia rl/envs/mujoco/ant.py:15-22 and 127-149", small_ant_dir),
    "AntDir:pytorch-maml-rl": SMALL_ANT("ant.py:16-23 and 131-155", small_ant_dir, steps=100),
    "AntDir:promp": Source("ant_rand_direc.py:32-57", ant_sign, ANT_111, tall_ant),
    "AntDir:promp-2d": Source("ant_rand_direc_2d.py:34-59", ant_angle, ANT_111, tall_ant),
    "AntDir:learn2learn": Source("ant_direction.py:59-98", ant_angle, ANT_111, tall_ant, steps=100),
    "AntDir:pearl": Source("rlkit/envs/ant_dir.py:14-40, ant.py:43-49", ant_angle, ANT_27, low_ant),
    "AntDir:pearl-forward-backward": Source(
        "rlkit/envs/ant_dir.py:14-46, ant.py:43-49", ant_sign, ANT_27, low_ant
    ),
    "AntDir:varibad": RAW("ant_dir.py:19-45, ant.py:47-53", ant_radian, ANT_27, low_ant),
    "AntDir:ldm": RAW("ant_dir.py:20-59, ant.py:52-58", ant_angle, ANT_27, low_ant),
    "AntGoal:maml17": FINN_ANT("maml_rl ant_env_rand_goal.py:20-65", finn_goal),
    "AntGoal:cavia": SMALL_ANT("cavia rl/envs/mujoco/ant.py:15-22 and 182-204", small_ant_goal),
    "AntGoal:pytorch-maml-rl": SMALL_ANT("ant.py:16-23 and 190-212", small_ant_goal, steps=100),
    "AntGoal:promp": Source("ant_rand_goal.py:32-57", ant_goal, ANT_113),
    "AntGoal:pearl": Source("rlkit/envs/ant_goal.py:13-46", ant_goal, ANT_113),
    "AntGoal:varibad": RAW("ant_goal.py:15-53", ant_goal, ANT_113),
    "AntGoal:ldm": RAW("ant_goal.py:19-71", ant_goal, ANT_113),
    "AntGoalSparse:hyperx": RAW("ant_goal.py:74-122", hyperx_goal, "torso " + ANT_113),
    "AntGoalSparse:metacure": Source(
        "rlkit/envs/ant_goal.py:55-101", metacure_goal, ANT_113, steps=32
    ),
    "HumanoidDir:pearl": HUMANOID_ROBOT(
        "rlkit/envs/humanoid_dir.py:20-48", lambda m: humanoid(m, m.task[0])
    ),
    "HumanoidDir:promp": HUMANOID_ROBOT(
        "humanoid_rand_direc_2d.py:36-58", lambda m: humanoid(m, m.task[0])
    ),
    "HumanoidDir:learn2learn": HUMANOID_ROBOT(
        "humanoid_direction.py:65-104", lambda m: humanoid(m, m.task[0])
    ),
    "Walker2DVel:promp": WALKER_ROBOT("walker2d_rand_vel.py:29-46", walker_vel),
    "Walker2DDir:promp": WALKER_ROBOT("walker2d_rand_direc.py:29-45", walker_dir),
    "SwimmerVel:promp": Source(
        "swimmer_rand_vel.py:31-45", swimmer_vel, "qpos[2:] qvel", frame_skip=4
    ),
    "Walker2DRandParams:pearl": RAND_PARAMS(
        "rand_param_envs walker2d_rand_params.py:10-26, base.py:62",
        rand_params,
        ends=walker_fallen,
    ),
    "HopperRandParams:pearl": RAND_PARAMS(
        "rand_param_envs hopper_rand_params.py:10-28, base.py:62", rand_params, ends=hopper_fallen
    ),
}


def test_every_variant_is_compared_with_its_source():
    robots = {
        family_id
        for family_id in family_ids()
        if not family_id.startswith("MetaWorld")
        and isinstance(make_family(family_id), MujocoFamily)
    }
    assert robots == SOURCES.keys()


def started(family: MujocoFamily) -> MujocoFamilyBatch:
    """A batch of which one environment in four starts too high, if height ends episodes.

    Another starts at x = 7.5 m, if the reward depends on it.
    """
    batch = family.make_batch(family.sample_tasks(NUM_TASKS, seed=1), num_envs=NUM_ENVS)
    batch.reset(torch.Generator().manual_seed(0))
    qpos, qvel = batch.physics.qpos.copy(), batch.physics.qvel.copy()
    root_is_free = family.model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE
    high = {True: 0.8, False: 1.1}[bool(root_is_free)]
    if family.name.startswith(("Ant", "Humanoid", "Walker")):
        qpos[::NUM_ENVS, 2 if root_is_free else 1] += high
    if family.name == "HalfCheetahDirSparse":
        qpos[1::NUM_ENVS, 0] += 7.5
        qpos[2::NUM_ENVS, 0] += 15
    if family.name.startswith("Hopper"):
        qpos[::NUM_ENVS, 2] += 0.3  # pitch
    batch.physics.set_states(qpos, qvel)
    return batch


def simulate(
    model: mujoco.MjModel, source: Source, qpos: Array, qvel: Array, control: Array
) -> tuple[mujoco.MjData, Array]:
    """Plain MuJoCo: data after the control step, and the center of mass before it."""
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    mujoco.mj_forward(model, data)
    center_before = data.subtree_com[0].copy()
    data.ctrl[:], data.qacc_warmstart[:] = control, 0
    for _ in range(source.frame_skip):
        mujoco.mj_step(model, data)
    data.qacc_warmstart[:] = 0
    mujoco.mj_forward(model, data)
    mujoco.mj_rnePostConstraint(model, data)
    mujoco.mj_subtreeVel(model, data)
    return data, center_before


@pytest.mark.parametrize("family_id", SOURCES)
def test_a_control_step_is_that_of_the_source(family_id):
    source, family = SOURCES[family_id], make_family(family_id)
    assert isinstance(family, MujocoFamily)
    assert family.horizon == source.steps
    assert family.model.opt.timestep == source.timestep
    assert family.robot.dt_seconds == pytest.approx(source.timestep * source.frame_skip)
    batch = started(family)
    tasks = family.sample_tasks(NUM_TASKS, seed=1)
    models = family.task_models(tasks) or [family.model] * NUM_TASKS
    low, high = family.action_space.low, family.action_space.high
    generator, ended = torch.Generator().manual_seed(2), set()
    for _ in range(NUM_STEPS):
        qpos, qvel = batch.physics.qpos.copy(), batch.physics.qvel.copy()
        running = ~batch._terminated.copy()
        shape = (NUM_TASKS, NUM_ENVS, len(high))
        actions = 2 * float(high[0]) * (2 * torch.rand(shape, generator=generator) - 1)
        step = batch.step(actions)
        for i in np.flatnonzero(running):
            task, env = divmod(int(i), NUM_ENVS)
            action = actions[task, env].double().numpy()
            control = np.clip(action, low, high)
            data, before = simulate(models[task], source, qpos[i], qvel[i], control)
            charged = control if source.cost_of == "clipped action" else action
            dt = source.timestep * source.frame_skip
            moved = Motion(models[task], data, qpos[i], before, dt, tasks[task], charged)
            expected = np.concatenate([PARTS[p](moved).ravel() for p in source.observation.split()])
            observed = step.observations[task, env].numpy()
            np.testing.assert_allclose(observed, expected, rtol=1e-5, atol=1e-5)
            reward = float(step.rewards[task, env])
            assert reward == pytest.approx(source.reward(moved), rel=1e-4, abs=1e-4)
            assert bool(step.terminated[task, env]) == source.ends(moved)
            ended.add(source.ends(moved))
    batch.close()
    assert ended == ({False} if source.ends is never else {False, True})
