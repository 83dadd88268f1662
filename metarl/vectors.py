"""Named parameters as one flat vector and back, for algorithms of linear algebra."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["flatten", "unflatten"]


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
