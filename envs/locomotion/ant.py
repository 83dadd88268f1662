"""Ant families whose task is a velocity or a direction.

AntDir has four meanings in the literature, which are variants here: ±x, the whole circle, a few
angles and, probably by mistake, ±1 radian.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.tasks.family import listed_tasks, uniform_tasks
from metarl.tasks.spaces import Tasks
from metarl.validation import lookup

from ..simulators.mujoco_batch import Array
from ..simulators.mujoco_family import ControlStep, MujocoFamily, RobotSpec, States
from .ant_body import (
    GYMNASIUM_ROBOT,
    AntParams,
    apply_params,
    costs,
    fallen,
    observe,
    plane_velocity,
)

__all__ = ["AntDir", "AntVel"]

_FINN = AntParams(
    "Finn et al. 2017 (arXiv:1703.03400)",
    125,
    control_cost=0.005,
    survive=0.05,
    min_torso_height=0.2,
    is_rllab=True,
)
_CAVIA = AntParams(
    "Zintgraf et al. 2019 (arXiv:1810.03642)",
    125,
    control_cost=0.005,
    survive=0.05,
    min_torso_height=0.2,
)
_DELEU = AntParams(
    "Deleu, pytorch-maml-rl",
    125,
    control_cost=0.005,
    survive=0.05,
    min_torso_height=0.2,
    horizon=100,
    action_divisor=10.0,
)
_ROTHFUSS = AntParams(
    "Rothfuss et al. 2019 (arXiv:1810.06784)",
    111,
    control_cost=0.5,
    survive=1.0,
    min_torso_height=0.0,
    action_divisor=10.0,
)
_LEARN2LEARN = AntParams(
    "learn2learn", 111, control_cost=0.5, survive=1.0, min_torso_height=0.0, horizon=100
)
_RAKELLY = AntParams(
    "Rakelly et al. 2019 (arXiv:1903.08254)",
    27,
    control_cost=0.5,
    survive=1.0,
    min_torso_height=0.2,
)
_ZINTGRAF = AntParams(
    "Zintgraf et al. 2020 (arXiv:1910.08348)",
    27,
    control_cost=0.5,
    penalizes_unclipped=True,
    survive=1.0,
    min_torso_height=0.2,
    warning="the directions are ±1 radian (±57°), which the source calls forward and backward: "
    "both point forward, and one policy solves both",
)
_LEE = AntParams(
    "Lee and Chung 2021 (arXiv:2105.13524)",
    27,
    control_cost=0.5,
    penalizes_unclipped=True,
    survive=1.0,
    min_torso_height=0.2,
)

_RENAMED = (
    "in version 0.1.0, this name stood for Ant{}:cavia, so results of that version belong to it"
)

_VEL = {
    "maml17": replace(_FINN, warning=_RENAMED.format("Vel")),
    "cavia": _CAVIA,
    "pytorch-maml-rl": _DELEU,
}

_DIR = {
    "maml17": replace(_FINN, warning=_RENAMED.format("Dir")),
    "cavia": _CAVIA,
    "pytorch-maml-rl": _DELEU,
    "promp": _ROTHFUSS,
    "promp-2d": _ROTHFUSS,
    "learn2learn": _LEARN2LEARN,
    "pearl": _RAKELLY,
    "pearl-forward-backward": _RAKELLY,
    "varibad": _ZINTGRAF,
    "ldm": _LEE,
}

# Angles in radians of tasks 0 and 1, for variants with two directions; in the other variants the
# task is the angle.
_TWO_ANGLES = {
    "maml17": (np.pi, 0.0),
    "cavia": (np.pi, 0.0),
    "pearl-forward-backward": (np.pi, 0.0),
    "pytorch-maml-rl": (np.pi, 0.0),
    "promp": (np.pi, 0.0),
    "varibad": (-1.0, 1.0),
}
_AXES = np.arange(4)[:, None] * np.pi / 2
_DIAGONALS = _AXES + np.pi / 4
# Lee and Chung 2021 train on the axes and test on the axes and diagonals.
_LDM_SPLITS = {"train": _AXES, "test": np.concatenate([_AXES, _DIAGONALS])}


class AntVel(MujocoFamily):
    """Run forward at a hidden target velocity.

        r = −|v − v*| + 1 + 0.05 − 0.005 ‖a‖² − 0.0005 Σ clip(cfrc_ext, ±1)²,   v = Δx / 0.05 s

    Task: v* in m/s, shape [1]. Action: torques in [−1, 1], [8]. The episode ends when the torso's
    height leaves [0.2, 1] m.

    In "maml17", a step takes 0.02 s, v is the velocity of the robot's center of mass after it, the
    center of mass is observed in place of the torso's position, and contacts are softer, as in
    ant_env_rand.py (lines 21 to 65), mujoco_env.py (72 to 83) and ant.xml (3 to 9) of
    cbfinn/maml_rl. All later codes, such as "cavia", have Gym's Ant with 0.05 s.

    Source: Finn et al. 2017 (arXiv:1703.03400), sec. 5.3; parameters from each variant's source.
    Differs: the torso's position belongs to the same time as the rest of the observation; in all
    sources except that of Finn et al., it is one physics step older.
    """

    name: ClassVar[str] = "AntVel"
    variants: ClassVar[tuple[str, ...]] = tuple(_VEL)
    robot: RobotSpec = GYMNASIUM_ROBOT
    task_description = "target velocity U(0, 3) m/s"

    def __init__(self, variant: str) -> None:
        self._params = lookup("variant of AntVel", variant, _VEL)
        apply_params(self, variant, self._params)
        self.task_space = spaces.Box(0.0, 3.0, (1,), np.float64)

    def observe(self, states: States) -> Array:
        return observe(states, self._params)

    def reward(self, step: ControlStep) -> Array:
        control, contact = costs(step, self._params)
        speed_error = np.abs(plane_velocity(step, self._params)[:, 0] - step.tasks[:, 0])
        return 1.0 - speed_error + self._params.survive - control - contact

    def terminated(self, step: ControlStep) -> NDArray[np.bool_] | None:
        return fallen(step, self._params)


class AntDir(MujocoFamily):
    """Run in a hidden direction.

        r = d · v + s − c ‖a‖² − 0.0005 Σ clip(cfrc_ext, ±1)²,   v = Δ(x, y) / 0.05 s

    with d = (cos φ, sin φ), c = 0.5 and s = 1 ("maml17", "cavia", "pytorch-maml-rl": 0.005 and
    0.05). In "maml17", time step, velocity and observation are as in AntVel:maml17
    (ant_env_rand_direc.py, lines 19 to 64).

    Task: the angle φ in radians, shape [1]; in variants with two directions, 0 for the first
    (backward, or −1 radian) and 1 for the second. Action: torques in [−1, 1], [8]. The episode ends
    when the torso's height leaves [0.2, 1] m ("promp", "promp-2d", "learn2learn": [0, 1] m). The
    cost is for the clipped action a, except in "varibad" and "ldm", where it is for the action
    before clipping, as in ant_dir.py of their code, lines 24 to 29.

    Source: Finn et al. 2017 (arXiv:1703.03400), sec. 5.3; parameters from each variant's source.
    Differs: as AntVel. In "promp-2d" and "learn2learn" the source's task is d, here it is φ.
    "pearl-forward-backward" is the Ant of PEARL's figures, Ant-Fwd-Back: two directions, of which
    as many tasks each are sampled (ant_dir.py, lines 42 to 49). "pearl" is the same code without
    `forward_backward`, which samples as many angles as its configuration states, two in
    ant-dir.json; here every angle is sampled independently.
    """

    name: ClassVar[str] = "AntDir"
    variants: ClassVar[tuple[str, ...]] = tuple(_DIR)
    robot: RobotSpec = GYMNASIUM_ROBOT

    def __init__(self, variant: str) -> None:
        self._params = lookup("variant of AntDir", variant, _DIR)
        apply_params(self, variant, self._params)
        if variant in _TWO_ANGLES:
            self.task_space: spaces.Box | spaces.Discrete = spaces.Discrete(2)
            self._angles: Array | None = np.array(_TWO_ANGLES[variant])
            self.shared_tasks = "all"
            self.task_description = (
                "direction −1 or +1 radian" if variant == "varibad" else "direction −x or +x"
            )
        else:
            self.task_space = spaces.Box(0.0, 2 * np.pi, (1,), np.float64)
            self._angles = None
            self.task_description = "direction U(0, 2π)"
        if variant == "ldm":
            self.ood_splits, self.shared_tasks = ("test",), "some"
            self.task_description = (
                "direction along one of 4 axes; tested on the axes and the diagonals"
            )

    def observe(self, states: States) -> Array:
        return observe(states, self._params)

    def reward(self, step: ControlStep) -> Array:
        task = step.tasks[:, 0]
        angle = task if self._angles is None else self._angles[task.astype(np.int64)]
        velocity = plane_velocity(step, self._params)
        progress = np.cos(angle) * velocity[:, 0] + np.sin(angle) * velocity[:, 1]
        control, contact = costs(step, self._params)
        return progress + self._params.survive - control - contact

    def terminated(self, step: ControlStep) -> NDArray[np.bool_] | None:
        return fallen(step, self._params)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        if self.variant == "ldm":
            return listed_tasks(_LDM_SPLITS[split], num_tasks, rng)
        if self.variant == "pearl-forward-backward":
            return listed_tasks(np.array([[0.0], [1.0]]), num_tasks, rng)
        return uniform_tasks(self.task_space, num_tasks, rng)
