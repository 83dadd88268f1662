"""CAVIA: adaptation changes a small context that modulates a net shared by all tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from metarl.bilevel.inner_loop import InnerLoop
from metarl.fewshot.contract.gradient import GradientLearner, GradientSettings
from metarl.fewshot.contract.metric import episode_statistics
from metarl.fewshot.contract.settings import require_shared_norm
from metarl.fewshot.data.batches import FewShotBatch
from metarl.nn.backbones import Backbone
from metarl.parameters import Params
from metarl.validation import Count, NumSteps, Positive

__all__ = ["CAVIA", "CAVIAConfig"]


@dataclass(frozen=True)
class CAVIAConfig(GradientSettings):
    """Settings of CAVIA; the defaults are from its sinusoid experiment."""

    num_context: Count = 5
    """Size of the context vector, which is zero before adaptation."""
    num_inner_steps: NumSteps = 1
    """Gradient steps of the context in training."""
    inner_lr: Positive = 1.0
    """Learning rate of the context, for the mean loss over all points."""
    differentiation: Literal["unrolled", "first_order"] = "unrolled"
    """Computation of the meta-gradient: unrolled is exact, first_order ignores second
    derivatives."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        super().check_consistency()
        require_shared_norm(self)


class CAVIA(GradientLearner):
    """Fast context adaptation: φ ← φ − α ∇_φ L(φ, θ) from φ = 0; only the outer loop trains θ.

    Source: Zintgraf et al. 2019 (arXiv:1810.03642), eq. 4–5. Perceptrons take the context as
    further inputs; in convolutional nets it modulates the pooled maps of the third block, before
    ReLU, as in the authors' code. Differs: these maps are scaled by 1 + γ, not γ, so that the
    context starts near the identity.
    """

    config_type: ClassVar[type[CAVIAConfig]] = CAVIAConfig
    can_compile: ClassVar[bool] = True

    @property
    def adaptation_description(self) -> str:
        """Size, steps and rate of the context."""
        config = self.config
        return (
            f"gradient steps of {config.num_context} context numbers ({config.num_inner_steps} in "
            f"training), rate {config.inner_lr:g} on the mean loss"
        )

    def make_backbone(self) -> Backbone:
        """The net that the context modulates."""
        backbone: Backbone = self.config.make_backbone(
            self.problem, self.problem.num_outputs, num_context=self.config.num_context
        )
        return backbone

    def choose_adapted_names(self) -> tuple[str, ...]:
        """The context, which is not among the parameters."""
        return ("context",)

    def start(self, params: Params) -> Params:
        """A context of zero; it requires gradients, so that the path to it is recorded."""
        like = next(iter(params.values()))
        zero = like.new_zeros(self.config.num_context)
        return {"context": zero.requires_grad_(torch.is_grad_enabled())}

    def shared_params(self, params: Params) -> Params:
        """The net, through which autograd differentiates the inner loss."""
        return params

    def inner_loop(self, params: Params) -> InnerLoop:
        """The inner loop of all tasks at once; `meta_gradient` splits the tasks into chunks."""
        return replace(super().inner_loop(params), chunk_size=None)

    def statistics(self, params: Params, batch: FewShotBatch) -> Params:
        """Statistics of support and query together, at a context of zero."""
        points = batch.query.inputs
        context = points.new_zeros(len(points), self.config.num_context)
        at_start = {**params, "context": context}
        return episode_statistics(self.backbone, at_start, batch, self.config.batch_norm)
