"""MAML and its variants: gradient steps on the support set, from a learned start.

The variants differ in the adapted parameters, their learning rates, and how the inner loop is
differentiated. Each has separate settings, which cannot express another variant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from metarl.bilevel.learned_rates import RateKind
from metarl.fewshot.contract.gradient import (
    Differentiation,
    GradientLearner,
    GradientSettings,
    Layers,
    QuerySlot,
    StepWeights,
)
from metarl.validation import NumSteps, Positive, WholeNumber

__all__ = [
    "BOIL",
    "FOMAML",
    "MAML",
    "BOILConfig",
    "FOMAMLConfig",
    "LearnedMomentum",
    "LearnedMomentumConfig",
    "MAMLConfig",
    "MAMLPlusPlus",
    "MAMLPlusPlusConfig",
    "MetaSGD",
    "MetaSGDConfig",
]


_LEAST_SHARE = 0.03
"""Least weight of an early step, as a share of equal weights, while all losses count."""


@dataclass(frozen=True)
class _MultiStepSettings(GradientSettings):
    """Settings of all variants."""

    num_inner_steps: NumSteps = 1
    """Gradient steps of adaptation in training; 0 pre-trains one net on all tasks."""
    inner_lr: Positive = 0.01
    """Learning rate of adaptation, or initial value of learned rates, for the mean loss over all
    points."""
    multi_step_iterations: WholeNumber = 0
    """Initial iterations in which the query losses after all steps count, with decreasing weights
    (MAML++)."""
    query_slot: QuerySlot = "own"
    """With batch norm per-step, the scale and offset of the query after k steps: own has the k-th
    step's (MAML++), next has the following step's, or separate ones after the last step (runs of
    version 0.1)."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        super().check_consistency()
        if self.query_slot != "own" and self.batch_norm != "per-step":
            raise ValueError(
                "query_slot must be own unless batch_norm is per-step, which has a scale and an "
                f"offset for each step, got {self.query_slot!r}"
            )

    @property
    def adapted(self) -> Layers:
        """All layers."""
        return "all"

    def step_weights(self, iteration: int) -> StepWeights:
        """All steps count equally at first, and only the last after `multi_step_iterations`.

        The weight of every earlier step decreases linearly from 1/S to 0.03/S, as in MAML++'s code.
        """
        last, horizon = self.num_inner_steps, self.multi_step_iterations
        if last == 0 or iteration >= horizon:
            return [(last, 1.0)]
        early = max(1 - iteration / horizon, _LEAST_SHARE) / last
        return [*((step, early) for step in range(1, last)), (last, 1 - early * (last - 1))]


