"""ANIL: MAML whose inner loop adapts the head only, so the net runs once per episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from metarl.bilevel.inner_loop import Loss
from metarl.fewshot.contract.gradient import AdaptedTasks, GradientLearner, GradientSettings
from metarl.fewshot.contract.head import head_logits, head_outputs
from metarl.fewshot.contract.interface import Parts
from metarl.fewshot.contract.metric import embed_alone, episode_statistics
from metarl.fewshot.contract.problem import task_losses
from metarl.fewshot.contract.settings import require_shared_norm
from metarl.fewshot.data.batches import FewShotBatch, LabeledSet
from metarl.parameters import Params
from metarl.validation import NumSteps

__all__ = ["ANIL", "ANILConfig"]


@dataclass(frozen=True)
class ANILConfig(GradientSettings):
    """Settings of ANIL."""

    num_inner_steps: NumSteps = 1
    """Gradient steps of the head in training."""
    differentiation: Literal["unrolled", "first_order"] = "unrolled"
    """Computation of the meta-gradient; first_order drops second derivatives, so that the net
    learns from the query only."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        super().check_consistency()
        require_shared_norm(self)


class ANIL(GradientLearner):
    """Almost no inner loop: features are meta-learned, and only heads are adapted.

    The gradient is MAML's for an inner loop over the head alone, but support and query are embedded
    once instead of at every step.

    Source: Raghu et al. 2020 (arXiv:1909.09157), sec. 4.
    """

    config_type: ClassVar[type[ANILConfig]] = ANILConfig

    @property
    def adaptation_description(self) -> str:
        """Steps and rate of the head."""
        config = self.config
        return (
            f"gradient steps of the head ({config.num_inner_steps} in training), "
            f"rate {config.inner_lr:g} on the mean loss"
        )

    def choose_adapted_names(self) -> tuple[str, ...]:
        """Names of the head's parameters."""
        return ("weight", "bias")

    def start(self, params: Params) -> Params:
        """The head."""
        weight, bias = self.backbone.head_names
        return {"weight": params[weight], "bias": params[bias]}

    def shared_params(self, params: Params) -> Params:
        """The net."""
        return params

    def inner_batch(self, params: Params, support: LabeledSet) -> Parts:
        """Embedded support, targets and, if present, the mask.

        With differentiation first_order, inner gradients are constants, so the support's embedding
        is detached.
        """
        features = embed_alone(self.backbone, params, support.inputs, support.mask)
        if self.config.differentiation == "first_order":
            features = features.detach()
        mask = () if support.mask is None else (support.mask,)
        return features, support.targets, *mask

    def inner_loss(self, shared: Params) -> Loss:
        """Loss of the head on embedded points, [tasks]."""
        del shared

        def loss(head: Params, parts: Parts) -> Tensor:
            features, targets, *mask = parts
            return task_losses(self.problem.kind, head_logits(head, features), targets, *mask)

        return loss

    def predict(self, adapted: AdaptedTasks, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [tasks, points, ways] or predictions [tasks, points, D]."""
        return head_outputs(self.backbone, adapted, inputs, mask, self.config.batch_norm)

    def statistics(self, params: Params, batch: FewShotBatch) -> Params:
        """Statistics of support and query together."""
        return episode_statistics(self.backbone, params, batch, self.config.batch_norm)
