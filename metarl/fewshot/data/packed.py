"""Points of a data set packed on a device, indexed by class.

Points are stored compactly and converted to float32 only when they are sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

__all__ = [
    "Encoding",
    "decode",
    "pack_bits",
    "quarter_turns",
    "unpack_bits",
    "ClassData",
    "data_of_classes",
    "data_of_labels",
    "data_of_names",
    "joined",
]


Encoding = Literal["float32", "uint8", "bits", "counts"]
"""float32: not encoded. uint8: intensities 0 … 255, decoded to 0 … 1. bits: eight binary pixels per
byte. counts: int8 features, decoded to a vector of length 1."""


def pack_bits(pixels: Tensor) -> Tensor:
    """Pack eight binary pixels into a byte, the first in the lowest bit.

    Args:
        pixels: bool [..., P], P a multiple of 8.

    Returns:
        uint8 [..., P / 8].

    Raises:
        ValueError: if the number of pixels is not a multiple of 8.

    >>> pack_bits(torch.tensor([[True, False, True, False, False, False, False, True]]))
    tensor([[133]], dtype=torch.uint8)
    """
    if pixels.shape[-1] % 8:
        raise ValueError(f"pixels must be a multiple of 8 to be packed, got {pixels.shape[-1]}")
    octets = pixels.to(torch.uint8).unflatten(-1, (-1, 8))
    return torch.sum(octets << _places(pixels.device), -1, dtype=torch.uint8)


def unpack_bits(packed: Tensor) -> Tensor:
    """Unpack bytes [..., B] into pixels 0 or 1, uint8 [..., 8·B]; the inverse of `pack_bits`."""
    octets = (packed.unsqueeze(-1) >> _places(packed.device)) & 1
    return octets.flatten(-2)


def decode(stored: Tensor, encoding: Encoding, turns: Tensor | None = None) -> Tensor:
    """Decode stored points to float32.

    Args:
        stored: encoded points [..., width].
        encoding: their encoding.
        turns: index of the source pixel of each pixel, int64 [..., P]; None: no rotation.

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
    """Source pixel of each pixel after 0, 1, 2 and 3 counterclockwise quarter turns.

    Args:
        input_shape: (channels, height, width), height = width.
        device: device of the result.

    Returns:
        int64 [4, channels · height · width], for `gather` on flattened images.

    Raises:
        ValueError: if the inputs are not square images.
    """
    if len(input_shape) != 3 or input_shape[1] != input_shape[2]:
        raise ValueError(
            f"rotations need square images (channels, side, side), got inputs {input_shape}"
        )
    pixels = torch.arange(torch.Size(input_shape).numel(), device=device).view(input_shape)
    return torch.stack([pixels.rot90(k, (1, 2)).flatten() for k in range(4)])


def _places(device: torch.device) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device)


_STORED = {
    "float32": torch.float32,
    "uint8": torch.uint8,
    "bits": torch.uint8,
    "counts": torch.int8,
}


@dataclass(frozen=True)
class ClassData:
    """Classes and their points; a point may belong to several classes, and classes differ in size.

    Built by `data_of_labels`, `data_of_names` or `data_of_classes`, which check their arguments.
    """

    points: Tensor
    """Encoded points, [points, width]."""
    members: Tensor
    """Rows of `points`, grouped by class, int64."""
    starts: Tensor
    """Start of each class in `members`, int64 [classes]."""
    counts: Tensor
    """Number of members of each class, int64 [classes]."""
    class_names: tuple[str, ...]
    encoding: Encoding
    input_shape: tuple[int, ...]
    """Shape of one decoded point."""

    @property
    def num_bytes(self) -> int:
        """Memory of the packed points and their index."""
        tensors = (self.points, self.members, self.starts, self.counts)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def of(self, classes: Sequence[int]) -> ClassData:
        """A subset of the classes, in the order given; the points are shared, not copied."""
        rows = torch.tensor(list(classes), dtype=torch.int64, device=self.points.device)
        names = tuple(self.class_names[c] for c in classes)
        return replace(self, starts=self.starts[rows], counts=self.counts[rows], class_names=names)

    def to(self, device: torch.device | str) -> ClassData:
        """The same data on a device."""
        moved = {
            name: getattr(self, name).to(device)
            for name in ("points", "members", "starts", "counts")
        }
        return replace(self, **moved)


