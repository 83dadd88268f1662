"""The convolutional net of few-shot papers ("Conv-4"), applied to all tasks at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from metarl.nn.batch_norm import (
    EPSILON,
    Moments,
    batch_moments,
    folds,
    normalize,
    normalized_convolution,
)
from metarl.nn.convolution import convolve
from metarl.nn.mlp import init_mlp
from metarl.parameters import Params

__all__ = ["ConvNet", "Pooling"]

Pooling = Literal["max", "stride"]
"""max: convolutions of stride 1, each followed by 2×2 max-pooling; features are the last maps,
flattened. stride: convolutions of stride 2; features are the means of the last maps."""

_FILM_LAYER = 2  # counted from 0
_SHARED_DIMS = {"weight": 4, "scale": 2, "offset": 2, "running": 1}
"""Dimensions of parameters without a task axis, by the first word of their name."""
_LOOP_FROM = 500_000
"""Numbers in the first maps of a task from which torch's channels-last convolutions, task by task,
are faster than patches and one matrix product."""


class _Maps(NamedTuple):
    maps: Tensor  # [tasks, points, H, W, C]
    statistics: Params


@dataclass(frozen=True)
class ConvNet:
    """Blocks of 3×3 convolution, batch norm, ReLU and down-sampling.

    Each parameter is shared by all tasks, or has a leading task axis. Batch norm uses separate
    statistics for each task. Convolutions have no bias, because batch norm would remove it.

    Source: Vinyals et al. 2016 (arXiv:1606.04080), sec. 4.1; with strides: Finn et al. 2017.
    """

    input_shape: tuple[int, int, int]
    num_outputs: int
    """Outputs of the head; 0: no head."""
    filters: tuple[int, ...] = (64, 64, 64, 64)
    pooling: Pooling = "max"
    num_pooled: int | None = None
    """Number of leading blocks that down-sample; None: all."""
    num_slots: int = 1
    """Rows of batch norm's scales and offsets [num_slots, C], one per inner step with "per-step";
    the net uses the first row."""
    is_first_order: bool = False
    """Whether only first derivatives are taken; then color images are never folded, see `folds`."""
    num_context: int = 0
    """Length of params["context"], which scales and shifts the pooled maps of the third block."""

    def __post_init__(self) -> None:
        if min(self.map_shape[1:]) < 1:
            raise ValueError(
                f"filters must name fewer than {len(self.filters)} blocks for images of "
                f"{self.input_shape[1]}×{self.input_shape[2]}, which pooling reduces to nothing"
            )

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the last maps."""
        _, height, width = self.input_shape
        for k in range(len(self.filters)):
            if self._is_pooled(k):
                rest = 1 if self.pooling == "stride" else 0
                height, width = (height + rest) // 2, (width + rest) // 2
        return self.filters[-1], height, width

    @property
    def num_features(self) -> int:
        return self.filters[-1] if self.pooling == "stride" else math.prod(self.map_shape)

    @property
    def norm_names(self) -> tuple[str, ...]:
        return tuple(
            f"{kind}_{k}" for k in range(len(self.filters)) for kind in ("scale", "offset")
        )

    @property
    def head_names(self) -> tuple[str, ...]:
        return ("head_weight", "head_bias") if self.num_outputs else ()

    def init(self, generator: torch.Generator) -> Params:
        """Weights U(±√(6 / (fan in + fan out))) (Glorot), scales one, the rest zero."""
        params: Params = {}
        channels = (self.input_shape[0], *self.filters)
        for k, count in enumerate(self.filters):
            block = _init_block(channels[k], count, generator, num_slots=self.num_slots)
            params |= {f"{name}_{k}": p for name, p in block.items()}
        if self.num_outputs:
            head = init_mlp((self.num_features, self.num_outputs), generator)
            params |= {"head_weight": head["weight_0"], "head_bias": head["bias_0"]}
        if self.num_context:
            layer = min(_FILM_LAYER, len(self.filters) - 1)
            film = init_mlp((self.num_context, 2 * self.filters[layer]), generator)
            params |= {"film_weight": film["weight_0"], "film_bias": film["bias_0"]}
        return params

    def maps(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Tensor:
        """The last maps [tasks, points, C, H, W] of inputs [tasks, points, *input_shape].

        `counts` (bool [tasks, points]) marks the points that enter the statistics of normalization.
        """
        return self._forward(params, _channels_last(inputs), counts).maps.movedim(-1, 2)

    def features(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Tensor:
        """Embeddings [tasks, points, num_features]."""
        return self._flat(self.maps(params, inputs, counts))

    def logits(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Tensor:
        """Outputs [tasks, points, num_outputs]."""
        features = self.features(params, inputs, counts)
        return features @ params["head_weight"].mT + params["head_bias"].unsqueeze(-2)

    def statistics(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Params:
        """`running_mean_k` and `running_variance_k`, [tasks, C]."""
        maps = _channels_last(inputs)
        return self._forward(params, maps, counts, keep_statistics=True).statistics

    # The net after its first convolution, which is linear in the channels of the inputs: for inputs
    # that are combined from parts, it is cheaper to convolve each part once.

    def convolved(self, params: Params, inputs: Tensor, channels: slice) -> Tensor:
        """The first convolution's outputs [tasks, points, H, W, O] by some of its input channels.

        Inputs are [tasks, points, channels, H, W]. Summed over
        a partition of the channels, the results equal the convolution of all channels.
        """
        kernels = params["weight_0"][..., channels, :, :]
        return convolve(_channels_last(inputs), kernels, self._stride(0))

    def features_of_convolved(
        self, params: Params, convolved: Tensor, counts: Tensor | None = None
    ) -> Tensor:
        """`features` of inputs whose first convolution is given, [tasks, points, H, W, O]."""
        found = self._forward(params, convolved, counts, is_convolved=True)
        return self._flat(found.maps.movedim(-1, 2))

    def statistics_of_convolved(
        self, params: Params, convolved: Tensor, counts: Tensor | None = None
    ) -> Params:
        """`statistics` of inputs whose first convolution is given, [tasks, points, H, W, O]."""
        found = self._forward(params, convolved, counts, keep_statistics=True, is_convolved=True)
        return found.statistics

    def _forward(
        self,
        params: Params,
        maps: Tensor,
        counts: Tensor | None,
        *,
        keep_statistics: bool = False,
        is_convolved: bool = False,
    ) -> _Maps:
        """The last maps, of channels-last inputs or of the outputs of the first convolution."""
        if params["weight_0"].dim() == _SHARED_DIMS["weight"] + 1 and self._is_large(maps):
            options = {"keep_statistics": keep_statistics, "is_convolved": is_convolved}
            found = [
                self._forward(_of_task(params, k), maps[k : k + 1], _rows(counts, k), **options)
                for k in range(len(maps))
            ]
            names = found[0].statistics
            return _Maps(
                torch.cat([each.maps for each in found]),
                {name: torch.cat([each.statistics[name] for each in found]) for name in names},
            )
        statistics: Params = {}
        for k in range(len(self.filters)):
            if is_convolved and k == 0:
                maps, moments = _normalized(params, k, maps, counts)
            else:
                is_folded = folds(maps, is_first_order=self.is_first_order)
                maps, moments = _normalized_convolution(
                    params, k, maps, counts, stride=self._stride(k), is_folded=is_folded
                )
            if keep_statistics:
                statistics[f"running_mean_{k}"], statistics[f"running_variance_{k}"] = moments()
            if self.pooling == "max" and self._is_pooled(k):
                maps = _pooled(maps)
            if "context" in params and k == min(_FILM_LAYER, len(self.filters) - 1):
                maps = _modulated(params, maps)
            maps = torch.relu(maps)  # after pooling: the same result, and faster
        return _Maps(maps, statistics)

    def _is_pooled(self, block: int) -> bool:
        return self.num_pooled is None or block < self.num_pooled

    def _is_large(self, maps: Tensor) -> bool:
        """Whether a loop over tasks is faster than one matrix product for all of them.

        Measured on a CPU with kernels of each task; see `_LOOP_FROM`.
        """
        _, points, height, width, _ = maps.shape
        stride = self._stride(0)
        return points * (height // stride) * (width // stride) * self.filters[0] >= _LOOP_FROM

    def _stride(self, block: int) -> int:
        return 2 if self.pooling == "stride" and self._is_pooled(block) else 1

    def _flat(self, maps: Tensor) -> Tensor:
        """Features [tasks, points, num_features] of the last maps [tasks, points, C, H, W]."""
        return maps.mean((-2, -1)) if self.pooling == "stride" else maps.flatten(2)


def _of_task(params: Params, task: int) -> Params:
    """The parameters of one task without a task axis; its context keeps an axis of length one."""
    found = dict(params)
    for name, p in params.items():
        if name == "context":
            found[name] = p[task : task + 1]
        elif p.dim() > _SHARED_DIMS.get(name.partition("_")[0], p.dim()):
            found[name] = p[task]
    return found


def _rows(counts: Tensor | None, task: int) -> Tensor | None:
    return None if counts is None else counts[task : task + 1]


def _channels_last(inputs: Tensor) -> Tensor:
    """Inputs [tasks, points, C, H, W] as [tasks, points, H, W, C]."""
    return inputs.movedim(2, -1).contiguous()


def _init_block(
    num_inputs: int, num_outputs: int, generator: torch.Generator, *, num_slots: int = 1
) -> Params:
    """Parameters of a 3×3 convolution and its batch norm: weight, scale, offset."""
    bound = math.sqrt(6 / (9 * (num_inputs + num_outputs)))
    shape = (num_outputs, num_inputs, 3, 3)
    uniform = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float32)
    slots = (num_slots, num_outputs)
    return {
        "weight": bound * (2 * uniform - 1),
        "scale": torch.ones(slots, device=generator.device, dtype=torch.float32),
        "offset": torch.zeros(slots, device=generator.device, dtype=torch.float32),
    }


def _normalized_convolution(
    params: Params,
    k: int,
    maps: Tensor,
    counts: Tensor | None,
    *,
    stride: int,
    is_folded: bool,
) -> tuple[Tensor, Callable[[], Moments]]:
    """Convolution of block k, with batch norm by running statistics or by each task's statistics.

    The second result is a function that returns the moments of the convolution's outputs.
    """
    kernels = params[f"weight_{k}"]
    if is_folded and f"running_mean_{k}" not in params:
        scale, offset = _scale_and_offset(params, k)
        folded = normalized_convolution(maps, kernels, scale, offset, stride=stride, counts=counts)
        return folded.maps, lambda: folded.moments
    return _normalized(params, k, convolve(maps, kernels, stride), counts)


def _normalized(
    params: Params, k: int, maps: Tensor, counts: Tensor | None
) -> tuple[Tensor, Callable[[], Moments]]:
    """Batch norm of block k by running statistics or by each task's statistics.

    The second result is a function that returns the moments of the given maps.
    """
    scale, offset = _scale_and_offset(params, k)
    moments = partial(batch_moments, maps, counts)
    if f"running_mean_{k}" in params:
        kept = Moments(params[f"running_mean_{k}"], params[f"running_variance_{k}"])
        return normalize(maps, kept, scale, offset), moments
    if counts is None and params[f"weight_{k}"].dim() == 4:
        return _fused(maps, scale, offset), moments
    return normalize(maps, moments(), scale, offset), moments


def _scale_and_offset(params: Params, k: int) -> tuple[Tensor, Tensor]:
    return params[f"scale_{k}"][..., 0, :], params[f"offset_{k}"][..., 0, :]


def _fused(maps: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Normalize by torch's fused batch norm, for parameters that all tasks share.

    Each channel of each task becomes a separate channel: [points, tasks · C, H, W].
    """
    num_tasks = len(maps)
    side_by_side = maps.permute(1, 2, 3, 0, 4).flatten(3)
    normal = functional.batch_norm(
        side_by_side.permute(0, 3, 1, 2), None, None, scale.expand(num_tasks, -1).flatten(),
        offset.expand(num_tasks, -1).flatten(), training=True, eps=EPSILON,
    )  # fmt: skip
    apart = normal.permute(0, 2, 3, 1).reshape(*side_by_side.shape[:3], num_tasks, -1)
    return apart.permute(3, 0, 1, 2, 4)


def _pooled(maps: Tensor) -> Tensor:
    """2×2 max-pooling."""
    flat = functional.max_pool2d(maps.flatten(0, 1).permute(0, 3, 1, 2), 2)
    pooled = flat.permute(0, 2, 3, 1)
    return pooled.reshape(*maps.shape[:2], *pooled.shape[1:])


def _modulated(params: Params, maps: Tensor) -> Tensor:
    """Maps scaled by 1 + γ and shifted by β, both linear in each task's context (FiLM)."""
    film = params["context"] @ params["film_weight"].mT + params["film_bias"]
    scale, shift = film.view(-1, 1, 1, 1, film.shape[-1]).chunk(2, -1)
    return maps * (1 + scale) + shift
