"""Memories: recurrent networks that carry a task's history through a trial.

Each is a pure function of its parameters, in two equivalent forms: `step` for acting, one time step
at a time, and `sequence` for training, all time steps at once. On a GPU, sequences of GRU and LSTM
have the precision of cuDNN's TF32, about three digits, unless `torch.backends.cudnn.allow_tf32` is
False. The transformer is in `metarl.nn.transformer`.
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
    """A memory as pure functions of its parameters, for a batch of B trials."""

    @property
    def output_size(self) -> int:
        """Number of features per time step."""

    def init(self, generator: torch.Generator) -> Params:
        """Initial parameters on the generator's device."""

    def start(self, params: Params, batch_size: int) -> MemoryState:
        """The state before the first step."""

    def step(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        """Process one time step.

        Args:
            params: from `init`.
            inputs: shape [B, I].
            state: from `start` or an earlier step; it may be changed in place.
            cleared: bool [B], true for trials whose state is reset before this step; None: none.

        Returns:
            Features [B, H] and the new state.
        """

    def sequence(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        """Process T time steps: inputs [T, B, I], cleared [T, B]; features [T, B, H]."""


@dataclass(frozen=True)
class NoMemory:
    """A memory without state: the features are the inputs."""

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
    """Maximum initial time scale of units in steps (see `_set_time_scales`); 2: half-open gates."""

    @property
    def output_size(self) -> int:
        return self.size

    def init(self, generator: torch.Generator) -> Params:
        params = _recurrent_params(self.input_size, self.size, 3, generator)
        return _set_time_scales(params, {"keep": 1}, self.length, generator)

    def start(self, params: Params, batch_size: int) -> MemoryState:
        return (params["weight_hh"].new_zeros(batch_size, self.size),)

    def step(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        (hidden,) = _reset(state, cleared)
        hidden = torch.gru_cell(inputs, hidden, *_weights(params))
        return hidden, (hidden,)

    def sequence(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        def run(part: Tensor, now: MemoryState) -> tuple[Tensor, MemoryState]:
            with _no_contiguity_warning(part):
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
    """Maximum initial time scale of units in steps (see `_set_time_scales`); 2: half-open gates."""

    @property
    def output_size(self) -> int:
        return self.size

    def init(self, generator: torch.Generator) -> Params:
        params = _recurrent_params(self.input_size, self.size, 4, generator)
        return _set_time_scales(params, {"keep": 1, "write": 0}, self.length, generator)

    def start(self, params: Params, batch_size: int) -> MemoryState:
        zeros = params["weight_hh"].new_zeros(batch_size, self.size)
        return zeros, zeros

    def step(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        hidden, cell = torch.lstm_cell(inputs, _reset(state, cleared), *_weights(params))
        return hidden, (hidden, cell)

    def sequence(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        def run(part: Tensor, now: MemoryState) -> tuple[Tensor, MemoryState]:
            before = [s.unsqueeze(0) for s in now]
            with _no_contiguity_warning(part):
                outputs, hidden, cell = torch.lstm(part, before, _weights(params), *_ONE_LAYER)
            return outputs, (hidden.squeeze(0), cell.squeeze(0))

        return _in_segments(run, inputs, state, cleared)


def require_state(state: MemoryState, start: MemoryState) -> None:
    """Reject a state of another memory or of another number of trials.

    Raises:
        ValueError: naming the shapes.
    """
    wanted = [tuple(part.shape[:2]) for part in start]  # a cache grows in later axes
    if [tuple(part.shape[:2]) for part in state[: len(start)]] != wanted:
        raise ValueError(
            f"state must have shapes beginning with {wanted}, as returned by step or predict for "
            f"the same number of trials, got {[tuple(part.shape) for part in state]}"
        )


def segments(cleared: Tensor | None, num_steps: int) -> Iterator[tuple[int, int]]:
    """Segments of time without a reset in any trial, as (first, end).

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
    """Process a sequence in segments, resetting states between them."""
    outputs = []
    for first, end in segments(cleared, len(inputs)):
        state = _reset(state, None if cleared is None else cleared[first])
        part, state = run(inputs[first:end], state)
        outputs.append(part)
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs), state


def _reset(state: MemoryState, cleared: Tensor | None) -> MemoryState:
    if cleared is None:
        return state
    return tuple(torch.where(cleared.unsqueeze(-1), 0, part) for part in state)


def _weights(params: Params) -> list[Tensor]:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [params[name] for name in names]


@contextmanager
def _no_contiguity_warning(inputs: Tensor) -> Iterator[None]:
    """Suppress cuDNN's warning that it copies weights that are not contiguous."""
    if not inputs.is_cuda:
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous")
        yield


def _recurrent_params(
    input_size: int, size: int, num_gates: int, generator: torch.Generator
) -> Params:
    """Input weights and biases U(±1/√size) as in torch; orthogonal recurrent weights.

    Orthogonal recurrent weights: Saxe et al. 2014 (arXiv:1312.6120).
    """
    device, bound = generator.device, 1 / math.sqrt(size)

    def uniform(*shape: int) -> Tensor:
        return bound * (
            2 * torch.rand(shape, generator=generator, device=device, dtype=torch.float32) - 1
        )

    def orthogonal() -> Tensor:
        drawn = torch.randn(size, size, generator=generator, device=device, dtype=torch.float32)
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


def _set_time_scales(
    params: Params, gates: dict[str, int], length: int, generator: torch.Generator
) -> Params:
    """Set gate biases that give each unit a different time scale.

    A gate whose bias is log u keeps 1 − 1/(u + 1) of a unit's value at each step, so the unit
    forgets within about u steps; u is uniform in [1, length − 1]. With biases near 0, as in torch,
    every unit forgets within two steps: on tabular MDPs of ten episodes, RL² then learned nothing
    in 80 iterations (3.9 M steps); with these biases it starts to learn after 35.

    Source: Tallec & Ollivier 2018 (arXiv:1804.11188), eq. 16, "chrono initialization".

    Args:
        params: from `_recurrent_params`.
        gates: index of the gate that keeps the unit's value and, if there is one, of the gate that
            writes, whose bias is the negative.
        length: length of the longest dependency, in steps.
        generator: random generator of the time scales.
    """
    size = params["weight_hh"].shape[1]
    drawn = torch.rand(size, generator=generator, device=generator.device, dtype=torch.float32)
    bias = torch.log(1 + max(length - 2, 0) * drawn)
    for gate, sign in (("keep", 1), ("write", -1)):
        if gate in gates:
            rows = slice(gates[gate] * size, (gates[gate] + 1) * size)
            params["bias_ih"][rows], params["bias_hh"][rows] = sign * bias, 0.0
    return params


@dataclass(frozen=True)
class TransitionMemory:
    """Passes whole transitions, x_t and x_{t−1} concatenated, to another memory.

    The input of a time step holds an action, its reward and the observation that it led to, but not
    the observation before it. To learn the effect of an action in a state, a memory must first
    combine two time steps, which is hard for a transformer because attention selects single
    positions. On tabular MDPs of ten episodes, two layers of 64 reach a return of 124 after 81
    iterations with single time steps and 153 with transitions (seed 0; random actions: 98).

    The state is the last input (zeros at the start and after a reset), then the state of the other
    memory.

    Source: transitions as tokens, Laskin et al. 2022 (arXiv:2210.14215), Lee et al. 2023
    (arXiv:2306.14892); RL² itself (Duan et al. 2016) uses single
    time steps.
    """

    inner: Memory
    """The other memory, for inputs of size 2 · `input_size`."""
    input_size: int
    """Size of the input of one time step."""

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