def joined(parts: Sequence[ClassData]) -> ClassData:
    """Concatenate the classes of several parts of the same encoding; the points are copied."""
    first, *others = parts
    points = members = 0
    starts, rows = [], []
    for part in parts:
        starts.append(part.starts + members)
        rows.append(part.members + points)
        points, members = points + len(part.points), members + len(part.members)
    return replace(
        first,
        points=torch.cat([part.points for part in parts]),
        members=torch.cat(rows),
        starts=torch.cat(starts),
        counts=torch.cat([part.counts for part in parts]),
        class_names=sum((part.class_names for part in others), first.class_names),
    )


def data_of_labels(
    points: Tensor,
    labels: Tensor,
    class_names: Sequence[str],
    *,
    encoding: Encoding,
    input_shape: tuple[int, ...],
) -> ClassData:
    """Classes of points that have one label each.

    Args:
        points: [points, width].
        labels: int64 [points], each in 0 … classes − 1.
        class_names: one for each class.
        encoding: encoding of `points`.
        input_shape: shape of one decoded point.

    Raises:
        TypeError: if the labels are not integers.
        ValueError: if a label is out of range or missing, or a point is not finite.
    """
    if labels.dim() != 1 or len(labels) != len(points):
        raise ValueError(
            f"labels must be one for each of the {len(points)} points, "
            f"got shape {tuple(labels.shape)}"
        )
    if labels.dtype.is_floating_point or labels.dtype in (torch.bool, torch.complex64):
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    outside = (labels < 0) | (labels >= len(class_names))
    if bool(outside.any()):
        row = int(outside.nonzero()[0, 0])
        raise ValueError(
            f"labels must be 0 to {len(class_names) - 1}, got {int(labels[row])} at index {row}"
        )
    _require_storable(points, encoding)
    members = torch.sort(labels, stable=True).indices
    counts = torch.bincount(labels, minlength=len(class_names))
    starts, names = counts.cumsum(0) - counts, tuple(class_names)
    return ClassData(points, members, starts, counts, names, encoding, input_shape)


def data_of_names(
    points: Tensor,
    names: Sequence[str],
    *,
    encoding: Encoding,
    input_shape: tuple[int, ...],
) -> ClassData:
    """Classes of points [points, width] that have one class name each; classes are sorted by name.

    Other arguments and errors are as for `data_of_labels`.
    """
    class_names = sorted(set(names))
    row = {name: index for index, name in enumerate(class_names)}
    labels = torch.tensor([row[name] for name in names], device=points.device)
    return data_of_labels(points, labels, class_names, encoding=encoding, input_shape=input_shape)


def data_of_classes(
    points: Tensor,
    rows: Sequence[Tensor],
    class_names: Sequence[str],
    *,
    encoding: Encoding,
    input_shape: tuple[int, ...],
) -> ClassData:
    """Classes given as rows of `points`, which may share points.

    Raises:
        ValueError: if a point is not finite.
    """
    _require_storable(points, encoding)
    counts = torch.tensor([len(part) for part in rows])
    starts, names = counts.cumsum(0) - counts, tuple(class_names)
    members = torch.cat(list(rows))
    return ClassData(points, members, starts, counts, names, encoding, input_shape)


def _require_storable(points: Tensor, encoding: Encoding) -> None:
    assert points.dim() == 2
    assert points.dtype == _STORED[encoding]
    if points.dtype.is_floating_point:
        bad = ~torch.isfinite(points).all(1)
        if bool(bad.any()):
            row = int(bad.nonzero()[0, 0])
            raise ValueError(f"inputs must be finite, got NaN or infinity in point {row}")
