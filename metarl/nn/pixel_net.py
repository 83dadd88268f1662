"""A small convolutional encoder of images, for one set of parameters or one per task.

It has no batch norm, so that each image is encoded independently of the others, and every step is a
matrix product, whose second derivatives are matrix products as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from metarl.nn.convolution import convolve
from metarl.parameters import Params

__all__ = ["PixelNet"]


@dataclass(frozen=True)
class PixelNet:
    """Features of images: non-overlapping patches, then 3×3 convolutions of stride 2, with ReLU.

    The first layer multiplies patches of 1, 2 or 4 pixels a side, the more the larger the image, as
    the stems of residual nets and vision transformers do; it needs much less memory than
    overlapping windows. An image of 84×84 becomes maps of 21×21, 11×11 and 6×6.

    Source: Mnih et al. 2015 (Nature 518), methods, for the order of sizes. Differs: filters of 3×3
    and patches (Dosovitskiy et al. 2021, arXiv:2010.11929, sec. 3.1) instead of 8×8 and 4×4.
    """

    input_shape: tuple[int, int, int]
    """Channels, height and width."""
    filters: tuple[int, ...] = (16, 32, 32)
    """Channels after each layer."""

    @property
    def patch_size(self) -> int:
        """Side of the patches of the first layer, in pixels."""
        shortest = min(self.input_shape[1:])
        return 4 if shortest >= 56 else 2 if shortest >= 28 else 1

    @property
    def num_features(self) -> int:
        """Number of features of an image."""
        sides = [-(-side // self.patch_size) for side in self.input_shape[1:]]
        for _ in self.filters[1:]:
            sides = [(side + 1) // 2 for side in sides]
        return self.filters[-1] * math.prod(sides)

    def init(self, generator: torch.Generator) -> Params:
        """Weights U(±√(6 / fan in)) (He et al. 2015, arXiv:1502.01852), biases zero."""
        params: Params = {}
        num_inputs = self.input_shape[0] * self.patch_size**2
        for k, count in enumerate(self.filters):
            shape = (count, num_inputs) if k == 0 else (count, num_inputs, 3, 3)
            bound = math.sqrt(6 / math.prod(shape[1:]))
            uniform = torch.rand(
                shape, generator=generator, device=generator.device, dtype=torch.float32
            )
            params[f"conv_weight_{k}"] = bound * (2 * uniform - 1)
            params[f"conv_bias_{k}"] = torch.zeros(
                count, device=generator.device, dtype=torch.float32
            )
            num_inputs = count
        return params

    def features(self, params: Params, images: Tensor) -> Tensor:
        """Features [tasks, points, num_features] of images [tasks, points, C, H, W].

        Each parameter is shared by all tasks, or has a leading task axis.
        """
        patches = self._patches(images)
        rows = patches.flatten(1, 3) @ params["conv_weight_0"].mT
        maps = rows.unflatten(1, patches.shape[1:4])
        maps = torch.relu(maps + _broadcast_to_maps(params["conv_bias_0"]))
        for k in range(1, len(self.filters)):
            maps = convolve(maps.contiguous(), params[f"conv_weight_{k}"], 2)
            maps = torch.relu(maps + _broadcast_to_maps(params[f"conv_bias_{k}"]))
        return maps.flatten(2)

    def _patches(self, images: Tensor) -> Tensor:
        """Non-overlapping patches [tasks, points, h, w, C · side²]; edges are padded by zeros."""
        side = self.patch_size
        height, width = images.shape[-2:]
        if height % side or width % side:
            images = functional.pad(images, (0, -width % side, 0, -height % side))
        split = images.unflatten(-1, (-1, side)).unflatten(-3, (-1, side))
        patches: Tensor = split.permute(0, 1, 3, 5, 2, 4, 6).flatten(4)
        return patches


def _broadcast_to_maps(bias: Tensor) -> Tensor:
    """A bias [C] or [tasks, C] that broadcasts with maps [tasks, points, h, w, C]."""
    return bias if bias.dim() == 1 else bias[:, None, None, None]
