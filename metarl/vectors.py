"""Named parameters as one flat vector and back, for algorithms of linear algebra."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["flatten", "unflatten"]


def flatten(params: dict[str, Tensor]) -> Tensor:
    """All entries in the order of the names, shape [P]."""
    return torch.cat([p.reshape(-1) for p in params.values()])


def unflatten(vector: Tensor, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `flatten`: views of `vector` under the names and shapes of `like`.

    Raises:
        ValueError: if the sizes do not fit.
    """
    sizes = [p.numel() for p in like.values()]
    if vector.shape != (sum(sizes),):
        raise ValueError(f"vector must have shape ({sum(sizes)},), got {tuple(vector.shape)}")
    parts = vector.split(sizes)
    return {name: part.view(p.shape) for (name, p), part in zip(like.items(), parts, strict=True)}
