"""Memories: what carries a task's history from one moment of a trial to the next.

Each is a pure function of its parameters, in two forms that agree: `step` for acting, one moment
at a time, and `sequence` for training, all moments at once. On a GPU the sequences of GRU and LSTM
are as exact as cuDNN's TF32, about three digits, unless `torch.backends.cudnn.allow_tf32` is
False. The transformer is in `metarl.transformer`.

A memory that is fed each moment together with the one before it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from metarl.parameters import Params

__all__ = [
    "GRU",
    "LSTM",
    "Memory",
    "MemoryState",
    "NoMemory",
    "require_state",
    "segments",
    "TransitionMemory",
]

MemoryState: TypeAlias = tuple[Tensor, ...]

_ONE_LAYER = (True, 1, 0.0, True, False, False)
"""Options of `torch.gru` and `torch.lstm`: biases, one layer, no dropout, training (without it
cuDNN keeps nothing for the backward pass), one direction, time first."""


class Memory(Protocol):
    """A memory as pure functions of its parameters; B trials side by side."""

    @property
    def output_size(self) -> int:
        """Features it gives per moment."""

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters on the generator's device."""

    def start(self, params: Params, batch_size: int) -> MemoryState:
        """The state before the first step."""

    def step(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        """Live through one moment.

        Args:
            params: from `init`.
            inputs: shape [B, I].
            state: from `start` or an earlier step; it may be changed in place.
            cleared: bool [B], true where all is forgotten before this moment; None: nowhere.

        Returns:
            Features [B, H] and the new state.
        """

    def sequence(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        """Live through T moments: inputs [T, B, I], cleared [T, B]; features [T, B, H]."""


@dataclass(frozen=True)
class NoMemory:
    """Nothing is remembered: the features are the inputs."""

    input_size: int

    @property
    def output_size(self) -> int:
        return self.input_size

    def init(self, generator: torch.Generator) -> Params:
        del generator
        return {}

    def start(self, params: Params, batch_size: int) -> MemoryState:
        del params, batch_size
        return ()

    def step(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        del params, cleared
        return inputs, state

    def sequence(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        del params, cleared
        return inputs, state


@dataclass(frozen=True)
class GRU:
    """Gated recurrent unit; the state is its output.

        r = σ(W_ir x + W_hr h + b_r),   z = σ(W_iz x + W_hz h + b_z)
        n = tanh(W_in x + b_in + r (W_hn h + b_hn)),   h' = (1 − z) n + z h

    Source: Cho et al. 2014 (arXiv:1406.1078), in the form of `torch.nn.GRU`.
    """

    input_size: int
    size: int
    length: int = 2
    """Steps that memories may last at first (see `_lasting`); with 2 all gates begin half open."""

    @property
    def output_size(self) -> int:
        return self.size

    def init(self, generator: torch.Generator) -> Params:
        params = _recurrent_params(self.input_size, self.size, 3, generator)
        return _lasting(params, {"keep": 1}, self.length, generator)

    def start(self, params: Params, batch_size: int) -> MemoryState:
        return (params["weight_hh"].new_zeros(batch_size, self.size),)

    def step(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        (hidden,) = _kept(state, cleared)
        hidden = torch.gru_cell(inputs, hidden, *_weights(params))
        return hidden, (hidden,)

    def sequence(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        def run(part: Tensor, now: MemoryState) -> tuple[Tensor, MemoryState]:
            with _loose_weights(part):
                outputs, last = torch.gru(part, now[0].unsqueeze(0), _weights(params), *_ONE_LAYER)
            return outputs, (last.squeeze(0),)

        return _in_segments(run, inputs, state, cleared)


@dataclass(frozen=True)
class LSTM:
    """Long short-term memory; the state is output and cell.

        i, f, o = σ(W_i· x + W_h· h + b_·),   g = tanh(W_ig x + W_hg h + b_g)
        c' = f c + i g,   h' = o tanh(c')

    Source: Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000, in the form
    of `torch.nn.LSTM`.
    """

    input_size: int
    size: int
    length: int = 2
    """Steps that memories may last at first (see `_lasting`); with 2 all gates begin half open."""

    @property
    def output_size(self) -> int:
        return self.size

    def init(self, generator: torch.Generator) -> Params:
        params = _recurrent_params(self.input_size, self.size, 4, generator)
        return _lasting(params, {"keep": 1, "write": 0}, self.length, generator)

    def start(self, params: Params, batch_size: int) -> MemoryState:
        zeros = params["weight_hh"].new_zeros(batch_size, self.size)
        return zeros, zeros

    def step(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        hidden, cell = torch.lstm_cell(inputs, _kept(state, cleared), *_weights(params))
        return hidden, (hidden, cell)

    def sequence(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        def run(part: Tensor, now: MemoryState) -> tuple[Tensor, MemoryState]:
            before = [s.unsqueeze(0) for s in now]
            with _loose_weights(part):
                outputs, hidden, cell = torch.lstm(part, before, _weights(params), *_ONE_LAYER)
            return outputs, (hidden.squeeze(0), cell.squeeze(0))

        return _in_segments(run, inputs, state, cleared)


def require_state(state: MemoryState, start: MemoryState) -> None:
    """Refuse a memory of another kind, or of another number of trials, than a fresh one.

    Raises:
        ValueError: naming the shapes.
    """
    wanted = [tuple(part.shape[:2]) for part in start]  # a cache grows in later axes
    if [tuple(part.shape[:2]) for part in state[: len(start)]] != wanted:
        raise ValueError(
            f"state must be of shapes beginning with {wanted}, as step or predict returned it for "
            f"as many trials, got {[tuple(part.shape) for part in state]}"
        )


def segments(cleared: Tensor | None, num_steps: int) -> Iterator[tuple[int, int]]:
    """Stretches of time within which nothing is forgotten anywhere, as (first, beyond last).

    >>> list(segments(torch.tensor([[False, False], [False, True], [False, False]]), 3))
    [(0, 1), (1, 3)]
    """
    starts = {0}
    if cleared is not None:
        starts |= set(cleared.any(dim=1).nonzero().flatten().tolist())
    yield from pairwise([*sorted(starts), num_steps])


def _in_segments(
    run: Callable[[Tensor, MemoryState], tuple[Tensor, MemoryState]],
    inputs: Tensor,
    state: MemoryState,
    cleared: Tensor | None,
) -> tuple[Tensor, MemoryState]:
    """A sequence piece by piece, forgetting between the pieces."""
    outputs = []
    for first, end in segments(cleared, len(inputs)):
        state = _kept(state, None if cleared is None else cleared[first])
        part, state = run(inputs[first:end], state)
        outputs.append(part)
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs), state


def _kept(state: MemoryState, cleared: Tensor | None) -> MemoryState:
    if cleared is None:
        return state
    return tuple(torch.where(cleared.unsqueeze(-1), 0, part) for part in state)


def _weights(params: Params) -> list[Tensor]:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [params[name] for name in names]


@contextmanager
def _loose_weights(inputs: Tensor) -> Iterator[None]:
    """Without cuDNN's warning that it copies weights which do not lie side by side."""
    if not inputs.is_cuda:
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous")
        yield


def _recurrent_params(
    input_size: int, size: int, num_gates: int, generator: torch.Generator
) -> Params:
    """Input weights and biases U(±1/√size) as torch has them; recurrent weights orthogonal.

    Orthogonal recurrent weights: Saxe et al. 2014 (arXiv:1312.6120).
    """
    device, bound = generator.device, 1 / math.sqrt(size)

    def uniform(*shape: int) -> Tensor:
        return bound * (2 * torch.rand(shape, generator=generator, device=device) - 1)

    def orthogonal() -> Tensor:
        drawn = torch.randn(size, size, generator=generator, device=device)
        basis: Tensor
        basis, triangle = torch.linalg.qr(drawn)
        return basis * torch.sign(triangle.diagonal())

    rows = num_gates * size
    return {
        "weight_ih": uniform(rows, input_size),
        "weight_hh": torch.cat([orthogonal() for _ in range(num_gates)]),
        "bias_ih": uniform(rows),
        "bias_hh": uniform(rows),
    }


def _lasting(
    params: Params, gates: dict[str, int], length: int, generator: torch.Generator
) -> Params:
    """The parameters with biases that let each unit remember for a time of its own.

    A gate whose bias is log u keeps 1 − 1/(u + 1) of a unit from step to step, so the unit forgets
    within about u steps; u is uniform in [1, length − 1]. With biases near 0, as torch has them,
    every unit forgets within two steps: on tabular MDPs of ten episodes, RL² then had learnt
    nothing after 80 iterations (3.9 M steps), with these biases it begins after 35.

    Source: Tallec & Ollivier 2018 (arXiv:1804.11188), eq. 16, "chrono initialization".

    Args:
        params: from `_recurrent_params`.
        gates: position of the gate that keeps, and of that which writes, if there is one: its
            bias is the other's negative.
        length: the longest dependence in steps.
        generator: source of the times.
    """
    size = params["weight_hh"].shape[1]
    drawn = torch.rand(size, generator=generator, device=generator.device)
    bias = torch.log(1 + max(length - 2, 0) * drawn)
    for gate, sign in (("keep", 1), ("write", -1)):
        if gate in gates:
            rows = slice(gates[gate] * size, (gates[gate] + 1) * size)
            params["bias_ih"][rows], params["bias_hh"][rows] = sign * bias, 0.0
    return params


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
    (arXiv:2306.14892); RL² itself (Duan et al. 2016) shows single
    time steps.
    """

    inner: Memory
    """Made for twice as many inputs."""
    input_size: int
    """Of one time step."""

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
