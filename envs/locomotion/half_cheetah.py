"""HalfCheetah families, in which the task is a velocity or a direction, and an oracle.

Physics, frame skip and reset noise are Gymnasium's HalfCheetah. No episode terminates.

The oracle of HalfCheetahVel is a policy that observes the target velocity. It was trained with this
toolkit, and its checkpoint is in `assets`; results/README.md has the command.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.rl.action_heads import ActionHead
from metarl.rl.networks import PerceptronNetwork
from metarl.rl.policies import NetworkPolicy
from metarl.storage.checkpoints import load_checkpoint, select_tensors
from metarl.tasks.family import listed_tasks, uniform_tasks
from metarl.tasks.spaces import Tasks
from metarl.validation import lookup

from ..simulators.mujoco_batch import Array, gymnasium_model
from ..simulators.mujoco_family import ControlStep, MujocoFamily, RobotSpec, States

__all__ = ["HalfCheetahDir", "HalfCheetahDirSparse", "HalfCheetahVel", "velocity_actions"]


_ROBOT = RobotSpec(
    load=partial(gymnasium_model, "half_cheetah.xml"),
    frame_skip=5,
    reset_noise=0.1,
    velocity_noise="normal",
)
_CONTROL_COST = 0.05
_FINN = "Finn et al. 2017 (arXiv:1703.03400)"
_ROTHFUSS = "Rothfuss et al. 2019 (arXiv:1810.06784)"
_RAKELLY = "Rakelly et al. 2019 (arXiv:1903.08254)"
_ZINTGRAF = "Zintgraf et al. 2020 (arXiv:1910.08348)"
_CAVIA = "Zintgraf et al. 2019 (arXiv:1810.03642)"
_DELEU = "Deleu, pytorch-maml-rl"
_GARAGE = "garage"
_LEARN2LEARN = "learn2learn"
_AMAGO = "Grigsby et al. 2024 (arXiv:2310.09971)"


@dataclass(frozen=True)
class _Variant:
    """Parameters of a variant."""

    source: str
    max_speed: float = 0.0  # upper bound of the target velocities, meters per second
    observes_torso: bool = True  # 20 observed numbers, the last three its position; else 17
    horizon: int = 200
    action_divisor: float = 1.0
    min_distance_meters: float = 0.0  # from the start; running is not rewarded within it
    penalizes_unclipped: bool = False  # whether a in the control cost is the unclipped action


_VEL = {
    "maml17": _Variant(_FINN, 2.0),
    "cavia": _Variant(_CAVIA, 2.0),
    "pytorch-maml-rl": _Variant(_DELEU, 2.0, horizon=100, action_divisor=10.0),
    "garage": _Variant(_GARAGE, 2.0, horizon=100, action_divisor=10.0),
    "promp": _Variant(_ROTHFUSS, 3.0, observes_torso=False, action_divisor=10.0),
    "pearl": _Variant(_RAKELLY, 3.0),
    "varibad": _Variant(_ZINTGRAF, 3.0, penalizes_unclipped=True),
    "amago": _Variant(_AMAGO, 3.0, observes_torso=False, horizon=1000),
    "ldm": _Variant("Lee and Chung 2021 (arXiv:2105.13524)", 3.5, penalizes_unclipped=True),
}

_DIR = {
    "maml17": _Variant(_FINN),
    "pytorch-maml-rl": _Variant(_DELEU, horizon=100, action_divisor=10.0),
    "garage": _Variant(_GARAGE, horizon=100, action_divisor=10.0),
    "learn2learn": _Variant(_LEARN2LEARN, horizon=100),
    "promp": _Variant(_ROTHFUSS, observes_torso=False, action_divisor=10.0),
    "pearl": _Variant(_RAKELLY),
    "varibad": _Variant(_ZINTGRAF, penalizes_unclipped=True),
}

_DIR_SPARSE = {
    "hyperx": _Variant(
        "Zintgraf et al. 2021 (arXiv:2010.01062)", min_distance_meters=5.0, penalizes_unclipped=True
    ),
    "hyper": _Variant(
        "Beck et al. 2022 (arXiv:2210.11348)", min_distance_meters=10.0, penalizes_unclipped=True
    ),
}

# Lee and Chung 2021: training velocities at both ends, test velocities in between.
_LDM_TRAIN_STARTS, _LDM_TRAIN_WIDTH = (0.0, 3.0), 0.5
_LDM_TEST = np.arange(0.25, 3.5, 0.5)[:, None]


def _set_params(family: MujocoFamily, variant: str, params: _Variant) -> None:
    family.variant, family.source = variant, params.source
    family.horizon, family.action_divisor = params.horizon, params.action_divisor
    size = 20 if params.observes_torso else 17
    family.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
    family.observation_description = "joint angles and velocities" + (
        ", torso position" if params.observes_torso else ""
    )
    family.action_space = spaces.Box(-1.0, 1.0, (6,), np.float32)


def _observe(states: States, *, torso: bool) -> Array:
    """qpos without the root's x, then qvel; with `torso`, its position (x, 0, z). [B, 17 or 20]."""
    parts = [states.qpos[:, 1:], states.qvel]
    if torso:
        position = np.zeros((len(states.qpos), 3))
        position[:, 0], position[:, 2] = states.qpos[:, 0], states.qpos[:, 1] + _torso_height()
        parts.append(position)
    return np.concatenate(parts, axis=1)


