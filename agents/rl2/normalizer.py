"""Running statistics by which RL² normalizes the policy's inputs and the rewards."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from metarl.rl.normalization import RunningMoments
from metarl.rl.returns import discounted_returns
from metarl.rollouts.trial_inputs import TrialInputs
from metarl.rollouts.trials import Trials

from .config import RL2Config

__all__ = ["Normalizer"]


class Normalizer:
    """Owns the statistics; settings decide whether they are used at all."""

    def __init__(self, config: RL2Config, inputs: TrialInputs, device: torch.device) -> None:
        self._config, self._inputs = config, inputs
        self._seen = RunningMoments.empty(inputs.size, device)
        self._earned = RunningMoments.empty(1, device)
        observations = inputs.observation_space.shape or (0,)
        self._is_number = torch.ones(inputs.size, dtype=torch.bool, device=device)
        self._is_number[observations[0] : -2] = self._is_number[-1] = False

    def normalized(self, inputs: Tensor) -> Tensor:
        """Inputs [..., I] with normalized observations and rewards, actions and flags as given."""
        if not self._config.normalize_observations:
            return inputs
        return torch.where(self._is_number, self._seen.normalized(inputs), inputs)

    @property
    def reward_factor(self) -> float:
        """The factor on rewards: 1 / standard deviation of the returns so far."""
        if not self._config.normalize_rewards:
            return 1.0
        return float((self._earned.variance + 1e-8).rsqrt())

    def add_returns(self, trials: Trials, gamma: float) -> None:
        """Update the statistics of returns, before the rewards of these trials are used."""
        if self._config.normalize_rewards:
            never = torch.zeros_like(trials.mask)
            returns = discounted_returns(trials.rewards, never, gamma)
            self._earned = self._earned.updated(returns[trials.mask].unsqueeze(-1))

    def add_inputs(self, trials: Trials) -> None:
        """Update the statistics of inputs, for the next iterations.

        Not before the update of the policy: it must see the inputs as the acting policy did.
        """
        if self._config.normalize_observations:
            self._seen = self._seen.updated(self._inputs.encode_trials(trials)[trials.mask])

    def state(self) -> dict[str, dict[str, Tensor]]:
        """The statistics by group and name, for a checkpoint."""
        return {"seen": self._seen.tensors(), "earned": self._earned.tensors()}

    def set_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Continue from a state of the same shapes."""
        self._seen = RunningMoments(**state["seen"])
        self._earned = RunningMoments(**state["earned"])
