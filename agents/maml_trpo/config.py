"""Settings of MAML-TRPO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from annotated_types import Interval

from metarl.estimators.catalog import ESTIMATORS, EstimatorName
from metarl.nn.mlp import Activation
from metarl.rl.policy_nets import chosen_policy_net, require_policy_net
from metarl.tasks.family import TaskFamily
from metarl.validation import (
    Count,
    NonNegative,
    NumSteps,
    Positive,
    Settings,
    Share,
    SmallCount,
    UnitInterval,
)

__all__ = ["MAMLTRPOConfig"]

_MAX_LINEAR_SIZE = 1000
"""Longest observation of the linear baseline, whose cost grows with the cube of the length."""


@dataclass(frozen=True)
class MAMLTRPOConfig(Settings):
    """Settings of MAML-TRPO; the defaults are the settings of Finn et al. 2017 (arXiv:1703.03400).

    Differs from the reference code: it uses `fisher_fraction` 1 and computes the Fisher product by
    finite differences instead of exactly.

    The meta-gradient differentiates the adaptation steps for the episodes that were sampled. With
    the published inner losses it lacks the effect of the initial policy on what is sampled: it
    differs from the gradient of the return after adaptation by 10 % with log_prob and 3 % with the
    likelihood ratio (medians over small MDPs by exact enumeration, 20 episodes, inner step 0.5; 64
    and 5 % without a baseline). See docs/concepts/estimators.md.
    """

    meta_batch_size: Count = 40
    """Tasks per iteration."""
    num_episodes: Count = 20
    """Episodes per task before each inner step, and again after the last."""
    num_inner_steps: NumSteps = 1
    """Adaptation steps in training; 0 trains one policy for all tasks (plain TRPO)."""
    inner_lr: Positive = 0.1
    """Learning rate of the adaptation steps."""
    extra_step_lr_factor: Positive = 0.5
    """Factor on inner_lr for adaptation steps after the first num_inner_steps, which are taken in
    evaluation only; the reference code uses 0.5."""
    estimator: EstimatorName = "log_prob"
    """Surrogate of the inner loss, which decides how adaptation steps are differentiated; log_prob:
    REINFORCE, as in MAML; lvc: likelihood ratio, as in ProMP; dice, loaded_dice, taypo2, dr,
    tmaml_fixed: unbiased Hessians; tmaml: as published, biased; first_order: no derivative."""
    sampling_credit: Literal["off", "on", "forced"] = "off"
    """Also reward the episodes before adaptation for the return after it, as in E-MAML; for
    log_prob and first_order. forced: also with estimators that already count this effect."""
    gamma: UnitInterval = 0.99
    """Discount per step."""
    gae_lambda: UnitInterval = 1.0
    """λ of generalized advantage estimation; 1: return minus baseline."""
    baseline: Literal["auto", "linear", "projection", "none"] = "auto"
    """Baseline of the returns, fitted to the batch of each task; linear: in observations, their
    squares and time; projection: the same with 64 fixed random projections of the observations;
    auto: linear, or projection if there are pixel images or more than 1000 numbers."""
    normalize_advantages: bool = True
    """Normalize the advantages of each task to mean 0 and standard deviation 1."""
    bootstrap_truncated: bool = False
    """Bootstrap from the baseline's value when an episode is truncated at the horizon, as if tasks
    had no time limit; the baseline is fitted to returns that continue after it. Needs gamma < 1."""
    policy_net: str = "auto"
    """Network of the policy; mlp: a perceptron; cnn: a convolutional net for images, and a
    perceptron; module:factory: a torch module of your own; auto: cnn if there are images of
    pixels, else mlp."""
    scale_observations: bool = True
    """Divide images by their maximum, and rescale numbers whose bounds exceed ±10 to [−1, 1]."""
    hidden_sizes: tuple[Count, ...] = (100, 100)
    """Sizes of the policy's hidden layers."""
    activation: Activation = "relu"
    """Activation function of the hidden layers."""
    initial_std: Positive = 1.0
    """Initial standard deviation of the policy, in the policy's units (see action_divisor)."""
    min_std: Positive = 1e-6
    """Lower bound on the standard deviation."""
    action_divisor: Positive | None = None
    """Actions are the policy's outputs divided by this number. None: the value of the task
    family; if it has none, output 0 is the center of the action box and ±1 are its bounds."""
    max_kl_nats: Positive = 0.01
    """Trust region: maximum mean KL divergence of the adapted policies, in nats."""
    cg_iterations: SmallCount = 10
    """Conjugate-gradient iterations."""
    cg_damping: NonNegative = 1e-5
    """Constant added to the diagonal of the Fisher matrix."""
    fisher_fraction: Share = 0.2
    """Fraction of each task's episodes in the Fisher product; the line search uses all episodes."""
    line_search_steps: SmallCount = 15
    """Maximum number of steps that the line search tries."""
    backtrack_ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.8
    """Factor on the step size after each failed try of the line search."""
    chunk_size: Count | None = 8
    """Tasks differentiated at a time; None: all. Fewer tasks need less memory, and can be faster
    on a CPU."""

    legacy_defaults: ClassVar[Mapping[str, object]] = {
        "policy_net": "mlp",
        "scale_observations": False,
    }
    """Values of settings that are missing in checkpoints of earlier versions."""

    def check_consistency(self) -> None:
        """Reject an unknown network, and settings that contradict one another.

        Raises:
            ValueError: naming the setting.
        """
        require_policy_net(self.policy_net)
        estimator = ESTIMATORS[self.estimator]
        if estimator.needs_values and self.baseline == "none":
            raise ValueError(
                f"baseline must not be none with estimator {self.estimator}, which uses its "
                "values; use estimator dice"
            )
        if self.sampling_credit != "off" and self.num_inner_steps == 0:
            raise ValueError(
                f"sampling_credit must be off without inner steps, got {self.sampling_credit}"
            )
        if self.sampling_credit == "on" and estimator.counts_sampling:
            raise ValueError(
                f"sampling_credit must be off or forced with estimator {self.estimator}, which "
                "already counts the effect of sampling, got on; use estimator log_prob"
            )
        if self.bootstrap_truncated and self.baseline == "none":
            raise ValueError(
                "baseline must not be none with bootstrap_truncated, which uses its value of the "
                "last observation; use baseline linear"
            )
        if self.bootstrap_truncated and self.gamma == 1:
            raise ValueError(
                "gamma must be below 1 with bootstrap_truncated, whose returns have no end, got 1"
            )

    def for_family(self, family: TaskFamily) -> MAMLTRPOConfig:
        """The settings with network and baseline chosen for the family's observations.

        Raises:
            ValueError: if the network needs images and there are none.
        """
        baseline = self.baseline
        if baseline == "auto":
            is_long = family.observation_space.shape[0] > _MAX_LINEAR_SIZE
            is_image = any(image.is_pixels for image in family.observation_images)
            baseline = "projection" if is_long or is_image else "linear"
        return replace(
            self, baseline=baseline, policy_net=chosen_policy_net(self.policy_net, family)
        )
