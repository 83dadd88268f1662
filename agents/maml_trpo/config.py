"""Settings of MAML-TRPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metarl.nn.mlp import Activation, activation_function
from metarl.rl.objectives import InnerObjective
from metarl.validation import require_at_least, require_between

__all__ = ["MAMLTRPOConfig"]


@dataclass(frozen=True)
class MAMLTRPOConfig:
    """Defaults are those of the reference experiments of Finn et al. 2017 (arXiv:1703.03400).

    Differs: `fisher_fraction`, which the reference does not have (1 there), and the exact Fisher
    product, which it takes by finite differences.
    """

    meta_batch_size: int = 40
    """Tasks per iteration."""
    num_episodes: int = 20
    """Episodes per task before each inner step, and again after the last."""
    num_inner_steps: int = 1
    """Gradient steps of adaptation in training. 0 trains one policy for all tasks, plain TRPO."""
    inner_lr: float = 0.1
    """Learning rate of adaptation."""
    later_lr_factor: float = 0.5
    """Factor on inner_lr in steps beyond those trained for; the reference's test halves it."""
    inner_objective: InnerObjective = "log_prob"
    """Inner loss: log_prob (REINFORCE with a baseline, maml17) or likelihood_ratio (promp)."""
    first_order: bool = False
    """Drop the second derivatives of adaptation."""
    gamma: float = 0.99
    """Discount per step."""
    gae_lambda: float = 1.0
    """λ of the advantage estimates; 1 gives return minus baseline."""
    baseline: Literal["linear", "none"] = "linear"
    """Baseline, fitted to each task's own batch."""
    normalize_advantages: bool = True
    """Give the advantages of each task mean 0 and standard deviation 1."""
    bootstrap_truncated: bool = False
    """Count the baseline's value after an episode that was cut at the horizon."""
    hidden_sizes: tuple[int, ...] = (100, 100)
    """Hidden layers of the policy."""
    activation: Activation = "relu"
    """Between the layers."""
    initial_std: float = 1.0
    """Standard deviation of the first policy, in the policy's units (see action_scale)."""
    min_std: float = 1e-6
    """Lower bound on the standard deviation."""
    action_scale: float | None = None
    """Policy actions are divided by this before they reach the environment; None: the variant's."""
    max_kl_nats: float = 0.01
    """Trust region: mean KL divergence of the adapted policies."""
    cg_iterations: int = 10
    """Conjugate-gradient iterations."""
    cg_damping: float = 1e-5
    """Added to the diagonal of the Fisher matrix."""
    fisher_fraction: float = 0.2
    """Share of each task's episodes in the Fisher product; the line search checks the KL on all."""
    line_search_steps: int = 15
    """Tries of the line search."""
    backtrack_ratio: float = 0.8
    """Factor between tries."""
    chunk_size: int | None = 8
    """Tasks differentiated at a time; fewer need less memory and keep a CPU's caches warm."""

    def __post_init__(self) -> None:
        for name in ("meta_batch_size", "num_episodes", "cg_iterations", "line_search_steps"):
            require_at_least(name, getattr(self, name), 1)
        require_at_least("num_inner_steps", self.num_inner_steps, 0)
        for name in ("inner_lr", "later_lr_factor", "initial_std", "min_std", "max_kl_nats"):
            require_between(name, getattr(self, name), 0, float("inf"), open_low=True)
        require_between("cg_damping", self.cg_damping, 0, float("inf"))
        for name in ("gamma", "gae_lambda"):
            require_between(name, getattr(self, name), 0, 1)
        require_between("fisher_fraction", self.fisher_fraction, 0, 1, open_low=True)
        require_between(
            "backtrack_ratio", self.backtrack_ratio, 0, 1, open_low=True, open_high=True
        )
        activation_function(self.activation)
        for size in self.hidden_sizes:
            require_at_least("hidden_sizes", size, 1)
        if self.action_scale is not None:
            require_between("action_scale", self.action_scale, 0, float("inf"), open_low=True)
        if self.chunk_size is not None:
            require_at_least("chunk_size", self.chunk_size, 1)
        if self.inner_objective not in ("log_prob", "likelihood_ratio"):
            raise ValueError(
                "inner_objective must be 'log_prob' or 'likelihood_ratio', "
                f"got {self.inner_objective!r}"
            )
        if self.baseline not in ("linear", "none"):
            raise ValueError(f"baseline must be 'linear' or 'none', got {self.baseline!r}")
