"""Perceptron policies of given sizes for two kinds of actions."""

from typing import Any

import numpy as np
from gymnasium import spaces

from metarl.rl.action_heads import ActionHead
from metarl.rl.networks import PerceptronNetwork
from metarl.rl.policies import NetworkPolicy


def gaussian_policy(
    observation_size: int,
    action_size: int,
    hidden_sizes: tuple[int, ...] = (100, 100),
    activation: Any = "relu",
    **settings: float,
) -> NetworkPolicy:
    """Normal actions in [−1, 1]; settings of the head."""
    space = spaces.Box(-1.0, 1.0, (action_size,), np.float32)
    head = ActionHead(space, **settings)
    sizes = (observation_size, *hidden_sizes, head.size)
    return NetworkPolicy(PerceptronNetwork(sizes, activation), head)


def categorical_policy(
    observation_size: int,
    num_actions: int,
    hidden_sizes: tuple[int, ...] = (100, 100),
    activation: Any = "relu",
) -> NetworkPolicy:
    """One of finitely many actions."""
    head = ActionHead(spaces.Discrete(num_actions))
    sizes = (observation_size, *hidden_sizes, head.size)
    return NetworkPolicy(PerceptronNetwork(sizes, activation), head)
