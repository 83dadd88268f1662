"""CartPole and Pendulum with hidden masses: small families on plain Gymnasium environments."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from .simulators.gymnasium_family import GymnasiumFamily

__all__ = ["CartPoleMass", "PendulumMass", "pendulum_torques"]

_RLLIB = "RLlib (ray-project/ray, rllib/examples)"

# CartPole: push to the right if the weighted sum of (x, ẋ, θ, θ̇) is positive. The weights were
# found by trial and keep the pole up until the horizon over the whole range of masses.
_CART_GAINS = (0.1, 0.3, 2.0, 0.5)

# Pendulum: within this angle of upright, a damped spring holds it; beyond, torques add or remove
# energy until it equals the energy at rest upright. The constants were found by trial.
_HOLD_RADIANS = 0.5
_STIFFNESS, _DAMPING = 10.0, 6.0  # 1/s², 1/s
_GRAVITY, _LENGTH, _MAX_TORQUE = 10.0, 1.0, 2.0


class CartPoleMass(GymnasiumFamily):
    """Balance a pole on a cart, both of hidden mass. Reward 1 for each step until the pole falls.

    Task: masses of cart and pole in kg, shape [2]. Otherwise Gymnasium's CartPole-v1.

    Source: RLlib's CartPoleMassEnv. Differs: the sum of the masses and the pole's mass × length
    follow the task; in RLlib they keep the values of the default masses, so the cart's mass has
    no effect.
    """

    name: ClassVar[str] = "CartPoleMass"
    variants: ClassVar[tuple[str, ...]] = ("rllib",)
    env_id = "CartPole-v1"
    task_space = spaces.Box(np.array([0.5, 0.05]), np.array([2.0, 0.2]), dtype=np.float64)
    task_description = "masses of cart U(.5, 2) kg and pole U(.05, .2) kg"
    observation_description = "position, velocity, angle, angular velocity"
    source = _RLLIB

    def apply_task(self, env: gymnasium.Env[Any, Any], task: NDArray[np.float64]) -> None:
        cart_pole: Any = env.unwrapped
        cart_pole.masscart, cart_pole.masspole = task.tolist()
        cart_pole.total_mass = cart_pole.masscart + cart_pole.masspole
        cart_pole.polemass_length = cart_pole.masspole * cart_pole.length

    def best_actions(self, observations: Tensor, tasks: Tensor) -> Tensor:
        """Linear state feedback, the same for all masses."""
        del tasks
        return (observations @ observations.new_tensor(_CART_GAINS) > 0).long()


class PendulumMass(GymnasiumFamily):
    """Swing up a pendulum of hidden mass and hold it upright.

        r = −(θ² + .1 θ̇² + .001 u²),   θ in [−π, π), 0 upright

    Task: the mass in kg, shape [1]. Otherwise Gymnasium's Pendulum-v1.

    Source: RLlib's PendulumMassEnv.
    """

    name: ClassVar[str] = "PendulumMass"
    variants: ClassVar[tuple[str, ...]] = ("rllib",)
    env_id = "Pendulum-v1"
    task_space = spaces.Box(0.5, 2.0, (1,), np.float64)
    action_divisor = 1.0
    task_description = "mass U(.5, 2) kg"
    observation_description = "cosine and sine of the angle, angular velocity"
    source = _RLLIB

    def apply_task(self, env: gymnasium.Env[Any, Any], task: NDArray[np.float64]) -> None:
        pendulum: Any = env.unwrapped
        pendulum.m = float(task[0])

    def best_actions(self, observations: Tensor, tasks: Tensor) -> Tensor:
        """Torques of an energy-based swing-up and a stabilizing controller for the known mass."""
        return pendulum_torques(observations, tasks[..., 0]).unsqueeze(-1)


def pendulum_torques(observations: Tensor, masses: Tensor) -> Tensor:
    """Return torques that swing a pendulum up and hold it upright.

        θ̈ = a sin θ + b u,   a = 3g / 2l,   b = 3 / (m l²)
        near the top   u = −(a sin θ + 10 θ + 6 θ̇) / b
        elsewhere      u = ±2 along θ̇ if E < 0, against it if E > 0 (scaled by |E| if |E| < 1),
                       E = ½ θ̇² + a (cos θ − 1)

    Args:
        observations: cos θ, sin θ, θ̇. Shape [..., 3].
        masses: m, broadcasting with the leading axes.

    Returns:
        u in [−2, 2], shape [...].
    """
    cosine, sine, velocity = observations.unbind(-1)
    angle = torch.atan2(sine, cosine)
    fall = 3 * _GRAVITY / (2 * _LENGTH)
    push = 3 / (masses * _LENGTH**2)
    hold = -(fall * sine + _STIFFNESS * angle + _DAMPING * velocity) / push
    energy = 0.5 * velocity.square() + fall * (cosine - 1)
    direction = torch.where(velocity < 0, -1.0, 1.0)
    swing = -energy.clamp(-1, 1) * direction * _MAX_TORQUE
    torque = torch.where(angle.abs() < _HOLD_RADIANS, hold, swing)
    return torque.clamp(-_MAX_TORQUE, _MAX_TORQUE)
