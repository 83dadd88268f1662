"""Dictionaries of parameters by name, and their conversion to one vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["Params", "State", "copy_state", "flatten", "select_part", "unflatten"]


def flatten(params: dict[str, Tensor], *, batch_dims: int = 0) -> Tensor:
    """All entries in the order of the names, shape [P]; [*batch, P] if leading axes are kept."""
    return torch.cat([p.reshape(*p.shape[:batch_dims], -1) for p in params.values()], -1)


def unflatten(vector: Tensor, like: dict[str, Tensor], *, batch_dims: int = 0) -> dict[str, Tensor]:
    """The inverse of `flatten`: views of `vector` under the names and shapes of `like`.

    Raises:
        ValueError: if the sizes do not fit.
    """
    sizes = [p.shape[batch_dims:].numel() for p in like.values()]
    batch = next(iter(like.values())).shape[:batch_dims]
    expected = (*batch, sum(sizes))
    if vector.shape != expected:
        raise ValueError(f"vector must have shape {expected}, got {tuple(vector.shape)}")
    parts = vector.split(sizes, -1)
    return {name: part.view(p.shape) for (name, p), part in zip(like.items(), parts, strict=True)}


Params: TypeAlias = dict[str, Tensor]

State: TypeAlias = Mapping[str, Mapping[str, Tensor]]
"""Tensors by group and name, such as the groups parameters and optimizer."""


def copy_state(state: State) -> State:
    """The state with copies of its tensors."""
    return {g: {n: t.detach().clone() for n, t in ts.items()} for g, ts in state.items()}


def select_part(params: Params, name: str) -> Params:
    """The parameters of one part of a network, named without the name of the part.

    >>> params = {"policy.head.bias_0": torch.zeros(1), "policy.log_std": torch.ones(1)}
    >>> select_part(params, "policy")
    {'log_std': tensor([1.])}
    """
    prefix = f"{name}."
    named = ((k.removeprefix(prefix), p) for k, p in params.items() if k.startswith(prefix))
    return {k: p for k, p in named if "." not in k}


def _with_prefix(name: str, params: Params) -> Params:
    return {f"{name}.{k}": p for k, p in params.items()}
