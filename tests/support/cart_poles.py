"""A family of cart-poles in a module that worker processes can import."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from metarl.envs import GymnasiumFamily


class CartPoles(GymnasiumFamily):
    """Cart-poles of one kind, stepped in this process or in two workers."""

    name, variants, env_id = "CartPoles", ("one", "workers"), "CartPole-v1"
    task_description, observation_description, source = "none", "the state", "this test"
    task_space = spaces.Box(0.0, 1.0, (1,), np.float64)

    def __init__(self, variant: str) -> None:
        super().__init__(variant)
        self.num_workers = 2 if variant == "workers" else 0

    def apply_task(self, env: gymnasium.Env[Any, Any], task: Any) -> None:
        """Do nothing: all tasks are the same."""
