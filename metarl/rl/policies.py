"""Feed-forward policies: a network and its distribution, for one task or all tasks in one call."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import gymnasium
import torch
from torch import Tensor

from metarl.nn.mlp import Activation, activation_function, init_mlp, mlp
from metarl.rl.distributions import Categorical, DiagonalGaussian, Distribution
from metarl.validation import require_between

__all__ = ["CategoricalPolicy", "GaussianPolicy", "Policy", "make_policy"]


class Policy(Protocol):
    """A stochastic policy as pure functions of its parameters."""

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Fresh parameters on the generator's device, no task axis."""

    def distribution(self, params: dict[str, Tensor], observations: Tensor) -> Distribution:
        """π(· | observations).

        Args:
            params: as `init` gives them, or each with a leading task axis.
            observations: [..., O], or [tasks, ..., O] with the parameters' task axis.
        """


@dataclass(frozen=True)
class GaussianPolicy:
    """Normal with a perceptron's mean and a learned standard deviation that ignores the state.

    Mean and standard deviation are divided by `action_scale`, so that actions, densities and
    divergences are in the environment's units. Published code hides this number as a rescaling
    of the environment; likelihood ratios and gradients are the same.

    Source: Duan et al. 2016 (arXiv:1604.06778), app.; Finn et al. 2017 (arXiv:1703.03400).
    """

    observation_size: int
    action_size: int
    hidden_sizes: tuple[int, ...] = (100, 100)
    activation: Activation = "relu"
    initial_std: float = 1.0
    min_std: float = 1e-6
    action_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("initial_std", "min_std", "action_scale"):
            require_between(name, getattr(self, name), 0, math.inf, open_low=True)

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        params = init_mlp((self.observation_size, *self.hidden_sizes, self.action_size), generator)
        params["log_std"] = torch.full(
            (self.action_size,), math.log(self.initial_std), device=generator.device
        )
        return params

    def distribution(self, params: dict[str, Tensor], observations: Tensor) -> DiagonalGaussian:
        log_std = params["log_std"].clamp(min=math.log(self.min_std))
        mean = _perceptron(params, observations, self.activation, log_std.dim() - 1)
        middle = (1,) * (mean.dim() - log_std.dim())
        log_std = log_std.view(*log_std.shape[:-1], *middle, log_std.shape[-1])
        if self.action_scale == 1:
            return DiagonalGaussian(mean, log_std)
        scale = self.action_scale
        return DiagonalGaussian(mean / scale, log_std - math.log(scale))


@dataclass(frozen=True)
class CategoricalPolicy:
    """Finitely many actions with a perceptron's logits."""

    observation_size: int
    num_actions: int
    hidden_sizes: tuple[int, ...] = (100, 100)
    activation: Activation = "relu"

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        return init_mlp((self.observation_size, *self.hidden_sizes, self.num_actions), generator)

    def distribution(self, params: dict[str, Tensor], observations: Tensor) -> Categorical:
        task_axes = params["bias_0"].dim() - 1
        return Categorical(_perceptron(params, observations, self.activation, task_axes))


def make_policy(
    observation_space: gymnasium.Space[object],
    action_space: gymnasium.Space[object],
    *,
    hidden_sizes: tuple[int, ...],
    activation: Activation,
    initial_std: float,
    min_std: float,
    action_scale: float,
) -> Policy:
    """The policy that fits the spaces: Gaussian for boxes, categorical for discrete actions.

    Raises:
        TypeError: for other spaces.
    """
    if not isinstance(observation_space, gymnasium.spaces.Box):
        raise TypeError(f"observation_space must be a Box, got {observation_space}")
    if len(observation_space.shape) != 1:
        raise TypeError(f"observation_space must be flat, got shape {observation_space.shape}")
    size = observation_space.shape[0]
    if isinstance(action_space, gymnasium.spaces.Discrete) and action_space.start == 0:
        return CategoricalPolicy(size, int(action_space.n), hidden_sizes, activation)
    if isinstance(action_space, gymnasium.spaces.Box) and len(action_space.shape) == 1:
        actions = action_space.shape[0]
        return GaussianPolicy(
            size, actions, hidden_sizes, activation, initial_std, min_std, action_scale
        )
    raise TypeError(f"action_space must be Discrete from 0 or a flat Box, got {action_space}")


def _perceptron(
    params: dict[str, Tensor], observations: Tensor, activation: str, task_axes: int
) -> Tensor:
    """The network on observations with any number of axes between tasks and features."""
    middle = observations.shape[task_axes:-1]
    flat = observations.flatten(task_axes, -2) if middle else observations.unsqueeze(-2)
    outputs = mlp(params, flat, activation_function(activation))
    return outputs.unflatten(task_axes, middle) if middle else outputs.squeeze(-2)
