"""HalfCheetah families, in which the task is a velocity or a direction. No episode terminates."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import numpy as np
from gymnasium import spaces
from torch import Tensor

from metarl.tasks.family import fixed_tasks, listed_tasks, uniform_tasks
from metarl.tasks.spaces import Tasks
from metarl.validation import lookup

from ..simulators.mujoco_batch import Array
from ..simulators.mujoco_family import ControlStep, MujocoFamily, RobotSpec, States
from .cheetah_body import (
    GYMNASIUM_ROBOT,
    CheetahParams,
    apply_params,
    control_cost,
    observe,
    velocity,
)
from .cheetah_oracle import MAX_ORACLE_SPEED, velocity_actions

__all__ = ["HalfCheetahDir", "HalfCheetahDirSparse", "HalfCheetahVel"]

_FINN = "Finn et al. 2017 (arXiv:1703.03400)"
_ROTHFUSS = "Rothfuss et al. 2019 (arXiv:1810.06784)"
_RAKELLY = "Rakelly et al. 2019 (arXiv:1903.08254)"
_ZINTGRAF = "Zintgraf et al. 2020 (arXiv:1910.08348)"
_CAVIA = "Zintgraf et al. 2019 (arXiv:1810.03642)"
_DELEU = "Deleu, pytorch-maml-rl"
_GARAGE = "garage"
_LEARN2LEARN = "learn2learn"
_AMAGO = "Grigsby et al. 2024 (arXiv:2310.09971)"
_RENAMED = (
    "in version 0.1.0, this name stood for HalfCheetah{}:cavia, so results of that version belong "
    "to it"
)


_VEL = {
    "maml17": CheetahParams(_FINN, 2.0, is_rllab=True, warning=_RENAMED.format("Vel")),
    "cavia": CheetahParams(_CAVIA, 2.0),
    "pytorch-maml-rl": CheetahParams(_DELEU, 2.0, horizon=100, action_divisor=10.0),
    "garage": CheetahParams(_GARAGE, 2.0, horizon=100, action_divisor=10.0),
    "promp": CheetahParams(_ROTHFUSS, 3.0, observation_size=17, action_divisor=10.0),
    "pearl": CheetahParams(_RAKELLY, 3.0),
    "varibad": CheetahParams(_ZINTGRAF, 3.0, penalizes_unclipped=True),
    "amago": CheetahParams(_AMAGO, 3.0, observation_size=17, horizon=1000),
    "ldm": CheetahParams("Lee and Chung 2021 (arXiv:2105.13524)", 3.5, penalizes_unclipped=True),
}

_DIR = {
    "maml17": CheetahParams(_FINN, is_rllab=True, warning=_RENAMED.format("Dir")),
    "cavia": CheetahParams(_CAVIA),
    "pytorch-maml-rl": CheetahParams(_DELEU, horizon=100, action_divisor=10.0),
    "garage": CheetahParams(_GARAGE, horizon=100, action_divisor=10.0),
    "learn2learn": CheetahParams(_LEARN2LEARN, horizon=100),
    "promp": CheetahParams(_ROTHFUSS, observation_size=17, action_divisor=10.0),
    "pearl": CheetahParams(_RAKELLY),
    "varibad": CheetahParams(_ZINTGRAF, penalizes_unclipped=True),
}

_DIR_SPARSE = {
    "hyperx": CheetahParams(
        "Zintgraf et al. 2021 (arXiv:2010.01062)",
        observation_size=21,
        min_distance_meters=5.0,
        penalizes_unclipped=True,
    ),
    "hyper": CheetahParams(
        "Beck et al. 2022 (arXiv:2210.11348)",
        horizon=400,
        min_distance_meters=10.0,
        penalizes_unclipped=True,
    ),
}

# Lee and Chung 2021: training velocities at both ends, test velocities in between.
_LDM_TRAIN_STARTS, _LDM_TRAIN_WIDTH = (0.0, 3.0), 0.5
_LDM_TEST = np.arange(0.25, 3.5, 0.5)[:, None]

# Rakelly et al. 2019: cheetah-vel.json, lines 3 to 6, and half_cheetah_vel.py, lines 49 to 53.
_PEARL_SPLIT_SIZES = (100, 30)


@cache
def _pearl_velocities() -> Tasks:
    """The source's velocities. Shape [130, 1]."""
    return np.random.RandomState(1337).uniform(0.0, 3.0, (sum(_PEARL_SPLIT_SIZES), 1))


