"""A task family of your own: swing up a pendulum of unknown mass.

metarl check Pendulums:wide --import my_family
metarl train rl2 --env Pendulums:wide --import my_family --out runs/pendulums
metarl evaluate runs/pendulums --import my_family
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl import register_family
from metarl.envs import GymnasiumFamily


class Pendulums(GymnasiumFamily):
    """Swing up a pendulum whose mass is the task."""

    name = "Pendulums"
    variants = ("light", "wide")
    env_id = "Pendulum-v1"
    task_description = "mass in kg"
    observation_description = "cosine and sine of the angle, angular velocity"
    source = "an example"

    def __init__(self, variant: str) -> None:
        heaviest = {"light": 1.0, "wide": 5.0}[variant]
        self.task_space = spaces.Box(0.2, heaviest, (1,), np.float64)
        super().__init__(variant)

    def apply_task(self, env: gymnasium.Env[Any, Any], task: NDArray[np.float64]) -> None:
        """Make the environment's next episodes belong to a task, shape [1]."""
        env.unwrapped.m = float(task[0])  # type: ignore[attr-defined] # the pendulum's mass


register_family(
    "Pendulums",
    Pendulums,
    description="swing up a pendulum of unknown mass",
    variants=Pendulums.variants,
)
