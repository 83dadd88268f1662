"""An LSTM cell built from primitive operations.

Fused cells have no second derivatives and no `vmap`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from metarl.parameters import Params

__all__ = ["LSTMState", "init_lstm", "lstm_step"]


class LSTMState(NamedTuple):
    """Hidden vector [..., num_hidden] and cell [..., H]."""

    hidden: Tensor
    cell: Tensor


def init_lstm(
    num_inputs: int, num_hidden: int, cell_size: int, generator: torch.Generator
) -> Params:
    """Weights and biases U(±1/√H) as in `torch.nn.LSTMCell`, with gates in the order i, f, g, o.

    Args:
        num_inputs: length of an input.
        num_hidden: length of the recurrent hidden vector.
        cell_size: H, length of the cell.
        generator: random generator; parameters are on its device.
    """
    bound = 1 / math.sqrt(cell_size)
    shapes = {
        "weight_input": (4 * cell_size, num_inputs),
        "weight_hidden": (4 * cell_size, num_hidden),
        "bias": (4 * cell_size,),
    }
    return {
        name: bound
        * (
            2 * torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float32)
            - 1
        )
        for name, shape in shapes.items()
    }


def lstm_step(params: Params, inputs: Tensor, state: LSTMState) -> LSTMState:
    """One step: c ← σ(f) c + σ(i) tanh(g), h ← σ(o) tanh(c).

    Args:
        params: weight_input, weight_hidden and bias, as from `init_lstm`.
        inputs: [..., num_inputs].
        state: hidden vector [..., num_hidden] and cell [..., H].

    Source: Hochreiter & Schmidhuber 1997, with forget gates; as `torch.nn.LSTMCell`.
    """
    recurrent = functional.linear(state.hidden, params["weight_hidden"])
    gates = functional.linear(inputs, params["weight_input"], params["bias"]) + recurrent
    i, f, g, o = gates.chunk(4, -1)
    cell = f.sigmoid() * state.cell + i.sigmoid() * g.tanh()
    return LSTMState(o.sigmoid() * cell.tanh(), cell)