@dataclass(frozen=True)
class _PathSettings(_MultiStepSettings):
    """Settings of the variants that differentiate along the path of the inner loop."""

    differentiation: Differentiation = "unrolled"
    """Computation of the meta-gradient: unrolled or recurrence (both exact; recurrence needs less
    memory), or first_order, which ignores second derivatives."""
    first_order_iterations: WholeNumber = 0
    """Number of initial iterations without second derivatives (MAML++)."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        super().check_consistency()
        if self.differentiation == "first_order" and self.first_order_iterations:
            raise ValueError(
                "first_order_iterations must be 0 with differentiation first_order, which never "
                f"computes second derivatives, got {self.first_order_iterations}"
            )

    def differentiation_at(self, iteration: int) -> Differentiation:
        """first_order in the first `first_order_iterations`, then `differentiation`."""
        return "first_order" if iteration < self.first_order_iterations else self.differentiation


@dataclass(frozen=True)
class MAMLConfig(_PathSettings):
    """Settings of MAML; the defaults are from the sinusoid experiment of Finn et al. 2017."""

    differentiation: Literal["unrolled", "recurrence"] = "unrolled"
    """Computation of the meta-gradient: unrolled stores a graph of all steps; recurrence takes one
    Hessian-vector product per step. Both are exact; recurrence needs less memory."""

    def __post_init__(self) -> None:
        if self.differentiation == "first_order":  # type: ignore[comparison-overlap] # from users
            raise ValueError(
                "differentiation must be unrolled or recurrence for maml, got 'first_order'; "
                "the learner fomaml is MAML without second derivatives"
            )
        super().__post_init__()


@dataclass(frozen=True)
class FOMAMLConfig(_MultiStepSettings):
    """Settings of first-order MAML."""

    @property
    def differentiation(self) -> Differentiation:
        """Inner gradients are treated as constants."""
        return "first_order"


@dataclass(frozen=True)
class BOILConfig(_PathSettings):
    """Settings of BOIL."""

    rates: RateKind = "fixed"
    """Inner learning rates of the body: fixed, or learned per-parameter, per-layer-per-step, or
    with momentum."""

    @property
    def adapted(self) -> Layers:
        """All layers but the head."""
        return "body"


@dataclass(frozen=True)
class MetaSGDConfig(_PathSettings):
    """Settings of Meta-SGD."""

    @property
    def rates(self) -> RateKind:
        """One learned rate for each entry of each parameter."""
        return "per-parameter"


@dataclass(frozen=True)
class MAMLPlusPlusConfig(_PathSettings):
    """Settings of MAML++."""

    num_inner_steps: NumSteps = 5
    """Gradient steps of adaptation in training; 0 pre-trains one net on all tasks."""

    @property
    def rates(self) -> RateKind:
        """One learned rate for each tensor and step."""
        return "per-layer-per-step"


@dataclass(frozen=True)
class LearnedMomentumConfig(_PathSettings):
    """Settings of MAML with learned momentum."""

    @property
    def rates(self) -> RateKind:
        """One learned rate and one learned momentum for each tensor."""
        return "momentum"


class MAML(GradientLearner):
    """Model-agnostic meta-learning: initial parameters that adapt in a few gradient steps.

    The head has one output for each class of the largest episode. If the number of ways varies, a
    task of w classes has the labels 0 … w − 1; the other outputs remain in the softmax and become
    small in training. Batch norm's scale and offset are not adapted, as in MAML's code.

    Source: Finn et al. 2017 (arXiv:1703.03400), alg. 2.
    """

    config_type: ClassVar[type[MAMLConfig]] = MAMLConfig
    can_compile: ClassVar[bool] = True


class FOMAML(GradientLearner):
    """MAML without second derivatives: the query loss's gradient at the adapted parameters.

    Source: Finn et al. 2017 (arXiv:1703.03400), sec. 5.2.
    """

    config_type: ClassVar[type[FOMAMLConfig]] = FOMAMLConfig
    can_compile: ClassVar[bool] = True


class BOIL(GradientLearner):
    """MAML whose inner steps adapt all layers but the head.

    Source: Oh et al. 2021 (arXiv:2008.08882).
    """

    config_type: ClassVar[type[BOILConfig]] = BOILConfig
    can_compile: ClassVar[bool] = True


class MetaSGD(GradientLearner):
    """MAML with a learned inner rate for each entry of each parameter.

    Source: Li et al. 2017 (arXiv:1707.03141), alg. 1. Differs: all rates start at
    `inner_lr`.
    """

    config_type: ClassVar[type[MetaSGDConfig]] = MetaSGDConfig
    can_compile: ClassVar[bool] = True


class MAMLPlusPlus(GradientLearner):
    """MAML with learned inner rates for each tensor and step, and query losses after every step.

    Source: Antoniou et al. 2019 (arXiv:1810.09502), sec. 4. As in the authors' code, the weight of
    every step but the last decreases linearly from 1/S to 0.03/S, and after
    `multi_step_iterations` only the last loss counts; the query after k steps has the scale and
    offset of step k. Differs: batch norm's running statistics are not kept (see `batch_norm`), and
    scale and offset are never adapted.
    """

    config_type: ClassVar[type[MAMLPlusPlusConfig]] = MAMLPlusPlusConfig
    can_compile: ClassVar[bool] = True


class LearnedMomentum(GradientLearner):
    """MAML whose inner steps have momentum, with a learned rate and momentum for each tensor."""

    config_type: ClassVar[type[LearnedMomentumConfig]] = LearnedMomentumConfig
    can_compile: ClassVar[bool] = True
