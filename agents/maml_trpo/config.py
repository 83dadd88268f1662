"""Settings of MAML-TRPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from metarl.nn.mlp import Activation
from metarl.rl.objectives import InnerObjective
from metarl.validation import (
    Count,
    NonNegative,
    Positive,
    Settings,
    Share,
    UnitInterval,
    WholeNumber,
)

__all__ = ["MAMLTRPOConfig"]


@dataclass(frozen=True)
class MAMLTRPOConfig(Settings):
    """Defaults are those of the reference experiments of Finn et al. 2017 (arXiv:1703.03400).

    Differs: `fisher_fraction`, which the reference does not have (1 there), and the exact Fisher
    product, which it takes by finite differences.
    """

    meta_batch_size: Count = 40
    """Tasks per iteration."""
    num_episodes: Count = 20
    """Episodes per task before each inner step, and again after the last."""
    num_inner_steps: WholeNumber = 1
    """Gradient steps of adaptation in training. 0 trains one policy for all tasks, plain TRPO."""
    inner_lr: Positive = 0.1
    """Learning rate of adaptation."""
    later_lr_factor: Positive = 0.5
    """Factor on inner_lr in steps beyond those trained for; the reference's test halves it."""
    inner_objective: InnerObjective = "log_prob"
    """Inner loss: log_prob (REINFORCE with a baseline, maml17) or likelihood_ratio (promp)."""
    first_order: bool = False
    """Drop the second derivatives of adaptation."""
    gamma: UnitInterval = 0.99
    """Discount per step."""
    gae_lambda: UnitInterval = 1.0
    """λ of the advantage estimates; 1 gives return minus baseline."""
    baseline: Literal["linear", "none"] = "linear"
    """Baseline, fitted to each task's own batch."""
    normalize_advantages: bool = True
    """Give the advantages of each task mean 0 and standard deviation 1."""
    bootstrap_truncated: bool = False
    """Count the baseline's value after an episode that was cut at the horizon."""
    hidden_sizes: tuple[Count, ...] = (100, 100)
    """Hidden layers of the policy."""
    activation: Activation = "relu"
    """Between the layers."""
    initial_std: Positive = 1.0
    """Standard deviation of the first policy, in the policy's units (see action_scale)."""
    min_std: Positive = 1e-6
    """Lower bound on the standard deviation."""
    action_scale: Positive | None = None
    """Divisor of the policy's outputs that gives actions in the environment's units; None: the
    variant's, and if it has none, outputs are in units of the action box around its center."""
    max_kl_nats: Positive = 0.01
    """Trust region: mean KL divergence of the adapted policies."""
    cg_iterations: Count = 10
    """Conjugate-gradient iterations."""
    cg_damping: NonNegative = 1e-5
    """Added to the diagonal of the Fisher matrix."""
    fisher_fraction: Share = 0.2
    """Share of each task's episodes in the Fisher product; the line search checks the KL on all."""
    line_search_steps: Count = 15
    """Tries of the line search."""
    backtrack_ratio: Annotated[float, Interval(gt=0, lt=1)] = 0.8
    """Factor between tries."""
    chunk_size: Count | None = 8
    """Tasks differentiated at a time; fewer need less memory and keep a CPU's caches warm."""
