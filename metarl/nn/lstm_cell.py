"""An LSTM cell from linear operations: fused ones have no second derivative and no `vmap`."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from metarl.parameters import Params

__all__ = ["LSTMState", "init_lstm", "lstm_step"]


class LSTMState(NamedTuple):
    """The state of the cell, both [..., H]."""

    hidden: Tensor
    cell: Tensor


def init_lstm(num_inputs: int, num_hidden: int, size: int, generator: torch.Generator) -> Params:
    """Weights and biases U(±1/√H), as torch's cell draws them; gates in its order i, f, g, o.

    Args:
        num_inputs: length of an input.
        num_hidden: length of the hidden vector that is fed back.
        size: H, length of the cell.
        generator: draws the weights; its device becomes that of the parameters.
    """
    bound = 1 / math.sqrt(size)
    shapes = {
        "weight_input": (4 * size, num_inputs),
        "weight_hidden": (4 * size, num_hidden),
        "bias": (4 * size,),
    }
    return {
        name: bound * (2 * torch.rand(shape, generator=generator, device=generator.device) - 1)
        for name, shape in shapes.items()
    }


def lstm_step(params: Params, inputs: Tensor, state: LSTMState) -> LSTMState:
    """One step: c ← σ(f) c + σ(i) tanh(g), h ← σ(o) tanh(c).

    Args:
        params: weight_input, weight_hidden, bias, as `init_lstm` gives them.
        inputs: [..., num_inputs].
        state: hidden vector [..., num_hidden] and cell [..., H].

    Source: Hochreiter & Schmidhuber 1997, with forget gates; as `torch.nn.LSTMCell`.
    """
    fed_back = functional.linear(state.hidden, params["weight_hidden"])
    gates = functional.linear(inputs, params["weight_input"], params["bias"]) + fed_back
    enter, keep, new, leave = gates.chunk(4, -1)
    cell = keep.sigmoid() * state.cell + enter.sigmoid() * new.tanh()
    return LSTMState(leave.sigmoid() * cell.tanh(), cell)
