"""The convolutional net where all tasks share its parameters: one batch, fused kernels.

`ConvNet` is written of primitives that are exact under `vmap` and second derivatives; a learner
whose parameters are the same in every task, and which needs first derivatives only, does not pay
for that. Same parameters, same numbers: about 2.4 times as fast for one episode of 360 characters
on a CPU, as torch's batch norm is one pass and channels lie last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from metarl.bilevel import Params
from metarl.fewshot.backbones import ConvNet
from metarl.fewshot.batch_norm import EPSILON, batch_moments

__all__ = ["SharedConvNet"]


@dataclass(frozen=True)
class SharedConvNet(ConvNet):
    """A `ConvNet` whose functions take inputs [tasks, points, C, H, W] and shared parameters.

    What they give has the leading axes [tasks, points]; statistics are of each task, [tasks, C].
    """

    batching: Literal["vmap", "explicit"] = "explicit"

    def maps(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Tensor:
        """The last maps [tasks, points, C, H, W]; `counts` is bool [tasks, points]."""
        if counts is not None:  # statistics over some of the points: no fused kernel does it
            weighted: Tensor = torch.func.vmap(super().maps, (None, 0, 0))(params, inputs, counts)
            return weighted
        maps = _channels_last(inputs.flatten(0, 1))
        for k in range(len(self.filters)):
            maps = self._convolved(params, k, maps)
            maps = self._finished(k, _normalized(params, k, maps, len(inputs)))
        return maps.unflatten(0, inputs.shape[:2])

    def features(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Tensor:
        """Embeddings [tasks, points, num_features]."""
        maps = self.maps(params, inputs, counts)
        return maps.mean((-2, -1)) if self.pooling == "stride" else maps.flatten(2)

    def statistics(self, params: Params, inputs: Tensor, counts: Tensor | None = None) -> Params:
        """`running_mean_k` and `running_variance_k`, [tasks, C]."""
        if counts is not None:
            weighted: Params = torch.func.vmap(super().statistics, (None, 0, 0))(
                params, inputs, counts
            )
            return weighted
        found: Params = {}
        maps = _channels_last(inputs.flatten(0, 1))
        for k in range(len(self.filters)):
            maps = self._convolved(params, k, maps)
            by_task = maps.unflatten(0, inputs.shape[:2])
            moments = torch.func.vmap(batch_moments)(by_task)
            found[f"running_mean_{k}"], found[f"running_variance_{k}"] = moments
            maps = self._finished(k, _normalized(params, k, maps, len(inputs)))
        return found

    def _convolved(self, params: Params, k: int, maps: Tensor) -> Tensor:
        return functional.conv2d(
            maps, _channels_last(params[f"weight_{k}"]), stride=self._stride(k), padding=1
        )

    def _finished(self, k: int, maps: Tensor) -> Tensor:
        """ReLU and pooling of a block; pooled first, which is the same and has less to do."""
        if self.pooling == "max" and self._is_pooled(k):
            maps = functional.max_pool2d(maps, 2)
        return torch.relu(maps)


def _channels_last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last)


def _normalized(params: Params, k: int, maps: Tensor, num_tasks: int) -> Tensor:
    """Batch norm of maps [tasks · points, C, H, W], by the statistics of each task or the kept."""
    scale, offset = params[f"scale_{k}"][0], params[f"offset_{k}"][0]
    if f"running_mean_{k}" in params:
        kept = params[f"running_mean_{k}"], params[f"running_variance_{k}"]
        return functional.batch_norm(maps, *kept, scale, offset, eps=EPSILON)
    # Every channel of every task is a channel of its own: [points, tasks · C, H, W].
    places = maps.permute(0, 2, 3, 1).unflatten(0, (num_tasks, -1))
    side_by_side = places.permute(1, 2, 3, 0, 4).flatten(3)
    normal = functional.batch_norm(
        side_by_side.permute(0, 3, 1, 2), None, None, scale.repeat(num_tasks),
        offset.repeat(num_tasks), training=True, eps=EPSILON,
    )  # fmt: skip
    apart = normal.permute(0, 2, 3, 1).unflatten(3, (num_tasks, -1)).permute(3, 0, 1, 2, 4)
    return apart.flatten(0, 1).permute(0, 3, 1, 2)
