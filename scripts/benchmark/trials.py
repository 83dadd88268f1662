"""Benchmark cases of agents with a memory, and RecurrentPPO of sb3-contrib.

Both train on the same trials of our environments; for RecurrentPPO, a trial is one episode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from metarl.agents import RL2, RL2Config
from metarl.envs import make_family
from metarl.nn.transformer import Transformer
from metarl.rollouts.trial_env import TrialFamily
from metarl.scripts.benchmark.case import Case
from metarl.seeding import torch_generator

__all__ = ["TRIAL_CASES"]

_UNITS, _EPOCHS, _MINIBATCHES = 64, 4, 4
_WIDTH = 8  # inputs of the transformer


def rl2_iteration(
    env: str, num_episodes: int, num_trials: int, device: str = "cpu"
) -> Callable[[], None]:
    """An iteration of RL² with PPO and an LSTM shared by policy and values."""
    config = RL2Config(
        num_episodes=num_episodes,
        meta_batch_size=num_trials,
        memory="lstm",
        memory_size=_UNITS,
        value_hidden_sizes=(_UNITS,),
        num_epochs=_EPOCHS,
        num_minibatches=_MINIBATCHES,
    )
    agent = RL2(make_family(env), config, device=device)

    def run() -> None:
        agent.iterate()

    return run


def recurrent_ppo_iteration(
    env: str, num_episodes: int, num_trials: int, device: str = "cpu"
) -> Callable[[], None]:
    """An iteration of RecurrentPPO with the same trials, network, batch, epochs and minibatches."""
    from sb3_contrib import RecurrentPPO

    from metarl.bridges.sb3_env import as_sb3_vec_env

    trials = TrialFamily(make_family(env), num_episodes)
    steps = num_trials * trials.horizon
    model = RecurrentPPO(
        "MlpLstmPolicy",
        as_sb3_vec_env(trials, num_trials),
        n_steps=trials.horizon,
        batch_size=steps // _MINIBATCHES,
        n_epochs=_EPOCHS,
        ent_coef=0.01,
        policy_kwargs={
            "lstm_hidden_size": _UNITS,
            "shared_lstm": True,
            "enable_critic_lstm": False,
            "net_arch": {"pi": [], "vf": [_UNITS]},
        },
        seed=0,
        device=device,
    )

    def run() -> None:
        model.learn(steps, reset_num_timesteps=False)

    return run


def transformer_trial(length: int, num_trials: int, device: str = "cpu") -> Callable[[], None]:
    """Steps through trials by a transformer with a cache, 2 layers of width 128."""
    memory = Transformer(_WIDTH, 128, length=length)
    initial = memory.init(torch_generator(0, "benchmark")).items()
    params = {name: p.to(device) for name, p in initial}
    inputs = torch.randn(num_trials, _WIDTH, generator=torch_generator(0, "inputs")).to(device)

    @torch.no_grad()
    def run() -> None:
        state = memory.start(params, num_trials)
        for _ in range(length):
            features, state = memory.step(params, inputs, state)
        features.sum().item()  # waits for the device

    return run


def _steps(options: dict[str, Any]) -> float:
    """Environment steps of one iteration; in these families no trial ends early."""
    horizon = make_family(options["env"]).horizon
    return float(options["num_trials"] * options["num_episodes"] * horizon)


TRIAL_CASES: dict[str, Case] = {
    "rl2 iteration": Case(rl2_iteration, _steps, takes_device=True),
    "recurrent ppo iteration": Case(recurrent_ppo_iteration, _steps, takes_device=True),
    "transformer trial": Case(
        transformer_trial, lambda options: float(options["length"]), takes_device=True
    ),
}