@cache
def _torso_height() -> float:
    """Height of the torso's frame if the root joints are 0, meters."""
    return float(_ROBOT.load().body("torso").pos[2])


def _velocity(step: ControlStep) -> Array:
    """Mean velocity of the root joint during a step, meters per second. Shape [B]."""
    moved: Array = step.qpos[:, 0] - step.qpos_before[:, 0]
    return moved / _ROBOT.dt_seconds


def _control_cost(step: ControlStep, params: _Variant) -> Array:
    actions = step.actions if params.penalizes_unclipped else step.controls
    cost: Array = _CONTROL_COST * np.square(actions).sum(axis=1)
    return cost


class HalfCheetahVel(MujocoFamily):
    """Run forward at a hidden target velocity.

        r = −|v − v*| − 0.05 ‖a‖²,   v = Δx / 0.05 s of the root joint

    Task: v* in m/s, shape [1]. Action: torques in [−1, 1], [6]. The cost is for the clipped action
    a, except in "varibad" and "ldm": as in their code (half_cheetah_vel.py, lines 35 to 40), the
    simulator clips the action of the policy, but the cost is for the action before clipping.

    Source: Finn et al. 2017 (arXiv:1703.03400), sec. 5.3; parameters from each variant's source.
    Differs: the torso's position belongs to the same time as the rest of the observation (in the
    source it is one physics step older), and refers to the frame, not the center of mass.
    """

    name: ClassVar[str] = "HalfCheetahVel"
    variants: ClassVar[tuple[str, ...]] = tuple(_VEL)
    robot: ClassVar[RobotSpec] = _ROBOT

    def __init__(self, variant: str) -> None:
        self._params = params = lookup("variant of HalfCheetahVel", variant, _VEL)
        _set_params(self, variant, params)
        self.task_space = spaces.Box(0.0, params.max_speed, (1,), np.float64)
        self.task_description = f"target velocity U(0, {params.max_speed:g}) m/s"
        if variant == "ldm":
            self.ood_splits = ("test",)
            self.task_description = (
                "target velocity U([0, .5] ∪ [3, 3.5]) m/s; tested at .25, .75, … 3.25"
            )

    def observe(self, states: States) -> Array:
        return _observe(states, torso=self._params.observes_torso)

    def reward(self, step: ControlStep) -> Array:
        return -np.abs(_velocity(step) - step.tasks[:, 0]) - _control_cost(step, self._params)

    def best_actions(self, observations: Tensor, tasks: Tensor) -> Tensor:
        """Actions of a trained policy that observes the target velocity."""
        return velocity_actions(observations[..., :17], tasks)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        if self.variant != "ldm":  # train and test velocities come from one distribution
            return uniform_tasks(self.task_space, num_tasks, rng)
        if split == "test":
            return listed_tasks(_LDM_TEST, num_tasks, rng)
        ends = rng.choice(_LDM_TRAIN_STARTS, (num_tasks, 1))
        return ends + rng.uniform(0, _LDM_TRAIN_WIDTH, (num_tasks, 1))


