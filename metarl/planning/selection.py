"""Choice of one of several options by their scores."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["explore", "random_argmax"]


def random_argmax(scores: Tensor, generator: torch.Generator) -> Tensor:
    """The index of the highest score; ties are broken at random. Shape [..., k] ↦ [...] int64.

    >>> random_argmax(torch.tensor([[1.0, 3.0, 2.0]]), torch.Generator())
    tensor([1])
    """
    noise = torch.rand(scores.shape, generator=generator, device=scores.device, dtype=torch.float32)
    highest = scores == scores.amax(-1, keepdim=True)
    return torch.where(highest, noise, -1.0).argmax(-1)


def explore(
    choices: Tensor, num_options: int, epsilon: float, generator: torch.Generator
) -> Tensor:
    """Choices [...], each replaced by a uniform one of `num_options` with probability ε."""
    if epsilon == 0:
        return choices
    device = choices.device
    uniform = torch.randint(num_options, choices.shape, generator=generator, device=device)
    replaced = (
        torch.rand(choices.shape, generator=generator, device=device, dtype=torch.float32) < epsilon
    )
    return torch.where(replaced, uniform, choices)
