"""Running statistics with which RL² normalizes the policy's inputs and the rewards."""

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
    """Running statistics of inputs and returns; the settings decide which are used."""

    def __init__(self, config: RL2Config, inputs: TrialInputs, device: torch.device) -> None:
        self._config, self._inputs = config, inputs
        self._input_moments = RunningMoments.empty(inputs.size, device)
        self._return_moments = RunningMoments.empty(1, device)
        observations = inputs.observation_space.shape or (0,)
        self._is_normalized = torch.ones(inputs.size, dtype=torch.bool, device=device)
        self._is_normalized[observations[0] : -2] = self._is_normalized[-1] = False

    def normalized(self, inputs: Tensor) -> Tensor:
        """Inputs [..., I] with normalized observations and rewards; other entries are unchanged."""
        if not self._config.normalize_observations:
            return inputs
        return torch.where(self._is_normalized, self._input_moments.normalized(inputs), inputs)

    @property
    def reward_factor(self) -> float:
        """Factor on the rewards: 1 / standard deviation of the returns so far."""
        if not self._config.normalize_rewards:
            return 1.0
        return float((self._return_moments.variance + 1e-8).rsqrt())

    def add_returns(self, trials: Trials, gamma: float) -> None:
        """Update the statistics of returns; called before the rewards of these trials are used."""
        if self._config.normalize_rewards:
            never = torch.zeros_like(trials.mask)
            returns = discounted_returns(trials.rewards, never, gamma)
            self._return_moments = self._return_moments.updated(returns[trials.mask].unsqueeze(-1))

    def add_inputs(self, trials: Trials) -> None:
        """Update the statistics of inputs for the next iterations.

        Called after the update of the policy, which must see the inputs that the acting policy saw.
        """
        if self._config.normalize_observations:
            self._input_moments = self._input_moments.updated(
                self._inputs.encode_trials(trials)[trials.mask]
            )

    def state(self) -> dict[str, dict[str, Tensor]]:
        """The statistics by group and name, for a checkpoint."""
        return {"seen": self._input_moments.tensors(), "earned": self._return_moments.tensors()}

    def set_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Replace the statistics by the tensors of `state`."""
        self._input_moments = RunningMoments(**state["seen"])
        self._return_moments = RunningMoments(**state["earned"])