class HalfCheetahDir(MujocoFamily):
    """Run in a hidden direction, forward or backward.

        r = d v − 0.05 ‖a‖²,   d = −1 or +1,   v = Δx / 0.05 s of the root joint

    Task: 0 backward, 1 forward, shape [1]. Action: torques in [−1, 1], [6]. The cost is for the
    clipped action a, except in "varibad", where it is for the action before clipping, as in
    half_cheetah_dir.py, lines 38 to 43, of its code.

    Source: Finn et al. 2017 (arXiv:1703.03400), sec. 5.3; parameters from each variant's source.
    """

    name: ClassVar[str] = "HalfCheetahDir"
    variants: ClassVar[tuple[str, ...]] = tuple(_DIR)
    robot: ClassVar[RobotSpec] = _ROBOT
    same_tasks_in_splits = True

    def __init__(self, variant: str) -> None:
        self._params = params = lookup("variant of HalfCheetahDir", variant, _DIR)
        _set_params(self, variant, params)
        self.task_space = spaces.Discrete(2)
        self.task_description = "direction backward or forward"

    def observe(self, states: States) -> Array:
        return _observe(states, torso=self._params.observes_torso)

    def reward(self, step: ControlStep) -> Array:
        return (2 * step.tasks[:, 0] - 1) * _velocity(step) - _control_cost(step, self._params)

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
    45 and 41 to 46.

    Source: Zintgraf et al. 2021 (arXiv:2010.01062), app.; Beck et al. 2022 (arXiv:2210.11348).
    """

    name: ClassVar[str] = "HalfCheetahDirSparse"
    variants: ClassVar[tuple[str, ...]] = tuple(_DIR_SPARSE)
    robot: ClassVar[RobotSpec] = _ROBOT
    same_tasks_in_splits = True

    def __init__(self, variant: str) -> None:
        self._params = params = lookup("variant of HalfCheetahDirSparse", variant, _DIR_SPARSE)
        _set_params(self, variant, params)
        self.task_space = spaces.Discrete(2)
        distance = f"{self._params.min_distance_meters:g} m"
        self.task_description = f"direction backward or forward, rewarded beyond {distance}"

    def observe(self, states: States) -> Array:
        return _observe(states, torso=True)

    def reward(self, step: ControlStep) -> Array:
        progress = (2 * step.tasks[:, 0] - 1) * _velocity(step)
        is_far = np.abs(step.qpos[:, 0]) >= self._params.min_distance_meters
        return np.where(is_far, progress, 0.0) - _control_cost(step, self._params)


_CHECKPOINT = Path(__file__).parent / "assets" / "half_cheetah_vel_oracle.safetensors"
_TRAINED_ON = "HalfCheetahVel:promp+task"
_MAX_SPEED = 3.0  # maximum target velocity of that variant, meters per second


def velocity_actions(joints: Tensor, targets: Tensor) -> Tensor:
    """Return torques that keep a target velocity, without noise.

    Args:
        joints: qpos without the root's x, then qvel. Shape [N, E, 17].
        targets: target velocities, meters per second, trained for 0 to 3. Shape [N, 1, 1].

    Returns:
        Torques in [−1, 1], shape [N, E, 6].
    """
    policy, params = _policy(joints.device)
    encoded = 2 * targets / _MAX_SPEED - 1  # as in `ObservedTaskFamily`
    inputs = torch.cat([joints, encoded.expand(*joints.shape[:-1], 1)], -1)
    with torch.no_grad():
        return policy.distribution(params, inputs).mode().clamp(-1, 1)


@cache
def _policy(device: torch.device) -> tuple[NetworkPolicy, dict[str, Tensor]]:
    tensors, header = load_checkpoint(_CHECKPOINT, agent="maml-trpo", environment=_TRAINED_ON)
    config = header["config"]
    head = ActionHead(spaces.Box(-1.0, 1.0, (6,)), action_divisor=config["action_divisor"])
    sizes = (18, *config["hidden_sizes"], head.size)
    policy = NetworkPolicy(PerceptronNetwork(sizes, config["activation"]), head)
    like = {name: p.to(device) for name, p in policy.init(torch.Generator()).items()}
    return policy, select_tensors(_CHECKPOINT, tensors, "parameters", like)
