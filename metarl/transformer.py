"""A causal transformer as a memory: it looks back at all moments of the trial.

Acting keeps the keys and values of past moments (a cache), so that a step costs one moment's
work; training sees the whole trial at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from metarl.memories import MemoryState, Params

__all__ = ["Transformer"]


@dataclass(frozen=True)
class Transformer:
    """Layers of causal self-attention and perceptrons, normalised before each.

        x ← x + W_o attention(LN(x)),   x ← x + MLP(LN(x)),   features = LN(x)

    with learned positions, one per step of the trial. The state is the cache of keys and values
    [L, B, heads, length, d], written in place, and the step's number.

    Source: Vaswani et al. 2017 (arXiv:1706.03762); normalisation first as in Radford et al. 2019;
    as a meta-learner's memory: Mishra et al. 2018 (arXiv:1707.03141), Melo 2022 (arXiv:2206.06614).
    """

    input_size: int
    size: int
    length: int
    """Steps of the longest trial."""
    num_layers: int = 2
    num_heads: int = 4

    def __post_init__(self) -> None:
        if self.size % self.num_heads:
            raise ValueError(
                f"num_heads must divide the size {self.size} of the memory, got {self.num_heads}"
            )

    @property
    def output_size(self) -> int:
        return self.size

    def init(self, generator: torch.Generator) -> Params:
        size, device = self.size, generator.device

        def normal(*shape: int, std: float) -> Tensor:
            return std * torch.randn(shape, generator=generator, device=device)

        params = {
            "embed": normal(size, self.input_size, std=1 / math.sqrt(self.input_size)),
            "positions": normal(self.length, size, std=0.02),
        }
        depth = math.sqrt(2 * self.num_layers)
        for k in range(self.num_layers):
            params[f"query_key_value_{k}"] = normal(3 * size, size, std=1 / math.sqrt(size))
            params[f"output_{k}"] = normal(size, size, std=1 / math.sqrt(size) / depth)
            params[f"up_{k}"] = normal(4 * size, size, std=1 / math.sqrt(size))
            params[f"down_{k}"] = normal(size, 4 * size, std=0.5 / math.sqrt(size) / depth)
        for name in self._norms():
            params[f"{name}_scale"] = torch.ones(size, device=device)
            params[f"{name}_offset"] = torch.zeros(size, device=device)
        return params

    def start(self, params: Params, batch_size: int) -> MemoryState:
        head = self.size // self.num_heads
        shape = (self.num_layers, batch_size, self.num_heads, self.length, head)
        like = params["embed"]
        begin = torch.zeros(batch_size, dtype=torch.int64, device=like.device)
        return like.new_empty(shape), like.new_empty(shape), torch.tensor(0), begin

    def step(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        keys, values, number, begin = state
        now = int(number)
        self._require_room(now + 1)
        if cleared is not None:
            begin = torch.where(cleared, now, begin)
        times = torch.arange(now + 1, device=inputs.device)
        visible = None if cleared is None else (times >= begin.unsqueeze(1))[:, None, None]
        x = functional.linear(inputs, params["embed"]) + params["positions"][now]
        for k in range(self.num_layers):
            query, key, value = self._heads(params, x.unsqueeze(0), k)
            keys[k, :, :, now], values[k, :, :, now] = key[:, :, 0], value[:, :, 0]
            mixed = functional.scaled_dot_product_attention(
                query, keys[k, :, :, : now + 1], values[k, :, :, : now + 1], attn_mask=visible
            )
            x = self._after_attention(params, x.unsqueeze(0), mixed, k).squeeze(0)
        return self._norm(params, x, "last"), (keys, values, number + 1, begin)

    def sequence(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        if int(state[2]):
            raise ValueError("a transformer's sequence must begin at the start of the trial")
        steps = len(inputs)
        self._require_room(steps)
        visible = None if cleared is None else _same_stretch(cleared)
        x = functional.linear(inputs, params["embed"]) + params["positions"][:steps, None]
        for k in range(self.num_layers):
            query, key, value = self._heads(params, x, k)
            mixed = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=visible, is_causal=visible is None
            )
            x = self._after_attention(params, x, mixed, k)
        return self._norm(params, x, "last"), state

    def _heads(self, params: Params, x: Tensor, k: int) -> tuple[Tensor, ...]:
        """Queries, keys and values [B, heads, T, d] of moments [T, B, size]."""
        normed = self._norm(params, x, f"attention_{k}")
        joint = functional.linear(normed, params[f"query_key_value_{k}"])
        split = joint.unflatten(-1, (3, self.num_heads, -1))  # [T, B, 3, heads, d]
        return tuple(part.permute(1, 2, 0, 3) for part in split.unbind(2))

    def _after_attention(self, params: Params, x: Tensor, mixed: Tensor, k: int) -> Tensor:
        joined = mixed.permute(2, 0, 1, 3).flatten(-2)  # [T, B, size]
        x = x + functional.linear(joined, params[f"output_{k}"])
        hidden = functional.linear(self._norm(params, x, f"perceptron_{k}"), params[f"up_{k}"])
        return x + functional.linear(functional.gelu(hidden), params[f"down_{k}"])

    def _norm(self, params: Params, x: Tensor, name: str) -> Tensor:
        scale, offset = params[f"{name}_scale"], params[f"{name}_offset"]
        return functional.layer_norm(x, (self.size,), scale, offset)

    def _norms(self) -> list[str]:
        layers = range(self.num_layers)
        return [f"{part}_{k}" for k in layers for part in ("attention", "perceptron")] + ["last"]

    def _require_room(self, steps: int) -> None:
        if steps > self.length:
            raise ValueError(
                f"trial must have at most the {self.length} steps that the transformer was made "
                f"for, it comes to {steps}"
            )


def _same_stretch(cleared: Tensor) -> Tensor:
    """Which moments each may look at, its own past since the last clearing. [B, 1, T, T]."""
    stretch = cleared.to(torch.int64).cumsum(0).T  # [B, T]
    same = stretch.unsqueeze(2) == stretch.unsqueeze(1)
    return same.tril().unsqueeze(1)
