"""A memory that is fed each moment together with the one before it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metarl.memories import Memory, MemoryState, Params

__all__ = ["TransitionMemory"]


@dataclass(frozen=True)
class TransitionMemory:
    """Shows another memory x_t and x_{t−1} side by side: whole transitions.

    A moment of a trial holds the action, its reward and the observation it led to, but not the
    observation it was taken in. To learn what an action does where, a memory must first put two
    moments together; for a transformer, which looks things up by what stands in one place, that
    is the hard part. On tabular MDPs of ten episodes, two layers of 64 earn 124 after 81 iterations
    by single moments, 153 by transitions (seed 0; random actions earn 98).

    The state is the last moment (zeros at the start and where everything is cleared), then the
    other memory's.

    Source: transitions as tokens, Laskin et al. 2022 (arXiv:2210.14215), Lee et al. 2023
    (arXiv:2306.14892); RL² itself (Duan et al. 2016) shows moments.
    """

    inner: Memory
    """Made for twice as many inputs."""
    input_size: int
    """Of one moment."""

    @property
    def output_size(self) -> int:
        return self.inner.output_size

    def init(self, generator: torch.Generator) -> Params:
        return self.inner.init(generator)

    def start(self, params: Params, batch_size: int) -> MemoryState:
        like = next(iter(params.values()))
        last = like.new_zeros(batch_size, self.input_size)
        return last, *self.inner.start(params, batch_size)

    def step(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        last, *others = state
        both = _joined(inputs, last, cleared)
        features, after = self.inner.step(params, both, tuple(others), cleared)
        return features, (inputs, *after)

    def sequence(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        last, *others = state
        both = _joined(inputs, torch.cat([last.unsqueeze(0), inputs[:-1]]), cleared)
        features, after = self.inner.sequence(params, both, tuple(others), cleared)
        return features, (inputs[-1], *after)


def _joined(inputs: Tensor, earlier: Tensor, cleared: Tensor | None) -> Tensor:
    if cleared is not None:
        earlier = torch.where(cleared.unsqueeze(-1), 0, earlier)
    return torch.cat([inputs, earlier], -1)
