"""The optimizer of every outer loop: torch's, on named parameters, with a learning-rate schedule.

It owns the moments and updates the parameters in place. It depends on neither settings nor files:
callers pass numbers, and store its tensors by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from metarl.optim.schedules import OptimizerName, ScheduleName, scheduled_rate
from metarl.parameters import Params

__all__ = ["NamedOptimizer", "with_strides_of"]

_STATE: dict[OptimizerName, tuple[str, ...]] = {
    "adam": ("step", "exp_avg", "exp_avg_sq"),
    "sgd": (),
}
"""Names of torch's state for each parameter."""


def with_strides_of(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The gradient with the parameter's strides.

    torch's fused optimizers read both in memory order and raise no error if the strides differ: a
    transposed gradient would update the wrong entries.
    """
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


class NamedOptimizer:
    """Adam or gradient descent on named parameters, updated in place.

    Source: Adam is Kingma & Ba 2015 (arXiv:1412.6980), alg. 1.
    """

    def __init__(
        self,
        params: Params,
        name: OptimizerName = "adam",
        *,
        rate: float,
        schedule: ScheduleName = "constant",
        decay_iterations: int | None = None,
        clip: float | None = None,
        epsilon: float = 1e-8,
    ) -> None:
        """An optimizer of these tensors, before its first step.

        Args:
            params: the tensors to update, by name.
            name: the algorithm.
            rate: initial learning rate.
            schedule: schedule of the learning rate.
            decay_iterations: length of the schedule in iterations; required unless it is constant.
            clip: bound on the absolute value of each gradient entry; None: no bound.
            epsilon: Adam's constant in the denominator.
        """
        self._params, self._rate, self._clip = params, rate, clip
        self._schedule, self._decay_iterations = schedule, decay_iterations
        self._kinds = _STATE[name]
        tensors = list(params.values())
        self._torch: torch.optim.Optimizer
        if name == "adam":
            self._torch = torch.optim.Adam(tensors, lr=rate, eps=epsilon, fused=True)
        else:
            self._torch = torch.optim.SGD(tensors, lr=rate)

    @property
    def torch_optimizer(self) -> torch.optim.Optimizer:
        """The wrapped optimizer, for callers that need torch's own interface."""
        return self._torch

    def set_params(self, params: Params) -> None:
        """Update these tensors from now on; moments are kept by name and moved to their devices."""
        (group,) = self._torch.param_groups
        for name, p in params.items():
            moments = self._torch.state.pop(self._params[name], {})
            self._torch.state[p] = {kind: value.to(p.device) for kind, value in moments.items()}
        group["params"] = list(params.values())
        self._params = params

    def step(
        self,
        gradients: Mapping[str, Tensor],
        iteration: int = 0,
        *,
        learning_rate: float | None = None,
    ) -> None:
        """Take one step; arguments and errors as in `set_gradients`."""
        self.set_gradients(gradients, iteration, learning_rate=learning_rate)
        self._torch.step()
        self._torch.zero_grad(set_to_none=True)

    def set_gradients(
        self,
        gradients: Mapping[str, Tensor],
        iteration: int = 0,
        *,
        learning_rate: float | None = None,
    ) -> None:
        """Set rate and gradients, so that `torch_optimizer.step()` descends.

        Args:
            gradients: by name; parameters without one, and their moments, are unchanged.
            iteration: number of previous iterations, for the schedule.
            learning_rate: used instead of the scheduled rate, by callers with their own schedule.

        Raises:
            ValueError: if a schedule has no decay_iterations; nothing is changed.
        """
        rate = self._scheduled_rate(iteration) if learning_rate is None else learning_rate
        for group in self._torch.param_groups:
            group["lr"] = rate
        for name, p in self._params.items():
            p.grad = (
                self._clipped(with_strides_of(gradients[name], p)) if name in gradients else None
            )

    def tensors(self) -> dict[str, Tensor]:
        """Step counts and moments as "kind/parameter"; zeros before the first step."""
        found: dict[str, Tensor] = {}
        for name, p in self._params.items():
            state = self._torch.state.get(p) or _initial_state(p, self._kinds)
            found |= {f"{kind}/{name}": state[kind] for kind in self._kinds}
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore step counts and moments, named and shaped as in `tensors`, from copies."""
        for kind in self._kinds:
            for name, p in self._params.items():
                self._torch.state[p][kind] = tensors[f"{kind}/{name}"].detach().clone()

    def _clipped(self, gradient: Tensor) -> Tensor:
        return gradient if self._clip is None else gradient.clamp(-self._clip, self._clip)

    def _scheduled_rate(self, iteration: int) -> float:
        if self._decay_iterations is None and self._schedule != "constant":
            raise ValueError(
                f"decay_iterations must be given for the schedule {self._schedule!r}, got None; "
                "set it to the number of training iterations"
            )
        return scheduled_rate(self._schedule, self._rate, iteration, self._decay_iterations or 1)


def _initial_state(parameter: Tensor, kinds: Collection[str]) -> Params:
    """The state before the first step; torch creates it in the first step."""
    return {
        kind: torch.zeros((), device=parameter.device, dtype=torch.float32)
        if kind == "step"
        else torch.zeros_like(parameter)
        for kind in kinds
    }
