"""R2D2: a ridge-regression head for each task, solved in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from metarl.fewshot.contract.metric import MetricLearner, SharedTasks, membership, without_absent
from metarl.fewshot.contract.settings import FewShotSettings, require_shared_norm
from metarl.parameters import Params
from metarl.validation import Positive

__all__ = ["R2D2", "R2D2Config", "ridge_weights"]


@dataclass(frozen=True)
class R2D2Config(FewShotSettings):
    """Settings of the ridge-regression head, whose scale and offset are learned."""

    ridge: Positive = 1.0
    """λ, the coefficient of ‖W‖², or its initial value if it is learned. The authors' code uses 50
    for points divided by √n (n support points)."""
    learn_ridge: bool = True
    """Whether λ is learned (the paper) or fixed (the authors' code)."""
    scale: Positive = math.e
    """Initial value of the factor on the regression's outputs; 10 in the authors' code for
    Omniglot."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        super().check_consistency()
        require_shared_norm(self)


class R2D2(MetricLearner):
    """Ridge regression of targets on embeddings: logits = e^s X W + b, with W from the support.

        W = argmin ‖X W − Y‖² + λ ‖W‖²,   λ = e^r

    Y is one-hot for classes. The embedding, s, b and, with `learn_ridge`, r are learned through the
    solution.

    Source: Bertinetto et al. 2019 (arXiv:1805.08136), eq. 4–6. Differs from the authors' code, not
    from the paper: that code appends a column of ones to X, so that the regression has a bias, and
    divides X and Y by √n (n support points), which multiplies λ by n. Theirs is also another net
    (96 to 512 filters, leaky ReLU, dropout).
    """

    config_type: ClassVar[type[R2D2Config]] = R2D2Config
    needs_classes: ClassVar[bool] = False

    @property
    def adaptation_description(self) -> str:
        """The regression and its λ."""
        kind = "learned" if self.config.learn_ridge else "fixed"
        return f"ridge regression, {kind} λ" + (
            f" of {self.config.ridge:g}" if kind == "fixed" else ""
        )

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters of the embedding, and the initial scale, offset and ridge."""
        params, config = super().init(generator), self.config
        initial = {"log_scale": math.log(config.scale), "offset": 0.0}
        if config.learn_ridge:
            initial = {"log_ridge": math.log(config.ridge), **initial}
        like = next(iter(params.values()))
        return params | {name: like.new_tensor(value) for name, value in initial.items()}

    def predict(self, adapted: SharedTasks, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [tasks, points, ways] or predictions [tasks, points, D].

        Classes without support in a task get the lowest number.
        """
        params, support = adapted
        found = self.embed(adapted, inputs, mask)
        wanted = support.targets
        if self.problem.kind == "classification":
            wanted = membership(support, int(wanted.max()) + 1, found.support.dtype)
        ridge = params["log_ridge"].exp() if self.config.learn_ridge else self.config.ridge
        weights = ridge_weights(found.support, wanted, ridge, support.mask)
        outputs = params["log_scale"].exp() * (found.query @ weights) + params["offset"]
        if self.problem.kind == "regression":
            return outputs
        return without_absent(outputs, wanted)


class _Rows(NamedTuple):
    inputs: Tensor
    targets: Tensor


def ridge_weights(
    inputs: Tensor, targets: Tensor, ridge: Tensor | float, mask: Tensor | None = None
) -> Tensor:
    """W = (XᵀX + λI)⁻¹XᵀY = Xᵀ(XXᵀ + λI)⁻¹Y, by the smaller of the two systems.

    Args:
        inputs: X, [..., n, F].
        targets: Y, [..., n, D].
        ridge: λ above 0, a scalar.
        mask: which rows count, bool [..., n], or None.

    Returns:
        W, [..., F, D].

    Source: Bertinetto et al. 2019 (arXiv:1805.08136), eq. 5 (Woodbury's identity).
    """
    rows = _Rows(inputs, targets)
    if mask is not None:
        rows = _Rows(*(part * mask.unsqueeze(-1).to(part.dtype) for part in rows))
    x, y = rows
    num_points, num_features = x.shape[-2:]
    identity = torch.eye(min(num_points, num_features), dtype=x.dtype, device=x.device)
    weights: Tensor
    if num_points < num_features:
        weights = x.mT @ torch.linalg.solve(x @ x.mT + ridge * identity, y)
    else:
        weights = torch.linalg.solve(x.mT @ x + ridge * identity, x.mT @ y)
    return weights
