"""Optimisers on parameters by name; checkpoints hold their state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from metarl.fewshot.learners.settings import FewShotSettings
from metarl.optim.schedules import OptimizerName, scheduled_rate
from metarl.parameters import Params
from metarl.storage.checkpoints import select_tensors

__all__ = ["Adam", "laid_out_as", "OuterOptimizer"]


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


_KEPT: dict[OptimizerName, tuple[str, ...]] = {
    "adam": ("step", "exp_avg", "exp_avg_sq"),  # what torch keeps for each parameter
    "sgd": (),
}


class OuterOptimizer:
    """Steps parameters in place along gradients that are handed in."""

    def __init__(self, params: Params, config: FewShotSettings) -> None:
        """For these very tensors."""
        self._params, self._config = params, config
        values = list(params.values())
        self._torch: torch.optim.Optimizer
        if config.optimizer == "adam":
            self._torch = torch.optim.Adam(values, lr=config.meta_lr, fused=True)
        else:
            self._torch = torch.optim.SGD(values, lr=config.meta_lr)

    @property
    def torch_optimizer(self) -> torch.optim.Optimizer:
        """What takes the steps, with torch's own interface."""
        return self._torch

    def hold(self, params: Params) -> None:
        """Step these tensors from now on, each with the moments of its name on its own device."""
        (group,) = self._torch.param_groups
        for name, p in params.items():
            moments = self._torch.state.pop(self._params[name], {})
            self._torch.state[p] = {kind: value.to(p.device) for kind, value in moments.items()}
        group["params"] = list(params.values())
        self._params = params

    def step(self, grads: Params, iteration: int) -> None:
        """Descend, each entry of the gradients clipped if the settings say so."""
        self.prepare(grads, iteration)
        self._torch.step()

    def prepare(self, grads: Params, iteration: int) -> None:
        """Set rate and gradients, so that the step of `torch_optimizer` descends."""
        config = self._config
        rate = scheduled_rate(config.schedule, config.meta_lr, iteration, self._decay_iterations())
        for group in self._torch.param_groups:
            group["lr"] = rate
        for name, p in self._params.items():
            grad = laid_out_as(grads[name], p)
            if config.clip_gradient is not None:
                grad = grad.clamp(-config.clip_gradient, config.clip_gradient)
            p.grad = grad

    def _decay_iterations(self) -> int:
        if self._config.decay_iterations is None and self._config.schedule != "constant":
            raise ValueError(
                f"decay_iterations must be given for the schedule {self._config.schedule!r}, got "
                "None: the number of iterations that training will take"
            )
        return self._config.decay_iterations or 1

    def state(self) -> dict[str, Params]:
        """Counts and moments by group; before the first step they are zeros."""
        groups: dict[str, Params] = {f"optimizer/{kind}": {} for kind in self._kinds}
        for name, p in self._params.items():
            held = self._torch.state.get(p, {})
            for kind in self._kinds:
                empty = torch.zeros((), device=p.device) if kind == "step" else torch.zeros_like(p)
                groups[f"optimizer/{kind}"][name] = held.get(kind, empty)
        return groups

    def restore(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Take the state of a checkpoint.

        Raises:
            ValueError: if a tensor is missing or of another shape or type.
        """
        for group, like in self.state().items():
            held = select_tensors(path, dict(tensors), group, like)
            for name, p in self._params.items():
                self._torch.state[p][group.removeprefix("optimizer/")] = held[name]

    @property
    def _kinds(self) -> tuple[str, ...]:
        return _KEPT[self._config.optimizer]
