"""Observation spaces as rows of numbers: selection of keys, flat space, and columns of images.

Agents see observations as rows [O]. `ImageColumns` describes which columns of a row are an image,
so that networks can restore its shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

__all__ = ["ImageColumns", "find_images", "flat_box", "float_dtype", "selected_space"]

_MIN_PIXELS = 28
"""Shortest side of an image of pixels; smaller arrays are mostly grids of symbols (MiniGrid)."""


@dataclass(frozen=True)
class ImageColumns:
    """Columns of an observation [O] that are an image: its name, its place and its shape."""

    name: str
    """Keys of Dict and indices of Tuple spaces, joined by "/"; "image" if it is the whole space."""
    first: int
    """Index of the first column."""
    shape: tuple[int, ...]
    """Shape of the unflattened array: two axes of pixels, the others are channels."""
    height_axis: int = 0
    """Axis of the rows of pixels; the columns of pixels are the next axis."""
    scale: float = 1.0
    """Values are divided by this number for networks: 255 for bytes of pixels."""

    @property
    def size(self) -> int:
        """Number of columns."""
        return math.prod(self.shape)

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return self.shape[self.height_axis]

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return self.shape[self.height_axis + 1]

    @property
    def channels(self) -> int:
        """Channels per pixel, frames of a stack included."""
        return self.size // (self.height * self.width)

    @property
    def is_pixels(self) -> bool:
        """Whether the image is large enough to be a rendered image, not a grid of symbols."""
        return min(self.height, self.width) >= _MIN_PIXELS

    def image(self, observations: Tensor) -> Tensor:
        """The image [..., C, H, W] of observations [..., O], not scaled."""
        found = observations[..., self.first : self.first + self.size]
        found = torch.unflatten(found, -1, self.shape)
        num_batch_axes, axes = observations.dim() - 1, range(len(self.shape))
        pixels = (self.height_axis, self.height_axis + 1)
        order = [axis for axis in axes if axis not in pixels] + list(pixels)
        found = found.permute(*range(num_batch_axes), *(num_batch_axes + axis for axis in order))
        if len(self.shape) == 2:
            return found.unsqueeze(-3)
        return found.flatten(num_batch_axes, -3)


def selected_space(
    space: gymnasium.Space[Any], keys: Sequence[str] | None = None
) -> gymnasium.Space[Any]:
    """The space of the observations that a family uses: a Dict of some keys, or the whole space.

    Raises:
        ValueError: if there is no such key, or the result does not have a fixed number of numbers.
    """
    if keys is not None:
        if not isinstance(space, spaces.Dict):
            raise ValueError(
                f"observation_keys must be None if observations are not a Dict, got {keys!r} for "
                f"{space}"
            )
        missing = [key for key in keys if key not in space.spaces]
        if missing or not keys or isinstance(keys, str):
            raise ValueError(
                f"observation_keys must be a tuple of keys among {', '.join(space.spaces)}, "
                f"got {keys!r}"
            )
        space = spaces.Dict([(key, space.spaces[key]) for key in keys])
    if not _is_numeric(space):
        raise ValueError(
            f"observation_space must flatten to a fixed number of numbers, got {space}; "
            f"{_remedy(space)}"
        )
    return space


def flat_box(space: gymnasium.Space[Any]) -> spaces.Box:
    """The flat space of observations after `gymnasium.spaces.flatten`.

    It is float32, or uint8 if all observations are images of bytes, which take four times less
    memory.
    """
    flat = spaces.flatten_space(space)
    assert isinstance(flat, spaces.Box)
    if all(_is_byte_image(leaf) for _, leaf in _leaves(space)):
        return spaces.Box(flat.low.astype(np.uint8), flat.high.astype(np.uint8), dtype=np.uint8)
    with np.errstate(over="ignore"):  # bounds beyond float32 become infinite
        low, high = flat.low.astype(np.float32), flat.high.astype(np.float32)
    return spaces.Box(low, high, dtype=np.float32)


def find_images(space: gymnasium.Space[Any]) -> tuple[ImageColumns, ...]:
    """The columns of a flattened space that are images, with their names.

    An image is a Box of three axes (pixels and channels, the shorter outer axis), of four (a stack
    of such frames first), or of two axes of bytes.
    """
    images, first = [], 0
    for name, leaf in _leaves(space):
        if isinstance(leaf, spaces.Box) and (axis := _height_axis(leaf)) is not None:
            image = ImageColumns(name or "image", first, leaf.shape, axis, _scale(leaf, axis))
            images.append(image)
        first += spaces.flatdim(leaf)
    return tuple(images)


def float_dtype(observations: Tensor) -> torch.dtype:
    """The dtype of rewards and network inputs: the observations' own, or float32 for bytes."""
    return observations.dtype if observations.is_floating_point() else torch.float32


def _height_axis(box: spaces.Box) -> int | None:
    """Axis of the rows of pixels; None if the box is not an image."""
    if len(box.shape) == 2 and box.dtype == np.uint8 and min(box.shape) >= _MIN_PIXELS:
        return 0
    if len(box.shape) not in (3, 4):
        return None
    frames = len(box.shape) - 3
    first, *_, last = box.shape[frames:]
    return frames if last <= first else frames + 1


def _scale(box: spaces.Box, height_axis: int) -> float:
    """The largest magnitude of the pixels if it is finite and above 1; else 1."""
    largest = float(np.abs([box.low, box.high]).astype(np.float64).max())
    is_pixels = min(box.shape[height_axis : height_axis + 2]) >= _MIN_PIXELS
    return largest if is_pixels and 1 < largest < math.inf else 1.0


def _is_byte_image(space: gymnasium.Space[Any]) -> bool:
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8:
        return False
    axis = _height_axis(space)
    return axis is not None and min(space.shape[axis : axis + 2]) >= _MIN_PIXELS


def _leaves(space: gymnasium.Space[Any], name: str = "") -> Iterator[tuple[str, Any]]:
    """Names and spaces of the parts, in the order in which Gymnasium flattens them."""
    for key, part in _parts(space):
        yield from _leaves(part, f"{name}/{key}" if name else key)
    if not _is_nested(space):
        yield name, space


def _is_nested(space: gymnasium.Space[Any]) -> bool:
    return isinstance(space, spaces.Dict | spaces.Tuple)


def _parts(space: gymnasium.Space[Any]) -> list[tuple[str, Any]]:
    if isinstance(space, spaces.Dict):
        return [(str(key), part) for key, part in space.spaces.items()]
    if isinstance(space, spaces.Tuple):
        return [(str(k), part) for k, part in enumerate(space.spaces)]
    return []


def _is_numeric(space: gymnasium.Space[Any]) -> bool:
    """Whether the space flattens to one or more numbers, and none of them encodes text."""
    leaves = [leaf for _, leaf in _leaves(space)]
    if not leaves or any(isinstance(leaf, spaces.Text) for leaf in leaves):
        return False
    try:
        flat = spaces.flatten_space(space) if space.is_np_flattenable else None
    except (NotImplementedError, AttributeError, ValueError):  # no space, or not of numbers
        return False
    return isinstance(flat, spaces.Box) and flat.shape[0] > 0


def _remedy(space: gymnasium.Space[Any]) -> str:
    numeric = tuple(key for key, part in _parts(space) if _is_numeric(part))
    if isinstance(space, spaces.Dict) and numeric:
        return f"use its numeric part with observation_keys = {numeric!r}"
    return (
        "convert observations to numbers in make_env, for instance with "
        "gymnasium.wrappers.TransformObservation"
    )
