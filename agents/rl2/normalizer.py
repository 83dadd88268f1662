"""Running statistics with which RL² normalizes the policy's inputs and the rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metarl.rl.normalization import RunningMoments
from metarl.rl.returns import discounted_returns
from metarl.rollouts.trial_inputs import TrialInputs
from metarl.rollouts.trials import Trials
from metarl.tasks.observations import ImageColumns

from .config import RL2Config

__all__ = ["Normalizer"]


class Normalizer:
    """Running statistics of inputs and returns; the settings decide which are used."""

    def __init__(
        self,
        config: RL2Config,
        inputs: TrialInputs,
        device: torch.device,
        *,
        images: Sequence[ImageColumns] = (),
    ) -> None:
        """
        Args:
            config: decides which statistics are used.
            inputs: encoder of the policy's inputs, which defines their columns.
            device: device of the statistics.
            images: columns of observations that are images; these are not normalized.
        """
        self._config, self._inputs = config, inputs
        size = (inputs.observation_space.shape or (0,))[0]
        has_statistics = torch.ones(inputs.size, dtype=torch.bool, device=device)
        for image in images:
            has_statistics[image.first : image.first + image.size] = False
        self._columns = has_statistics.nonzero().squeeze(-1) if images else None
        is_normalized = torch.ones(inputs.size, dtype=torch.bool, device=device)
        is_normalized[size:-2] = is_normalized[-1] = False
        self._is_normalized = is_normalized[has_statistics]
        self._input_moments = RunningMoments.empty(len(self._is_normalized), device)
        self._return_moments = RunningMoments.empty(1, device)

    def normalized(self, inputs: Tensor) -> Tensor:
        """Inputs [..., I] with normalized observations and rewards; other entries are unchanged."""
        if not self._config.normalize_observations:
            return inputs
        given = inputs if self._columns is None else inputs[..., self._columns]
        found = torch.where(self._is_normalized, self._input_moments.normalized(given), given)
        return found if self._columns is None else inputs.index_copy(-1, self._columns, found)

    @property
    def reward_factor(self) -> float:
        """Factor on the rewards: 1 / standard deviation of the returns so far."""
        if not self._config.normalize_rewards:
            return 1.0
        return float((self._return_moments.variance + 1e-8).rsqrt())

    def normalized_rewards(self, rewards: Tensor) -> Tensor:
        """Rewards times the factor, clipped to ± `reward_clip` if they are normalized.

        Source: the reference code of Zintgraf et al. 2020 (lmzintgraf/varibad, commit 57e1795,
        environments/env_utils/vec_env/vec_normalize.py, lines 16 and 62). Differs: the source
        updates the factor at every environment step; here it is constant within an iteration.
        """
        scaled = rewards * self.reward_factor
        clip = self._config.reward_clip
        if clip is None or not self._config.normalize_rewards:
            return scaled
        return scaled.clamp(-clip, clip)

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
            inputs = self._inputs.encode_trials(trials)
            if self._columns is not None:
                inputs = inputs[..., self._columns]
            self._input_moments = self._input_moments.updated(inputs[trials.mask])

    def state(self) -> dict[str, dict[str, Tensor]]:
        """The statistics by group and name, for a checkpoint."""
        return {"seen": self._input_moments.tensors(), "earned": self._return_moments.tensors()}

    def set_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Replace the statistics by the tensors of `state`."""
        self._input_moments = RunningMoments(**state["seen"])
        self._return_moments = RunningMoments(**state["earned"])
