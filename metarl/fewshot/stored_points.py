"""How points are kept on a device: compact, and turned into float32 only when they are drawn."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = ["Encoding", "decode", "pack_bits", "quarter_turns", "unpack_bits"]

Encoding = Literal["float32", "uint8", "bits", "counts"]
"""float32: as they are. uint8: intensities 0 … 255, drawn as 0 … 1. bits: eight binary pixels in a
byte. counts: int8 features, drawn as a vector of length 1."""


def pack_bits(pixels: Tensor) -> Tensor:
    """Eight binary pixels in a byte, the first in the lowest bit.

    Args:
        pixels: bool [..., P], P a multiple of 8.

    Returns:
        uint8 [..., P / 8].

    Raises:
        ValueError: if the number of pixels is no multiple of 8.

    >>> pack_bits(torch.tensor([[True, False, True, False, False, False, False, True]]))
    tensor([[133]], dtype=torch.uint8)
    """
    if pixels.shape[-1] % 8:
        raise ValueError(f"pixels must be a multiple of 8 to be packed, got {pixels.shape[-1]}")
    octets = pixels.to(torch.uint8).unflatten(-1, (-1, 8))
    return torch.sum(octets << _places(pixels.device), -1, dtype=torch.uint8)


def unpack_bits(packed: Tensor) -> Tensor:
    """Pixels 0 or 1, uint8 [..., 8·B], of bytes [..., B]; undoes `pack_bits`."""
    octets = (packed.unsqueeze(-1) >> _places(packed.device)) & 1
    return octets.flatten(-2)


def decode(stored: Tensor, encoding: Encoding, turns: Tensor | None = None) -> Tensor:
    """Stored points as float32.

    Args:
        stored: [..., width] as `encoding` keeps them.
        encoding: how they are kept.
        turns: int64 [..., P], which pixel each pixel comes from; None leaves them in place.

    Returns:
        float32 [..., P].
    """
    values = unpack_bits(stored) if encoding == "bits" else stored
    if turns is not None:
        values = values.gather(-1, turns.expand(values.shape))
    floats = values.to(torch.float32)
    if encoding == "uint8":
        return floats.div_(255)
    if encoding == "counts":
        return torch.nn.functional.normalize(floats, dim=-1)
    return floats


def quarter_turns(input_shape: tuple[int, ...], device: torch.device | str) -> Tensor:
    """Where each pixel of a picture comes from after 0, 1, 2, 3 quarter turns anticlockwise.

    Args:
        input_shape: (channels, height, width), height = width.
        device: where the result is.

    Returns:
        int64 [4, channels · height · width], for `gather` on flattened pictures.

    Raises:
        ValueError: if the inputs are no square pictures.
    """
    if len(input_shape) != 3 or input_shape[1] != input_shape[2]:
        raise ValueError(
            f"rotations need square pictures (channels, side, side), the inputs are {input_shape}"
        )
    pixels = torch.arange(torch.Size(input_shape).numel(), device=device).view(input_shape)
    return torch.stack([pixels.rot90(k, (1, 2)).flatten() for k in range(4)])


def _places(device: torch.device) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device)
