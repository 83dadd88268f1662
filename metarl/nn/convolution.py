"""3×3 convolutions of many tasks at once, with a separate kernel for each task.

In torch, a convolution with per-task kernels is a grouped convolution, which is slow, as are its
derivatives. Here the 3×3 patches are extracted and multiplied by each task's kernel in one batched
matrix product. Patch extraction is linear and its transpose is implemented explicitly, so first and
second derivatives are matrix products too. Kernels that all tasks share use torch's convolution.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["convolve", "fold_patches", "kernel_matrices", "patches"]

_SIDE = 3


def convolve(maps: Tensor, kernels: Tensor, stride: int) -> Tensor:
    """Convolutions padded by 1, channels last.

    Args:
        maps: [tasks, points, H, W, C].
        kernels: [tasks, O, C, 3, 3], or [O, C, 3, 3] for all tasks.
        stride: stride in both directions.

    Returns:
        [tasks, points, ⌈H / stride⌉, ⌈W / stride⌉, O].
    """
    if kernels.dim() == 4:
        flat = maps.flatten(0, 1).permute(0, 3, 1, 2)
        shared = kernels.contiguous(memory_format=torch.channels_last)
        found = functional.conv2d(flat, shared, stride=stride, padding=1).permute(0, 2, 3, 1)
        return found.view(*maps.shape[:2], *found.shape[1:])
    rows = patches(maps, stride)
    flat = torch.bmm(rows.flatten(1, 3), kernel_matrices(kernels))
    return flat.view(*rows.shape[:-1], -1)


def kernel_matrices(kernels: Tensor) -> Tensor:
    """Kernels [..., O, C, 3, 3] as the matrices that patches are multiplied by, [..., 9 C, O]."""
    return kernels.movedim((-4, -3), (-1, -2)).flatten(-4, -2)


def patches(maps: Tensor, stride: int) -> Tensor:
    """The 3×3 neighborhoods of zero-padded maps [..., H, W, C], [..., h, w, 9 C]."""
    rows: Tensor = _Patches.apply(maps, stride)  # type: ignore[no-untyped-call]
    return rows


def _extract_patches(maps: Tensor, stride: int) -> Tensor:
    padded = functional.pad(maps, (0, 0, 1, 1, 1, 1))
    height, width = _output_size(maps.shape[-3:-1], stride)
    shifted = [padded[_window(i, j, height, width, stride)] for i, j in _OFFSETS]
    return torch.cat(shifted, -1)


def fold_patches(rows: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """The transpose of `patches`: sum overlapping patches [..., h, w, 9 C] into [..., H, W, C]."""
    height, width = _output_size(size, stride)
    parts = rows.unflatten(-1, (len(_OFFSETS), -1))
    padded = rows.new_zeros(*rows.shape[:-3], size[0] + 2, size[1] + 2, parts.shape[-1])
    for k, (i, j) in enumerate(_OFFSETS):
        padded[_window(i, j, height, width, stride)] += parts[..., k, :]
    return padded[..., 1:-1, 1:-1, :]


_OFFSETS = tuple((i, j) for i in range(_SIDE) for j in range(_SIDE))


def _output_size(size: Any, stride: int) -> tuple[int, int]:
    return (size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1


def _window(i: int, j: int, height: int, width: int, stride: int) -> tuple[Any, ...]:
    """Index of the pixels that the kernel's entry (i, j) multiplies."""
    rows = slice(i, i + stride * (height - 1) + 1, stride)
    columns = slice(j, j + stride * (width - 1) + 1, stride)
    return ..., rows, columns, slice(None)


class _Patches(torch.autograd.Function):
    """`patches` with an efficient derivative; autograd would build nine maps of zeros."""

    generate_vmap_rule = True

    @staticmethod
    def forward(maps: Tensor, stride: int) -> Tensor:
        return _extract_patches(maps, stride)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        ctx.size, ctx.stride = tuple(inputs[0].shape[-3:-1]), inputs[1]

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        return _Fold.apply(cotangents[0], ctx.size, ctx.stride), None  # type: ignore[no-untyped-call]


class _Fold(torch.autograd.Function):
    """`fold_patches`, whose derivative is `patches`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(rows: Tensor, size: tuple[int, int], stride: int) -> Tensor:
        return fold_patches(rows, size, stride)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        ctx.stride = inputs[2]

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        return _Patches.apply(cotangents[0], ctx.stride), None, None  # type: ignore[no-untyped-call]