class HalfCheetahVel(MujocoFamily):
    """Run forward at a hidden target velocity.

        r = −|v − v*| − 0.05 ‖a‖²,   v = Δx / 0.05 s of the root joint

    In "maml17", a step takes 0.01 s, v is the velocity of the robot's center of mass after it, and
    the center of mass is observed in place of the torso, as in half_cheetah_env_rand.py (lines
    41 to 66) and mujoco_env.py (72 to 77) of cbfinn/maml_rl. All later codes, such as "cavia", have
    Gym's 0.05 s.

    Task: v* in m/s, shape [1]. Action: torques in [−1, 1], [6]. The cost is for the clipped action
    a, except in "varibad" and "ldm": as in their code (half_cheetah_vel.py, lines 35 to 40), the
    simulator clips the action of the policy, but the cost is for the action before clipping.
    "pearl" has the fixed list of its code (half_cheetah_vel.py, lines 49 to 53, with seed 1337):
    100 velocities for training and 30 for testing.

    Source: Finn et al. 2017 (arXiv:1703.03400), sec. 5.3; parameters from each variant's source.
    Differs: the torso's position belongs to the same time as the rest of the observation; in all
    sources except that of Finn et al., it is one physics step older. "maml17" and "ldm" have no
    oracle: the policy that serves the other variants was trained for steps of 0.05 s and up to
    3 m/s, where it falls in 1 of 15 episodes; at 3.25 and 3.5 m/s it would in 1 of 7 and 1 of 3.
    """

    name: ClassVar[str] = "HalfCheetahVel"
    variants: ClassVar[tuple[str, ...]] = tuple(_VEL)
    robot: RobotSpec = GYMNASIUM_ROBOT

    def __init__(self, variant: str) -> None:
        self._params = params = lookup("variant of HalfCheetahVel", variant, _VEL)
        apply_params(self, variant, params)
        self.task_space = spaces.Box(0.0, params.max_speed, (1,), np.float64)
        self.task_description = f"target velocity U(0, {params.max_speed:g}) m/s"
        if variant == "pearl":
            self.task_description = "one of 130 target velocities in [0, 3] m/s (30 for testing)"
        if variant == "ldm":
            self.ood_splits, self.shared_tasks = ("test",), "some"
            self.task_description = (
                "target velocity U([0, .5] ∪ [3, 3.5]) m/s; tested at .25, .75, … 3.25"
            )

    def observe(self, states: States) -> Array:
        return observe(states, self._params)

    def reward(self, step: ControlStep) -> Array:
        return -np.abs(velocity(step, self._params) - step.tasks[:, 0]) - control_cost(
            step, self._params
        )

    def best_actions(self, observations: Tensor, tasks: Tensor) -> Tensor | None:
        """Actions of a trained policy that observes the target velocity; None if it does not apply.

        It was trained on Gymnasium's control step for up to 3 m/s, so "maml17" and "ldm" have none.
        """
        if self._params.is_rllab or self._params.max_speed > MAX_ORACLE_SPEED:
            return None
        return velocity_actions(observations[..., :17], tasks)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        if self.variant == "pearl":
            return fixed_tasks(_pearl_velocities(), _PEARL_SPLIT_SIZES, split, num_tasks, rng)
        if self.variant != "ldm":  # train and test velocities come from one distribution
            return uniform_tasks(self.task_space, num_tasks, rng)
        if split == "test":
            return listed_tasks(_LDM_TEST, num_tasks, rng)
        ends = rng.choice(_LDM_TRAIN_STARTS, (num_tasks, 1))
        return ends + rng.uniform(0, _LDM_TRAIN_WIDTH, (num_tasks, 1))


class HalfCheetahDir(MujocoFamily):
    """Run in a hidden direction, forward or backward.

        r = d v − 0.05 ‖a‖²,   d = −1 or +1,   v = Δx / 0.05 s of the root joint

    In "maml17", time step, velocity and observation are as in HalfCheetahVel:maml17
    (half_cheetah_env_rand_direc.py, lines 49 to 74).

    Task: 0 backward, 1 forward, shape [1]. Action: torques in [−1, 1], [6]. The cost is for the
    clipped action a, except in "varibad", where it is for the action before clipping, as in
    half_cheetah_dir.py, lines 38 to 43, of its code.

    Source: Finn et al. 2017 (arXiv:1703.03400), sec. 5.3; parameters from each variant's source.
    """

    name: ClassVar[str] = "HalfCheetahDir"
    variants: ClassVar[tuple[str, ...]] = tuple(_DIR)
    robot: RobotSpec = GYMNASIUM_ROBOT
    shared_tasks = "all"

    def __init__(self, variant: str) -> None:
        self._params = params = lookup("variant of HalfCheetahDir", variant, _DIR)
        apply_params(self, variant, params)
        self.task_space = spaces.Discrete(2)
        self.task_description = "direction backward or forward"

    def observe(self, states: States) -> Array:
        return observe(states, self._params)

    def reward(self, step: ControlStep) -> Array:
        return (2 * step.tasks[:, 0] - 1) * velocity(step, self._params) - control_cost(
            step, self._params
        )

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        if self.variant == "pearl":  # equally many tasks of both directions
            return listed_tasks(np.array([[0.0], [1.0]]), num_tasks, rng)
        return super()._sample_tasks(num_tasks, split, rng)


class HalfCheetahDirSparse(MujocoFamily):
    """Run in a hidden direction, forward or backward; running is rewarded only far from the start.

        r = [|x| ≥ x_min] d v − 0.05 ‖a‖²

    Task: 0 backward, 1 forward, shape [1]. x is the root joint's position after the step;
    x_min is 5 m in "hyperx" and 10 m in "hyper". The simulator clips the action to [−1, 1], but the
    cost is for the action a before clipping, as in half_cheetah_dir.py of both sources, lines 40 to
    45 and 41 to 46. An observation of "hyperx" is the torso's position, qpos and qvel.

    Source: Zintgraf et al. 2021 (arXiv:2010.01062), app.; Beck et al. 2022 (arXiv:2210.11348).
    """

    name: ClassVar[str] = "HalfCheetahDirSparse"
    variants: ClassVar[tuple[str, ...]] = tuple(_DIR_SPARSE)
    robot: RobotSpec = GYMNASIUM_ROBOT
    shared_tasks = "all"

    def __init__(self, variant: str) -> None:
        self._params = params = lookup("variant of HalfCheetahDirSparse", variant, _DIR_SPARSE)
        apply_params(self, variant, params)
        self.task_space = spaces.Discrete(2)
        distance = f"{self._params.min_distance_meters:g} m"
        self.task_description = f"direction backward or forward, rewarded beyond {distance}"

    def observe(self, states: States) -> Array:
        return observe(states, self._params)

    def reward(self, step: ControlStep) -> Array:
        progress = (2 * step.tasks[:, 0] - 1) * velocity(step, self._params)
        is_far = np.abs(step.qpos[:, 0]) >= self._params.min_distance_meters
        return np.where(is_far, progress, 0.0) - control_cost(step, self._params)
