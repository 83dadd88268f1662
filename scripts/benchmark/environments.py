"""Benchmark cases of environments: ours, and the vector environments of other libraries.

The other libraries are used as documented, and not slowed down on purpose.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import mujoco
import numpy as np
import torch
from gymnasium import spaces

from metarl.devices import usable_cores
from metarl.envs import make_family
from metarl.rollouts.actors import random_actor
from metarl.scripts.benchmark.case import Case
from metarl.seeding import torch_generator

__all__ = ["ENVIRONMENT_CASES"]

_MIN_STEPS, _ENV_STEPS = 20, 20_000


def _num_steps(num_envs: int) -> int:
    """Control steps of the batch in one run: about 20,000 of single environments."""
    return max(_MIN_STEPS, _ENV_STEPS // num_envs)


def batch(env: str, num_envs: int, num_tasks: int | None = None) -> Callable[[], None]:
    """Our batch: observations and rewards for one tensor of actions per control step."""
    family = make_family(env)
    tasks = num_tasks or num_envs
    environments = family.make_batch(family.sample_tasks(tasks, seed=0), num_envs=num_envs // tasks)
    actor = random_actor(environments, torch_generator(0, "benchmark"))
    like = torch.zeros(tasks, num_envs // tasks, 1)
    actions = [actor(like) for _ in range(_num_steps(num_envs))]

    def run() -> None:
        generator = torch_generator(0, "benchmark")
        environments.reset(generator)
        for action in actions:
            step = environments.step(action)
            ended = step.terminated | step.truncated
            if ended.any():
                environments.reset(generator, None if ended.all() else ended)

    return run


def walker_physics(num_envs: int, shared: bool) -> Callable[[], None]:
    """Physics of the random-dynamics walker: a model for each environment, or one for all."""
    from metarl.envs.locomotion.random_dynamics import Walker2DRandParams
    from metarl.envs.simulators.mujoco_batch import MujocoBatch

    family = Walker2DRandParams("pearl")
    models = family.task_models(family.sample_tasks(num_envs, seed=0))
    assert models is not None
    used = family.model if shared else models
    physics = MujocoBatch(used, num_envs, frame_skip=family.robot.frame_skip)
    zeros = np.zeros((num_envs, physics.model.nv))
    actions = _actions(family.action_space, num_envs)

    def run() -> None:
        physics.set_states(np.tile(physics.model.qpos0, (num_envs, 1)), zeros)
        for action in actions:
            physics.step(action)

    return run


def open_loop(num_envs: int) -> Callable[[], None]:
    """The upper limit: `mujoco.rollout` gets all controls at once and returns states only."""
    from mujoco import rollout

    from metarl.envs.simulators.mujoco_batch import gymnasium_model

    model = gymnasium_model("half_cheetah.xml")
    threads = usable_cores()
    pool = rollout.Rollout(nthread=threads)
    workspaces = [mujoco.MjData(model) for _ in range(threads)]
    size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    state = np.zeros((num_envs, size))
    rng = np.random.default_rng(0)
    controls = np.repeat(rng.uniform(-1, 1, (num_envs, _num_steps(num_envs), 6)), 5, axis=1)

    def run() -> None:
        pool.rollout(model, workspaces, state, controls)

    return run


def gymnasium_vector(env: str, num_envs: int, mode: str) -> Callable[[], None]:
    """Gymnasium's SyncVectorEnv or AsyncVectorEnv."""
    return _vector_steps(
        gymnasium.make_vec(env, num_envs=num_envs, vectorization_mode=mode), num_envs
    )


def metaworld_vector(task: str, num_envs: int) -> Callable[[], None]:
    """Gymnasium's AsyncVectorEnv with Meta-World's environment."""
    import metaworld  # noqa: F401 - registers its environments

    make = partial(gymnasium.make, "Meta-World/MT1", env_name=task, disable_env_checker=True)
    return _vector_steps(
        gymnasium.vector.AsyncVectorEnv([make] * num_envs, context="spawn"), num_envs
    )


def building(env: str, num_envs: int) -> Callable[[], None]:
    """Create a family and its environments, and reset them."""

    def run() -> None:
        family = make_family(env)
        environments = family.make_batch(family.sample_tasks(num_envs, seed=0), num_envs=1)
        environments.reset(torch_generator(0, "benchmark"))
        environments.close()

    return run


def subprocesses(env: str, num_envs: int) -> Callable[[], None]:
    """Stable-Baselines3's SubprocVecEnv, one process per environment."""
    from stable_baselines3.common.vec_env import SubprocVecEnv

    environments = SubprocVecEnv(
        [partial(gymnasium.make, env)] * num_envs, start_method="forkserver"
    )
    actions = _actions(environments.action_space, num_envs)

    def run() -> None:
        environments.reset()
        for action in actions:
            environments.step(action)

    return run


_ENVPOOL = """
import sys
import envpool, numpy as np
name, num_envs, num_steps, num_threads = sys.argv[1], *map(int, sys.argv[2:])
envs = envpool.make_gymnasium(name, num_envs=num_envs, num_threads=num_threads)
shape = (num_steps, num_envs, *envs.action_space.shape)
actions = np.random.default_rng(0).uniform(-1, 1, shape)
for _ in sys.stdin:
    envs.reset()
    for action in actions:
        envs.step(action)
    print("done", flush=True)
"""


def envpool(env: str, num_envs: int, python: str) -> Callable[[], None]:
    """Synchronous EnvPool with one thread per core, in a separate Python installation."""
    threads = usable_cores()
    numbers = (num_envs, _num_steps(num_envs), threads)
    process = subprocess.Popen(
        [python, "-c", _ENVPOOL, env, *map(str, numbers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    requests, answers = process.stdin, process.stdout

    def run() -> None:
        requests.write("run\n")
        requests.flush()
        if "done" not in answers.readline():
            raise RuntimeError(f"EnvPool failed in {python}; it must be installed there")

    return run


def _vector_steps(
    environments: gymnasium.vector.VectorEnv[Any, Any, Any], num_envs: int
) -> Callable[[], None]:
    """Random steps of a Gymnasium vector environment."""
    actions = _actions(environments.single_action_space, num_envs)

    def run() -> None:
        environments.reset(seed=0)
        for action in actions:
            environments.step(action)

    return run


def _actions(space: spaces.Space[Any], num_envs: int) -> list[Any]:
    """Random actions for every step."""
    rng = np.random.default_rng(0)
    steps = _num_steps(num_envs)
    if isinstance(space, spaces.Discrete):
        return list(rng.integers(space.n, size=(steps, num_envs)))
    assert isinstance(space, spaces.Box)
    shape = (steps, num_envs, *space.shape)
    return list(rng.uniform(space.low, space.high, shape).astype(np.float32))


def _env_steps(options: dict[str, Any]) -> float:
    num_envs = int(options["num_envs"])
    return num_envs * _num_steps(num_envs)


ENVIRONMENT_CASES: dict[str, Case] = {
    "batch": Case(batch, _env_steps),
    "walker physics": Case(walker_physics, _env_steps),
    "open loop": Case(open_loop, _env_steps),
    "gymnasium": Case(gymnasium_vector, _env_steps),
    "subprocesses": Case(subprocesses, _env_steps),
    "metaworld vector": Case(metaworld_vector, _env_steps),
    "building": Case(building, 1),
    "envpool": Case(envpool, _env_steps),
}
