"""R2D2: a ridge-regression head for each task, solved in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from metarl.fewshot.contract.metric import MetricLearner, SharedTasks, membership, without_absent
from metarl.fewshot.contract.settings import FewShotSettings, require_shared_norm
from metarl.parameters import Params

__all__ = ["R2D2", "R2D2Config", "ridge_weights"]

_INITIAL = {"log_ridge": 0.0, "log_scale": 1.0, "offset": 0.0}


@dataclass(frozen=True)
class R2D2Config(FewShotSettings):
    """Settings of the ridge-regression head; ridge, scale and offset are learned."""

    def check_combinations(self) -> None:
        """Reject settings that contradict one another."""
        super().check_combinations()
        require_shared_norm(self)


class R2D2(MetricLearner):
    """Ridge regression of targets on embeddings: logits = e^s X W + b, with W from the support.

        W = argmin ‖X W − Y‖² + e^r ‖W‖²

    Y is one-hot for classes. The embedding and r, s, b are learned through the solution.

    Source: Bertinetto et al. 2019 (arXiv:1805.08136), eq. 4–6.
    """

    config_type: ClassVar[type[R2D2Config]] = R2D2Config
    needs_classes: ClassVar[bool] = False
    adaptation_in_words: ClassVar[str] = "ridge regression"

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters of the embedding, r = 0, s = 1, b = 0."""
        params = super().init(generator)
        like = next(iter(params.values()))
        return params | {name: like.new_tensor(value) for name, value in _INITIAL.items()}

    def predict(self, adapted: SharedTasks, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [tasks, points, ways] or predictions [tasks, points, D].

        Classes without support in a task get the lowest number.
        """
        params, support = adapted
        found = self.embed(adapted, inputs, mask)
        wanted = support.targets
        if self.problem.kind == "classification":
            wanted = membership(support, int(wanted.max()) + 1, found.support.dtype)
        weights = ridge_weights(found.support, wanted, params["log_ridge"].exp(), support.mask)
        outputs = params["log_scale"].exp() * (found.query @ weights) + params["offset"]
        if self.problem.kind == "regression":
            return outputs
        return without_absent(outputs, wanted)


class _Rows(NamedTuple):
    inputs: Tensor
    targets: Tensor


def ridge_weights(
    inputs: Tensor, targets: Tensor, ridge: Tensor, mask: Tensor | None = None
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
