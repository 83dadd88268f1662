"""Adam on parameters by name, with its state as tensors that a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from metarl.checkpoints import select_tensors

__all__ = ["Adam", "laid_out_as"]

_KINDS = ("step", "exp_avg", "exp_avg_sq")  # what torch keeps for each parameter


def laid_out_as(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The gradient with the parameter's strides.

    torch's fused optimisers walk through both in the order of memory, and give no error if these
    differ: a transposed gradient would reach the wrong entries.
    """
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


class Adam:
    """Owns the optimiser's state; the parameters are changed in place.

    Source: Kingma & Ba 2015 (arXiv:1412.6980), alg. 1.
    """

    def __init__(self, params: Mapping[str, Tensor], *, epsilon: float = 1e-8) -> None:
        self._params = dict(params)
        self._optimizer = torch.optim.Adam(
            list(self._params.values()), lr=0.0, eps=epsilon, fused=True
        )

    def step(self, gradients: Mapping[str, Tensor], *, learning_rate: float) -> None:
        """One step; parameters without a gradient stay as they are."""
        self._optimizer.param_groups[0]["lr"] = learning_rate
        for name, p in self._params.items():
            p.grad = laid_out_as(gradients[name], p) if name in gradients else None
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Step counts and moments by kind and parameter; before the first step they are zeros."""
        groups: dict[str, dict[str, Tensor]] = {f"optimizer/{kind}": {} for kind in _KINDS}
        for name, p in self._params.items():
            state = self._optimizer.state.get(p, {})
            for kind in _KINDS:
                empty = torch.zeros((), device=p.device) if kind == "step" else torch.zeros_like(p)
                groups[f"optimizer/{kind}"][name] = state.get(kind, empty)
        return groups

    def restore(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Take up the state that a checkpoint holds.

        Raises:
            ValueError: if it is not that of these parameters.
        """
        for group, like in self.tensors().items():
            held = select_tensors(path, dict(tensors), group, like)
            for name, p in self._params.items():
                self._optimizer.state[p][group.removeprefix("optimizer/")] = held[name]
