"""Policies with a memory and their critics, as pure functions of one dictionary of parameters.

A policy consists of an encoder of the inputs, a memory and a head. The critic has a separate head
on the policy's memory or on a separate memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from metarl.nn.hypernetwork import Hypernetwork
from metarl.nn.memories import Memory, MemoryState
from metarl.nn.mlp import Activation, activation_function, init_mlp, layers_after_first, mlp
from metarl.parameters import Params, _with_prefix, select_part
from metarl.rl.action_heads import ActionHead
from metarl.rl.distributions import Distribution
from metarl.rl.networks import Network

__all__ = ["TrialPolicy"]


_LAST_LAYER_FACTOR = 0.01
"""Factor on the initial weights of the last layer, which makes the initial policy nearly uniform
(Andrychowicz et al. 2021, arXiv:2006.05990, sec. 3.2)."""


@dataclass(frozen=True)
class TrialPolicy:
    """A policy and its critic as functions of inputs [T, B, I], time first.

    Names of parameters begin with their part: "policy.memory.weight_ih", "value.head.weight_0" …
    """

    input_size: int
    """I, size of the inputs of all methods; an input begins with the observation."""
    observation_size: int
    memory: Memory
    """Its inputs are the encoder's outputs, or the inputs themselves without an encoder."""
    head: ActionHead
    encoder_sizes: tuple[int, ...] = ()
    hidden_sizes: tuple[int, ...] = ()
    value_hidden_sizes: tuple[int, ...] = ()
    activation: Activation = "tanh"
    hypernetwork: bool = False
    """Whether the memory generates the weights of a perceptron on the observation."""
    separate_value: bool = False
    """Whether the critic has a separate encoder and memory."""
    progress_size: int = 0
    """Number of additional inputs of the critic's head, such as the progress of the trial."""
    task_size: int = 0
    """Size of the encoded task, an input of the critic's head; 0 without it."""
    network: Network | None = None
    """Maps observations to features, which replace them in the inputs; None: no replacement."""
    num_features: int = 0
    """Outputs of `network`."""

    def init(self, generator: torch.Generator) -> Params:
        """Initial parameters on the generator's device."""
        params = self._init_trunk("policy", generator)
        params |= _with_prefix("policy.head", self._init_head(generator))
        params |= _with_prefix("policy", self.head.init(generator.device))
        if self.separate_value:
            params |= self._init_trunk("value", generator)
        sizes = (self._value_input_size + self.task_size, *self.value_hidden_sizes, 1)
        return params | _with_prefix("value.head", init_mlp(sizes, generator))

    def start(self, params: Params, batch_size: int) -> MemoryState:
        """The policy's memory at the start of a trial."""
        return self.memory.start(select_part(params, "policy.memory"), batch_size)

    def step(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Distribution, MemoryState]:
        """The distribution and the new state of one step, from inputs [B, I] and cleared [B]."""
        inputs = self._with_features(params, "policy", inputs)
        encoded = self._encode(params, "policy", inputs)
        memory = select_part(params, "policy.memory")
        features, state = self.memory.step(memory, encoded, state, cleared)
        return self._distribution(params, features, inputs), state

    def sequence(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Distribution, Tensor, MemoryState]:
        """Distributions [T, B], features [T, B, H] and the new state of several steps."""
        inputs = self._with_features(params, "policy", inputs)
        features, state = self._features(params, "policy", inputs, state, cleared)
        return self._distribution(params, features, inputs), features, state

    def values(
        self,
        params: Params,
        inputs: Tensor,
        features: Tensor,
        progress: Tensor,
        *,
        tasks: Tensor,
        cleared: Tensor | None = None,
    ) -> Tensor:
        """Values [T, B] of trials from their first step on.

        The first layer is applied to the task only once per trial, since an encoded task can be
        much larger than the other inputs (550 against 18 numbers for MDPs of ten states).

        Args:
            params: result of `init`.
            inputs: [T, B, I].
            features: features of the policy's memory, [T, B, H]; not used if the critic has a
                separate memory.
            progress: [T, B, progress_size].
            tasks: [1, B, task_size].
            cleared: bool [T, B].
        """
        if self.separate_value:
            inputs = self._with_features(params, "value", inputs)
            start = self.memory.start(select_part(params, "value.memory"), inputs.shape[1])
            features, _ = self._features(params, "value", inputs, start, cleared)
        head = select_part(params, "value.head")
        value_inputs = torch.cat([features, progress], dim=-1) if self.progress_size else features
        if not self.task_size:
            return self._mlp(head, value_inputs).squeeze(-1)
        weight, task_weight = head["weight_0"].split(
            [self._value_input_size, self.task_size], dim=1
        )
        hidden = linear(value_inputs, weight, head["bias_0"]) + linear(tasks, task_weight)
        if self.value_hidden_sizes:
            activation = activation_function(self.activation)
            hidden = self._mlp(layers_after_first(head), activation(hidden))
        return hidden.squeeze(-1)

    @property
    def _value_input_size(self) -> int:
        return self.memory.output_size + self.progress_size

    @property
    def _observed_size(self) -> int:
        """Size of the observation or of its features."""
        return self.observation_size if self.network is None else self.num_features

    def _with_features(self, params: Params, network: str, inputs: Tensor) -> Tensor:
        """Inputs [..., I] with the features of the observations in their place."""
        if self.network is None:
            return inputs
        others = self.input_size - self.observation_size
        observed, rest = inputs.split([self.observation_size, others], -1)
        features = self.network.outputs(select_part(params, f"{network}.network"), observed)
        return torch.cat([features, rest], -1)

    def _features(
        self,
        params: Params,
        network: str,
        inputs: Tensor,
        state: MemoryState,
        cleared: Tensor | None,
    ) -> tuple[Tensor, MemoryState]:
        encoded = self._encode(params, network, inputs)
        return self.memory.sequence(
            select_part(params, f"{network}.memory"), encoded, state, cleared
        )

    def _encode(self, params: Params, network: str, inputs: Tensor) -> Tensor:
        if not self.encoder_sizes:
            return inputs
        encoded = self._mlp(select_part(params, f"{network}.encoder"), inputs)
        return activation_function(self.activation)(encoded)

    def _distribution(self, params: Params, features: Tensor, inputs: Tensor) -> Distribution:
        head = select_part(params, "policy.head")
        if self.hypernetwork:
            observations = inputs[..., : self._observed_size]
            activation = activation_function(self.activation)
            outputs = self._generator().outputs(head, features, observations, activation)
        else:
            outputs = self._mlp(head, features)
        return self.head.distribution(outputs, params.get("policy.log_std"))

    def _mlp(self, params: Params, inputs: Tensor) -> Tensor:
        flat = inputs.reshape(-1, inputs.shape[-1])
        outputs = mlp(params, flat, activation_function(self.activation))
        return outputs.view(*inputs.shape[:-1], -1)

    def _init_trunk(self, network: str, generator: torch.Generator) -> Params:
        params: Params = {}
        if self.network is not None:
            params |= _with_prefix(f"{network}.network", self.network.init(generator))
        if self.encoder_sizes:
            size = self.input_size - self.observation_size + self._observed_size
            sizes = (size, *self.encoder_sizes)
            params |= _with_prefix(f"{network}.encoder", init_mlp(sizes, generator))
        return params | _with_prefix(f"{network}.memory", self.memory.init(generator))

    def _init_head(self, generator: torch.Generator) -> Params:
        if self.hypernetwork:
            return self._generator().init(generator, last_factor=_LAST_LAYER_FACTOR)
        sizes = (self.memory.output_size, *self.hidden_sizes, self.head.size)
        params = init_mlp(sizes, generator)
        last = f"weight_{len(self.hidden_sizes)}"
        return {**params, last: params[last] * _LAST_LAYER_FACTOR}

    def _generator(self) -> Hypernetwork:
        sizes = (self._observed_size, *self.hidden_sizes, self.head.size)
        return Hypernetwork(self.memory.output_size, sizes)
