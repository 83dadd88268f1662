"""Sums over the earlier steps of an episode, along an axis that may hold several episodes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["prefix_sums"]


def prefix_sums(values: Tensor, times: Tensor, *, decay: float = 1.0) -> Tensor:
    """Decayed sums of the values of an episode up to and including each step.

        w_t = λ w_{t−1} + x_t within an episode,   w = x at its first step

    Episodes may follow one another along the last axis in any number and length, so packed batches
    need no padding. Pass k extends partial sums from 2ᵏ to 2ᵏ⁺¹ steps, so the cost is O(T log T)
    elementwise operations. No long sums are subtracted, and episodes do not affect one another.

    Args:
        values: x. Shape [..., T].
        times: index of each step in its episode; 0 starts an episode. Shape [..., T], int64.
        decay: λ, in [0, 1].

    Returns:
        w, shape [..., T].

    >>> prefix_sums(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0, 1, 0, 1])).tolist()
    [1.0, 3.0, 3.0, 7.0]
    """
    sums, width = values, 1
    while width < values.shape[-1] and decay > 0:
        earlier = torch.nn.functional.pad(sums[..., :-width], (width, 0))
        sums = sums + decay**width * torch.where(times >= width, earlier, 0)
        width *= 2
    return sums
