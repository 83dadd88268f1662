"""Construction of the networks of RL² from its settings."""

from __future__ import annotations

from metarl.nn.memories import GRU, LSTM, Memory, NoMemory, TransitionMemory
from metarl.nn.transformer import Transformer
from metarl.rl.action_heads import ActionHead
from metarl.rl.policy_nets import make_network
from metarl.rl.trial_policies import TrialPolicy
from metarl.rollouts.trial_inputs import TrialInputs
from metarl.tasks.family import TaskFamily

from .config import RL2Config
from .task_features import task_size

__all__ = ["make_policy", "trial_steps"]


def trial_steps(family: TaskFamily, config: RL2Config) -> int:
    """Steps of the longest trial."""
    return family.horizon * config.num_episodes


def make_policy(family: TaskFamily, config: RL2Config, inputs: TrialInputs) -> TrialPolicy:
    """The policy that acts in a family's trials.

    Raises:
        ValueError: if the settings do not fit one another.
    """
    observation_size = family.observation_space.shape[0]
    input_size = observation_size if config.memory == "none" else inputs.size
    network = None
    seen_size = observation_size
    if config.policy_net != "mlp":
        seen_size = config.memory_size
        network = make_network(
            config.policy_net,
            observation_size=observation_size,
            images=family.observation_images,
            num_outputs=seen_size,
            hidden_sizes=(),
            activation=config.activation,
        )
    memory_inputs = input_size - observation_size + seen_size
    encoded_size = config.encoder_sizes[-1] if config.encoder_sizes else memory_inputs
    return TrialPolicy(
        input_size=input_size,
        observation_size=observation_size,
        memory=_make_memory(encoded_size, trial_steps(family, config), config),
        head=ActionHead(
            family.action_space,
            config.initial_std,
            config.min_std,
            config.action_divisor,
        ),
        encoder_sizes=config.encoder_sizes,
        hidden_sizes=config.hidden_sizes,
        value_hidden_sizes=config.value_hidden_sizes,
        activation=config.activation,
        hypernetwork=config.head == "hypernetwork",
        separate_value=config.optimizer == "trpo",
        progress_size=1,
        task_size=task_size(family.task_space) if config.privileged_critic else 0,
        network=network,
        num_features=0 if network is None else seen_size,
    )


def _make_memory(input_size: int, length: int, config: RL2Config) -> Memory:
    if config.memory == "none":
        return NoMemory(input_size)
    if config.include_previous_step:
        return TransitionMemory(_make_base_memory(2 * input_size, length, config), input_size)
    return _make_base_memory(input_size, length, config)


def _make_base_memory(input_size: int, length: int, config: RL2Config) -> Memory:
    if config.memory == "gru":
        return GRU(input_size, config.memory_size, length)
    if config.memory == "lstm":
        return LSTM(input_size, config.memory_size, length)
    return Transformer(
        input_size,
        config.memory_size,
        length=length,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
    )
