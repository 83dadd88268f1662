"""The outer optimiser of every few-shot learner: Adam or SGD on named tensors, with a schedule.

Its state can be written down and read back, so that training goes on to the same bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from metarl.adam import laid_out_as
from metarl.bilevel import Params
from metarl.checkpoints import select_tensors
from metarl.fewshot.settings import FewShotSettings, OptimizerName, ScheduleName

__all__ = ["OuterOptimizer", "scheduled_rate"]

_KEPT: dict[OptimizerName, tuple[str, ...]] = {
    "adam": ("step", "exp_avg", "exp_avg_sq"),  # what torch keeps for each parameter
    "sgd": (),
}
_LAST_SHARE = 0.01  # of the cosine schedule


def scheduled_rate(
    schedule: ScheduleName, rate: float, iteration: int, decay_iterations: int
) -> float:
    """Learning rate of an iteration.

        linear  α (1 − t/T);   cosine  α (0.01 + 0.99 (1 + cos(π t/T)) / 2);   halving  α 2^−⌊t/T⌋

    Args:
        schedule: which; linear and cosine stay where they are after T.
        rate: α.
        iteration: t, counted from 0.
        decay_iterations: T.
    """
    share = min(iteration / decay_iterations, 1.0)
    if schedule == "linear":
        return rate * (1 - share)
    if schedule == "cosine":
        return rate * (_LAST_SHARE + (1 - _LAST_SHARE) * (1 + math.cos(math.pi * share)) / 2)
    if schedule == "halving":
        return float(rate * 0.5 ** (iteration // decay_iterations))
    return rate


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
