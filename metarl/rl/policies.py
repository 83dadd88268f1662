"""Feed-forward policies, for one task or for all tasks in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import gymnasium
import torch
from torch import Tensor

from metarl.nn.mlp import Activation
from metarl.rl.action_heads import ActionHead
from metarl.rl.distributions import Distribution
from metarl.rl.networks import Network
from metarl.rl.policy_nets import make_network
from metarl.tasks.observation_features import ObservationScaling
from metarl.tasks.observations import ImageColumns

__all__ = ["NetworkPolicy", "Policy", "make_policy"]


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
class NetworkPolicy:
    """A network with an action head, whose standard deviation ignores the state.

    Source: Duan et al. 2016 (arXiv:1604.06778), app.; Finn et al. 2017 (arXiv:1703.03400).
    """

    network: Network
    head: ActionHead

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        return self.network.init(generator) | self.head.init(generator.device)

    def distribution(self, params: dict[str, Tensor], observations: Tensor) -> Distribution:
        outputs = self.network.outputs(
            {name: p for name, p in params.items() if name != "log_std"}, observations
        )
        log_std = params.get("log_std")
        if log_std is not None:
            middle = (1,) * (outputs.dim() - log_std.dim())
            log_std = log_std.view(*log_std.shape[:-1], *middle, log_std.shape[-1])
        return self.head.distribution(outputs, log_std)


def make_policy(
    observation_space: gymnasium.Space[object],
    action_space: gymnasium.Space[object],
    *,
    policy_net: str = "mlp",
    images: Sequence[ImageColumns] = (),
    scale_observations: bool = True,
    hidden_sizes: tuple[int, ...] = (100, 100),
    activation: Activation = "relu",
    initial_std: float = 1.0,
    min_std: float = 1e-6,
    action_divisor: float | None = None,
) -> NetworkPolicy:
    """The policy for the spaces; see `ActionHead` for its distribution and units.

    Args:
        observation_space: a flat Box.
        action_space: built from Box, Discrete, MultiDiscrete and MultiBinary.
        policy_net: mlp, cnn, or module:factory; see `make_network`.
        images: the columns of observations that are images.
        scale_observations: whether `ObservationScaling` scales observations.
        hidden_sizes: hidden layers of the network.
        activation: activation function of the hidden layers.
        initial_std: see `ActionHead`.
        min_std: see `ActionHead`.
        action_divisor: see `ActionHead`.

    Raises:
        TypeError: if a space is of another kind.
        ValueError: if the network cannot be made.
    """
    if not isinstance(observation_space, gymnasium.spaces.Box):
        raise TypeError(f"observation_space must be a Box, got {observation_space}")
    if len(observation_space.shape) != 1:
        raise TypeError(f"observation_space must be flat, got shape {observation_space.shape}")
    head = ActionHead(action_space, initial_std, min_std, action_divisor)
    network = make_network(
        policy_net,
        observation_size=observation_space.shape[0],
        images=images,
        num_outputs=head.size,
        hidden_sizes=hidden_sizes,
        activation=activation,
        scaling=ObservationScaling(observation_space, images, enabled=scale_observations),
    )
    return NetworkPolicy(network, head)
