"""Settings of RL²."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from annotated_types import Interval

from metarl.nn.mlp import Activation
from metarl.rl.policy_nets import chosen_policy_net, require_policy_net
from metarl.tasks.family import TaskFamily
from metarl.validation import (
    Count,
    NonNegative,
    Positive,
    Settings,
    Share,
    SmallCount,
    UnitInterval,
    require_between,
)

__all__ = ["RL2Config"]


@dataclass(frozen=True)
class RL2Config(Settings):
    """Settings of RL²; the defaults suit bandits and small MDPs, not every published experiment.

    Sources: Duan et al. 2016 (arXiv:1611.02779); for PPO, Zintgraf et al. 2020
    (arXiv:1910.08348), whose reference code trains RL² with it.
    """

    num_episodes: Count = 1
    """Episodes of each trial."""
    meta_batch_size: Count = 500
    """Tasks per iteration; one trial of each is collected."""
    optimizer: Literal["ppo", "trpo"] = "ppo"
    """Policy update; ppo: minibatches of trials; trpo: one trust-region step per iteration."""
    memory: Literal["gru", "lstm", "transformer", "none"] = "gru"
    """Memory of the task's history; none: a memoryless policy (multi-task PPO)."""
    memory_size: Count = 128
    """Number of features of the memory."""
    num_layers: SmallCount = 2
    """Number of layers of the transformer; recurrent memories have one layer."""
    num_heads: Count = 4
    """Number of attention heads of the transformer."""
    clear_each_episode: bool = False
    """Clear the memory at the end of each episode; the agent then cannot learn across episodes."""
    include_previous_step: bool = False
    """Append the previous input to each input of the memory, which then holds a whole transition:
    observation, action, reward, next observation."""
    policy_net: str = "auto"
    """Network of the observations, before the memory; cnn: a convolutional net for images;
    module:factory: a torch module of your own; both return memory_size features; mlp: only
    the layers of encoder_sizes; auto: cnn if there are pixel images, else mlp."""
    scale_observations: bool = True
    """Divide images by their maximum, and rescale numbers whose bounds exceed ±10 to [−1, 1]."""
    encoder_sizes: tuple[Count, ...] = ()
    """Sizes of the hidden layers before the memory."""
    head: Literal["mlp", "hypernetwork"] = "mlp"
    """Policy head; mlp: a perceptron on the memory's features; hypernetwork: the memory generates
    the weights of a perceptron on the observation."""
    hidden_sizes: tuple[Count, ...] = ()
    """Sizes of the hidden layers of the policy's head."""
    value_hidden_sizes: tuple[Count, ...] = (64,)
    """Sizes of the hidden layers of the critic's head."""
    privileged_critic: bool = False
    """Condition the critic on the task in training; reduces the variance of the policy gradient
    without bias."""
    use_expected_rewards: bool = False
    """Replace rewards in training by their means given the task; reduces the variance of the policy
    gradient without bias."""
    activation: Activation = "tanh"
    """Activation function of the hidden layers."""
    initial_std: Positive = 1.0
    """Initial standard deviation of the policy, in the policy's units (see action_divisor)."""
    min_std: Positive = 1e-6
    """Lower bound on the standard deviation."""
    action_divisor: Positive | None = None
    """Actions are the policy's outputs divided by this number. None: the value of the task
    family; if it has none, output 0 is the center of the action box and ±1 are its bounds."""
    gamma: UnitInterval = 0.99
    """Discount per step; discounting continues across the episodes of a trial."""
    final_gamma: float | None = None
    """Discount after anneal_iterations; 1 − gamma decreases geometrically. None: gamma is
    constant."""
    gae_lambda: UnitInterval = 0.95
    """λ of generalized advantage estimation."""
    normalize_observations: bool = False
    """Normalize observations and rewards in the policy's inputs by their running mean and standard
    deviation."""
    normalize_rewards: bool = True
    """Divide rewards in training by the running standard deviation of the returns."""
    reward_clip: Positive | None = 10.0
    """With normalize_rewards, clip the divided rewards to ± this number, as VariBAD's code does;
    after batches without rewards the divisor can be tiny. None: no clipping."""
    learning_rate: Positive = 7e-4
    """Learning rate of Adam; with trpo, Adam trains only the critic."""
    anneal_iterations: Count | None = None
    """Iterations in which the learning rate and the entropy bonus decrease linearly to 0; None:
    they are constant."""
    num_epochs: SmallCount = 4
    """Passes over the trials per iteration; with trpo, only the critic is trained in them."""
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
    """Maximum norm of gradients; larger ones are scaled down."""
    backprop_steps: Count | None = None
    """Steps of truncated backpropagation through time; None: the whole trial."""
    max_kl_nats: Positive = 0.01
    """TRPO: maximum mean KL divergence of a step, in nats."""
    cg_iterations: SmallCount = 10
    """TRPO: conjugate-gradient iterations."""
    cg_damping: NonNegative = 1e-3
    """TRPO: constant added to the diagonal of the Fisher matrix."""
    fisher_fraction: Share = 0.2
    """TRPO: fraction of the trials in the Fisher product; the line search uses all trials."""
    line_search_steps: SmallCount = 15
    """TRPO: maximum number of steps that the line search tries."""
    backtrack_ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.8
    """TRPO: factor on the step size after each failed try of the line search."""

    legacy_defaults: ClassVar[Mapping[str, object]] = {
        "policy_net": "mlp",
        "scale_observations": False,
        "reward_clip": None,
    }
    """Values of settings that are missing in checkpoints of earlier versions."""

    def for_family(self, family: TaskFamily) -> RL2Config:
        """The settings with the network chosen for the family's observations.

        Raises:
            ValueError: if the network needs images and there are none.
        """
        return replace(self, policy_net=chosen_policy_net(self.policy_net, family))

    def at_iteration(self, iteration: int) -> RL2Config:
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
            learning_rate=max(self.learning_rate * left, 1e-12),  # settings reject 0
            entropy_coefficient=self.entropy_coefficient * left,
        )

    def check_consistency(self) -> None:
        """Reject settings that contradict one another.

        Raises:
            ValueError: naming the setting to change.
        """
        require_policy_net(self.policy_net)
        if self.initial_std < self.min_std:
            raise ValueError(
                f"initial_std must be at least {self.min_std:g}, the value of min_std, got "
                f"{self.initial_std:g}; below it the standard deviation has no gradient"
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
                f"final_gamma must be None if gamma is 1, its maximum, got {self.final_gamma}"
            )
        if self.final_gamma is not None:
            require_between("final_gamma", self.final_gamma, self.gamma, 1, open_high=True)
            if self.anneal_iterations is None:
                raise ValueError(
                    f"final_gamma must be None without anneal_iterations, got {self.final_gamma}; "
                    "set the number of iterations after which it is reached"
                )
        if self.num_minibatches > self.meta_batch_size:
            raise ValueError(
                f"num_minibatches must be at most the {self.meta_batch_size} trials of "
                f"meta_batch_size, got {self.num_minibatches}"
            )
        if self.include_previous_step and self.memory == "none":
            raise ValueError(
                "include_previous_step must be False without a memory, got True; "
                "use memory gru, lstm or transformer"
            )
        if self.backprop_steps is not None and self.memory == "transformer":
            raise ValueError(
                "backprop_steps must be None with a transformer, which attends to whole trials, "
                f"got {self.backprop_steps}"
            )
        if self.backprop_steps is not None and self.optimizer == "trpo":
            raise ValueError(
                f"backprop_steps must be None with trpo, got {self.backprop_steps}; use ppo"
            )
