"""A causal transformer as a memory, which attends to all time steps of the trial.

Acting caches the keys and values of past time steps, so that a step computes only its own;
training processes the whole trial at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from metarl.nn.memories import MemoryState
from metarl.parameters import Params

__all__ = ["Transformer"]


@dataclass(frozen=True)
class Transformer:
    """Layers of causal self-attention and perceptrons, each with normalization first.

        x ← x + W_o attention(LN(x)),   x ← x + MLP(LN(x)),   features = LN(x)

    with learned positions, counted from the start or the last reset. The state consists of the
    cache of keys and values [L, B, heads, length, d], written in place, the number of the step and,
    after a reset, the step at which each trial's memory begins. `sequence` keeps no cache, so a
    `step` cannot follow it.

    Source: Vaswani et al. 2017 (arXiv:1706.03762); normalization first as in Radford et al. 2019;
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
            return std * torch.randn(shape, generator=generator, device=device, dtype=torch.float32)

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
            params[f"{name}_scale"] = torch.ones(size, device=device, dtype=torch.float32)
            params[f"{name}_offset"] = torch.zeros(size, device=device, dtype=torch.float32)
        return params

    def start(self, params: Params, batch_size: int) -> MemoryState:
        head = self.size // self.num_heads
        like = params["embed"]
        empty = like.new_empty((self.num_layers, batch_size, self.num_heads, 0, head))
        return empty, empty, torch.tensor(0)  # `step` allocates the cache

    def step(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        if not state:
            raise ValueError("state must come from `start` or `step`, got the state of a sequence")
        keys, values, number, *begins = state
        now = int(number)
        self._require_room(now + 1)
        if now == 0:
            shape = (*keys.shape[:3], self.length, keys.shape[-1])
            keys, values = keys.new_empty(shape), values.new_empty(shape)
        position, visible = params["positions"][now], None
        if cleared is not None:
            begins = [torch.where(cleared, now, begins[0] if begins else 0)]
        if begins:
            times = torch.arange(now + 1, device=inputs.device)
            visible = (times >= begins[0].unsqueeze(1))[:, None, None]
            position = params["positions"][now - begins[0]]
        x = functional.linear(inputs, params["embed"]) + position
        for k in range(self.num_layers):
            query, key, value = self._heads(params, x.unsqueeze(0), k)
            keys[k, :, :, now], values[k, :, :, now] = key[:, :, 0], value[:, :, 0]
            mixed = functional.scaled_dot_product_attention(
                query, keys[k, :, :, : now + 1], values[k, :, :, : now + 1], attn_mask=visible
            )
            x = self._after_attention(params, x.unsqueeze(0), mixed, k).squeeze(0)
        return self._norm(params, x, "last"), (keys, values, number + 1, *begins)

    def sequence(
        self, params: Params, inputs: Tensor, state: MemoryState, cleared: Tensor | None = None
    ) -> tuple[Tensor, MemoryState]:
        if not state or int(state[2]):
            raise ValueError("a transformer's sequence must begin at the start of the trial")
        steps = len(inputs)
        self._require_room(steps)
        positions, visible = params["positions"][:steps, None], None
        if cleared is not None:
            visible = _visible_steps(cleared)
            since = visible.sum(-1).squeeze(1).T - 1  # [T, B], steps since the last reset
            positions = params["positions"][since]
        x = functional.linear(inputs, params["embed"]) + positions
        for k in range(self.num_layers):
            query, key, value = self._heads(params, x, k)
            mixed = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=visible, is_causal=visible is None
            )
            x = self._after_attention(params, x, mixed, k)
        return self._norm(params, x, "last"), ()

    def _heads(self, params: Params, x: Tensor, k: int) -> tuple[Tensor, ...]:
        """Queries, keys and values [B, heads, T, d] of time steps [T, B, size]."""
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
                f"trial must have at most {self.length} steps, the length that the transformer was "
                f"built for, got {steps}; use fewer episodes, or train on longer trials"
            )


def _visible_steps(cleared: Tensor) -> Tensor:
    """Attention mask [B, 1, T, T]: each step attends to its past since the last reset."""
    segment = cleared.to(torch.int64).cumsum(0).T  # [B, T]
    same = segment.unsqueeze(2) == segment.unsqueeze(1)
    return same.tril().unsqueeze(1)
