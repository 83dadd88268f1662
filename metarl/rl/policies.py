"""Feed-forward policies, for one task or for all tasks in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import gymnasium
import torch
from torch import Tensor

from metarl.nn.mlp import Activation, activation_function, init_mlp, mlp
from metarl.rl.action_heads import ActionHead
from metarl.rl.distributions import Distribution

__all__ = ["PerceptronPolicy", "Policy", "make_policy"]


class Policy(Protocol):
    """A stochastic policy as pure functions of its parameters."""

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Initial parameters on the generator's device, without a task axis."""

    def distribution(self, params: dict[str, Tensor], observations: Tensor) -> Distribution:
        """π(· | observations).

        Args:
            params: result of `init`, or each parameter with a leading task axis.
            observations: [..., O], or [tasks, ..., O] if the parameters have a task axis.
        """


@dataclass(frozen=True)
class PerceptronPolicy:
    """A multilayer perceptron with an action head, whose standard deviation ignores the state.

    Source: Duan et al. 2016 (arXiv:1604.06778), app.; Finn et al. 2017 (arXiv:1703.03400).
    """

    observation_size: int
    head: ActionHead
    hidden_sizes: tuple[int, ...] = (100, 100)
    activation: Activation = "relu"

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        params = init_mlp((self.observation_size, *self.hidden_sizes, self.head.size), generator)
        return params | self.head.init(generator.device)

    def distribution(self, params: dict[str, Tensor], observations: Tensor) -> Distribution:
        task_axes = params["bias_0"].dim() - 1
        outputs = _perceptron(params, observations, self.activation, task_axes)
        log_std = params.get("log_std")
        if log_std is not None:
            middle = (1,) * (outputs.dim() - log_std.dim())
            log_std = log_std.view(*log_std.shape[:-1], *middle, log_std.shape[-1])
        return self.head.distribution(outputs, log_std)


def make_policy(
    observation_space: gymnasium.Space[object],
    action_space: gymnasium.Space[object],
    *,
    hidden_sizes: tuple[int, ...] = (100, 100),
    activation: Activation = "relu",
    initial_std: float = 1.0,
    min_std: float = 1e-6,
    action_divisor: float | None = None,
) -> PerceptronPolicy:
    """The policy for the spaces; see `ActionHead` for its distribution and units.

    Raises:
        TypeError: if observations are not a flat Box, or the action space is not built from Box,
            Discrete, MultiDiscrete and MultiBinary.
    """
    if not isinstance(observation_space, gymnasium.spaces.Box):
        raise TypeError(f"observation_space must be a Box, got {observation_space}")
    if len(observation_space.shape) != 1:
        raise TypeError(f"observation_space must be flat, got shape {observation_space.shape}")
    head = ActionHead(action_space, initial_std, min_std, action_divisor)
    return PerceptronPolicy(observation_space.shape[0], head, hidden_sizes, activation)


def _perceptron(
    params: dict[str, Tensor], observations: Tensor, activation: str, task_axes: int
) -> Tensor:
    """Apply the network to observations with any number of axes between tasks and features."""
    middle = observations.shape[task_axes:-1]
    flat = observations.flatten(task_axes, -2) if middle else observations.unsqueeze(-2)
    outputs = mlp(params, flat, activation_function(activation))
    return outputs.unflatten(task_axes, middle) if middle else outputs.squeeze(-2)
