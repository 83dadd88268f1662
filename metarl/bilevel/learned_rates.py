"""Learned inner learning rates: per parameter, per layer and step, or with momentum."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from metarl.bilevel.rules import InnerRule, sgd
from metarl.parameters import Params

__all__ = ["RateKind", "Rates"]

RateKind = Literal["fixed", "per-parameter", "per-layer-per-step", "momentum"]

_RATE, _MOMENTUM, _VELOCITY = "rate/", "momentum/", "velocity/"
_INITIAL_LOGIT = 0.0  # a momentum of ½


@dataclass(frozen=True)
class Rates:
    """Inner rules with fixed or learned rates.

    - fixed: θ − α g with one number α.
    - per-parameter: θ − α∘g with α of θ's shape (Meta-SGD, Li et al. 2017, arXiv:1707.03141,
      eq. 3).
    - per-layer-per-step: θ − α g with one α for each tensor and step (MAML++, Antoniou et al.
      2019, arXiv:1810.09502, sec. 4).
    - momentum: v ← μ v + g, θ − α v with μ = σ(m) and α = e^a; m and a are learned for each
      tensor.
    """

    kind: RateKind
    inner_lr: float
    """Initial value of learned rates."""
    num_steps: int
    schedules: tuple[str, ...] = ()
    """Names of other parameters with one entry per step (scales and offsets of batch norm)."""

    def init(self, params: Params, adapted: Collection[str]) -> Params:
        """Initial values of the learned rates of the adapted parameters."""
        moved = {name: params[name] for name in adapted}
        if self.kind == "per-parameter":
            return {_RATE + name: torch.full_like(p, self.inner_lr) for name, p in moved.items()}
        steps = max(self.num_steps, 1)
        if self.kind == "per-layer-per-step":
            return {_RATE + name: p.new_full((steps,), self.inner_lr) for name, p in moved.items()}
        if self.kind == "momentum":
            start = {_RATE: math.log(self.inner_lr), _MOMENTUM: _INITIAL_LOGIT}
            return {
                k + name: p.new_tensor(v) for k, v in start.items() for name, p in moved.items()
            }
        return {}

    def initial_velocities(self, params: Params, adapted: Collection[str]) -> Params:
        """Initial velocities (zero), which belong to a task's state; {} without momentum."""
        if self.kind != "momentum":
            return {}
        return {_VELOCITY + name: torch.zeros_like(params[name]) for name in adapted}

    @property
    def rule(self) -> InnerRule:
        """The inner rule for `InnerLoop`."""
        if self.kind == "fixed" and not self.schedules:
            return sgd(self.inner_lr)
        move = {
            "fixed": sgd(self.inner_lr),
            "per-parameter": _per_parameter,
            "per-layer-per-step": _per_layer_per_step,
            "momentum": _with_momentum,
        }[self.kind]
        return lambda params, grads: {
            name: _next_rows(p) if name in self.schedules else p
            for name, p in move(params, grads).items()
        }


def _per_parameter(params: Params, grads: Params) -> Params:
    return {
        name: p - params[_RATE + name] * grads[name] if name in grads else p
        for name, p in params.items()
    }


def _per_layer_per_step(params: Params, grads: Params) -> Params:
    moved = {}
    for name, p in params.items():
        if name in grads:
            moved[name] = p - _broadcast_to(params[_RATE + name][..., 0], p) * grads[name]
        else:
            moved[name] = _next_rates(p) if name.startswith(_RATE) else p
    return moved


def _with_momentum(params: Params, grads: Params) -> Params:
    moved = dict(params)
    for name, grad in grads.items():
        momentum = torch.sigmoid(_broadcast_to(params[_MOMENTUM + name], grad))
        velocity = momentum * params[_VELOCITY + name] + grad
        moved[_VELOCITY + name] = velocity
        moved[name] = params[name] - _broadcast_to(params[_RATE + name], grad).exp() * velocity
    return moved


def _broadcast_to(rate: Tensor, p: Tensor) -> Tensor:
    """A rate [] or [tasks], reshaped to broadcast to a parameter [...] or [tasks, ...]."""
    return rate.reshape(*rate.shape, *[1] * (p.dim() - rate.dim()))


def _next_rows(schedule: Tensor) -> Tensor:
    """Drop the first step of a schedule [..., steps, C] and repeat the last."""
    return torch.cat([schedule[..., 1:, :], schedule[..., -1:, :]], -2)


def _next_rates(schedule: Tensor) -> Tensor:
    """Drop the first of the rates [..., steps] and repeat the last."""
    return torch.cat([schedule[..., 1:], schedule[..., -1:]], -1)
