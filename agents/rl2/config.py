"""Settings of RL²."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from annotated_types import Interval

from metarl.nn.mlp import Activation
from metarl.validation import (
    Count,
    NonNegative,
    Positive,
    Settings,
    Share,
    UnitInterval,
    require_between,
)

__all__ = ["RL2Config"]


@dataclass(frozen=True)
class RL2Config(Settings):
    """Defaults suit bandits and small MDPs; the papers' settings are in the README's table.

    Sources: Duan et al. 2016 (arXiv:1611.02779); for PPO's, Zintgraf et al. 2020
    (arXiv:1910.08348), whose reference code trains RL² with it.
    """

    num_episodes: Count = 1
    """K: episodes of each trial."""
    meta_batch_size: Count = 500
    """Trials per iteration, each of another task."""
    optimizer: Literal["ppo", "trpo"] = "ppo"
    """ppo: clipped steps on minibatches of trials. trpo: the trust region of MAML-TRPO."""
    memory: Literal["gru", "lstm", "transformer", "none"] = "gru"
    """Memory of the task's history; none: a memoryless policy (multi-task PPO)."""
    memory_size: Count = 128
    """Features of the memory."""
    num_layers: Count = 2
    """Layers of the transformer; recurrent memories have one."""
    num_heads: Count = 4
    """Heads of the transformer."""
    clear_each_episode: bool = False
    """Forget everything when an episode ends: an ablation, it cannot learn across episodes."""
    sees_transitions: bool = False
    """Feed the memory the previous input as well: observation, action, reward, next observation."""
    encoder_sizes: tuple[Count, ...] = ()
    """Hidden layers before the memory."""
    head: Literal["mlp", "hypernetwork"] = "mlp"
    """hypernetwork: the memory generates the policy's weights, which acts on the observation."""
    hidden_sizes: tuple[Count, ...] = ()
    """Hidden layers of the policy's head."""
    value_hidden_sizes: tuple[Count, ...] = (64,)
    """Hidden layers of the critic's head."""
    privileged_critic: bool = False
    """Condition the critic on the task, in training only; less noise in the advantages, no bias."""
    use_expected_rewards: bool = False
    """Learn from each reward's mean given the task, in training only; less noise, no bias."""
    activation: Activation = "tanh"
    """Between the layers."""
    initial_std: Positive = 1.0
    """Standard deviation of the first policy, in the policy's units (see action_scale)."""
    min_std: Positive = 1e-6
    """Lower bound on the standard deviation."""
    action_scale: Positive | None = None
    """Divisor of the policy's outputs that gives actions in the environment's units; None: the
    variant's, and if it has none, outputs are in units of the action box around its center."""
    gamma: UnitInterval = 0.99
    """Discount per step, across the whole trial."""
    final_gamma: float | None = None
    """γ after anneal_iterations, 1 − γ falling by a constant factor; None: γ stays."""
    gae_lambda: UnitInterval = 0.95
    """λ of the advantage estimates."""
    normalize_observations: bool = False
    """Normalize the observations and rewards in the inputs by running mean and deviation."""
    normalize_rewards: bool = True
    """Divide the rewards in training by the running standard deviation of returns."""
    learning_rate: Positive = 7e-4
    """Learning rate of Adam; with trpo, Adam trains only the critic."""
    anneal_iterations: Count | None = None
    """Iterations until learning rate and entropy bonus reach 0, linearly; None: constant."""
    num_epochs: Count = 4
    """Passes over the trials per iteration; with trpo, of the critic only."""
    num_minibatches: Count = 4
    """Minibatches of trials per pass."""
    clip: Positive = 0.2
    """PPO: clip range of the likelihood ratio."""
    value_clip: Positive | None = None
    """PPO: clip range of the values; None: no clipping."""
    value_coefficient: NonNegative = 0.5
    """PPO: weight of the critic's loss."""
    entropy_coefficient: NonNegative = 0.01
    """Weight of the entropy bonus."""
    max_gradient_norm: Positive = 0.5
    """Gradients are clipped to this norm."""
    backprop_steps: Count | None = None
    """Steps of truncated backpropagation through time; None: the whole trial."""
    max_kl_nats: Positive = 0.01
    """TRPO: trust region."""
    cg_iterations: Count = 10
    """TRPO: conjugate-gradient iterations."""
    cg_damping: NonNegative = 1e-3
    """TRPO: added to the diagonal of the Fisher matrix."""
    fisher_fraction: Share = 0.2
    """TRPO: share of the trials in the Fisher product; the line search checks the KL on all."""
    line_search_steps: Count = 15
    """TRPO: tries of the line search."""
    backtrack_ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.8
    """TRPO: factor between tries."""

    def at(self, iteration: int) -> RL2Config:
        """The settings with the annealed values of one iteration, counted from 0."""
        if self.anneal_iterations is None:
            return self
        left = max(0.0, 1 - iteration / self.anneal_iterations)
        gamma = self.gamma
        if self.final_gamma is not None:
            gamma = 1 - (1 - self.gamma) ** left * (1 - self.final_gamma) ** (1 - left)
        return replace(
            self,
            gamma=gamma,
            final_gamma=None,
            learning_rate=max(self.learning_rate * left, 1e-12),  # settings refuse 0
            entropy_coefficient=self.entropy_coefficient * left,
        )

    def check_combinations(self) -> None:
        """Reject settings that contradict one another.

        Raises:
            ValueError: naming the setting to change.
        """
        if self.initial_std < self.min_std:
            raise ValueError(
                f"initial_std must be at least the {self.min_std:g} of min_std, got "
                f"{self.initial_std:g}; below it nothing is learnt of the deviation"
            )
        if self.clear_each_episode and self.memory == "none":
            raise ValueError(
                "clear_each_episode must be False without a memory to clear, got True; "
                "use memory gru, lstm or transformer"
            )
        if self.value_clip is not None and self.optimizer == "trpo":
            raise ValueError(f"value_clip must be None with trpo, got {self.value_clip}; use ppo")
        if self.final_gamma is not None and self.gamma == 1:
            raise ValueError(
                f"final_gamma must be None with gamma 1, which reaches furthest, got "
                f"{self.final_gamma}"
            )
        if self.final_gamma is not None:
            require_between("final_gamma", self.final_gamma, self.gamma, 1, open_high=True)
            if self.anneal_iterations is None:
                raise ValueError(
                    f"final_gamma must be None without anneal_iterations, got {self.final_gamma}; "
                    "say in how many iterations it is reached"
                )
        if self.num_minibatches > self.meta_batch_size:
            raise ValueError(
                f"num_minibatches must be at most the {self.meta_batch_size} trials of "
                f"meta_batch_size, got {self.num_minibatches}"
            )
        if self.sees_transitions and self.memory == "none":
            raise ValueError(
                "sees_transitions must be False without a memory to see them, got True; "
                "use memory gru, lstm or transformer"
            )
        if self.backprop_steps is not None and self.memory == "transformer":
            raise ValueError(
                "backprop_steps must be None with a transformer, which sees whole trials, "
                f"got {self.backprop_steps}"
            )
        if self.backprop_steps is not None and self.optimizer == "trpo":
            raise ValueError(
                f"backprop_steps must be None with trpo, got {self.backprop_steps}; use ppo"
            )
