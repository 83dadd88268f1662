"""Conversion of actions of any Gymnasium space to rows of numbers, and back.

Batches and agents exchange actions as rows: one int64 index for a `Discrete` space; for others, a
last axis of columns, with the leaf spaces of a `Dict` or `Tuple` in Gymnasium's order, each
flattened in C order. Rows contain the values of the space (a choice of `Discrete(3, start=1)` is
1, 2 or 3), as int64 if every column is a choice and as floats otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "ActionLayout",
    "BoxColumns",
    "ChoiceColumns",
    "encode_actions",
    "encoded_size",
    "require_action_indices",
]

Array: TypeAlias = NDArray[Any]
_NO_BOUND = 1e18  # bounds of larger magnitude are treated as infinite


class BoxColumns(NamedTuple):
    """Columns of real numbers."""

    low: Array  # [A] float64, −inf if unbounded
    high: Array  # [A] float64, inf if unbounded
    is_integer: NDArray[np.bool_]  # [A], whether actions are rounded to integers

    @property
    def size(self) -> int:
        """Number of network outputs for these columns."""
        return len(self.low)

    @property
    def center(self) -> Array:
        """Middle of each range; if it is infinite: `low` + 1, `high` − 1 or 0. Shape [A]."""
        middle = np.where(np.isfinite(self.low), self.low + 1, 0.0)
        middle = np.where(np.isfinite(self.high), self.high - 1, middle)
        with np.errstate(invalid="ignore"):
            return np.where(self._is_bounded, self.low / 2 + self.high / 2, middle)

    @property
    def half_width(self) -> Array:
        """Half of each column's range, or 1 if that is infinite or zero. Shape [A]."""
        with np.errstate(invalid="ignore"):
            half = self.high / 2 - self.low / 2
        return np.where(self._is_bounded & (half > 0), half, 1.0)

    @property
    def _is_bounded(self) -> NDArray[np.bool_]:
        return np.isfinite(self.low) & np.isfinite(self.high)


class ChoiceColumns(NamedTuple):
    """Columns of discrete choices."""

    sizes: tuple[int, ...]
    starts: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of network outputs for these columns, one for each choice."""
        return sum(self.sizes)


Columns: TypeAlias = BoxColumns | ChoiceColumns


class ActionLayout:
    """Layout of the actions of a space in rows."""

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        """
        Raises:
            TypeError: if the space is not built from Box, Discrete, MultiDiscrete and MultiBinary,
                or is empty.
        """
        self.space = space
        leaves = list(_leaves(space))
        if not any(map(_num_columns, leaves)):
            raise TypeError(f"action_space must hold at least one number or choice, got {space}")
        self.parts: tuple[Columns, ...] = _merged([_columns(leaf) for leaf in leaves])
        self.is_discrete = all(isinstance(part, ChoiceColumns) for part in self.parts)
        self.num_columns = sum(_num_columns(leaf) for leaf in leaves)
        self.row_shape: tuple[int, ...] = (
            () if isinstance(space, spaces.Discrete) else (self.num_columns,)
        )
        is_float_box = isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating)
        mixed = np.dtype(space.dtype if is_float_box else np.float32)
        self.dtype: np.dtype[Any] = np.dtype(np.int64) if self.is_discrete else mixed
        self.encoded_size = sum(part.size for part in self.parts)
        if not self.is_discrete:
            bounds = zip(*map(_bounds, self.parts), strict=True)
            low, high, is_integer = (np.concatenate(part) for part in bounds)
            self._bounds = low.astype(self.dtype), high.astype(self.dtype), is_integer

    def split(self, rows: Tensor) -> list[Tensor]:
        """Split rows into the columns of each part, [..., columns of the part]."""
        columns = rows.unsqueeze(-1) if self.row_shape == () else rows
        return list(columns.split([_width(part) for part in self.parts], -1))

    def encode(self, rows: Tensor, *, in_box_units: bool = False) -> Tensor:
        """Encode rows as float32 network inputs, with one-hot choices. Shape [..., encoded_size].

        Args:
            rows: [..., columns], or [...] for a Discrete space.
            in_box_units: subtract each box's center and divide by its half-width.
        """
        pieces = [
            _one_hot(part, columns)
            if isinstance(part, ChoiceColumns)
            else _box_inputs(part, columns, in_box_units)
            for part, columns in zip(self.parts, self.split(rows), strict=True)
        ]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, -1)

    def clip(self, rows: Array) -> Array:
        """Clip boxes of rows [..., columns] to their bounds and round integers."""
        if self.is_discrete:
            return rows
        low, high, is_integer = self._bounds
        clipped: Array = rows.clip(low, high)
        return np.where(is_integer, np.rint(clipped), clipped) if is_integer.any() else clipped

    def to_rows(self, actions: Any, num_envs: int | None = None) -> Tensor:
        """Convert actions of the space to rows, as a copy.

        Args:
            actions: a point of the space, or points of `batch_space(space, num_envs)`.
            num_envs: None for a single action.

        Raises:
            ValueError: if the structure or a shape differs from the space, a number is not finite,
                or a choice is not an integer or does not exist.
        """
        batch_shape = () if num_envs is None else (num_envs,)
        flat = [
            _checked(leaf, part, batch_shape).reshape(*batch_shape, -1)
            for leaf, part in _pairs(self.space, actions)
        ]
        rows = np.concatenate([part.astype(self.dtype) for part in flat], axis=-1)
        return torch.tensor(rows.reshape(batch_shape + self.row_shape))

    def from_row(self, row: Array) -> Any:
        """Convert a row [columns], or [] for a Discrete space, to a point of the space."""
        if isinstance(self.space, spaces.Box) and self.space.shape == row.shape:
            return row.astype(self.space.dtype, copy=False)
        if isinstance(self.space, spaces.Discrete):
            return np.int64(row)
        return _rebuilt(self.space, iter(np.atleast_1d(row)))


def encoded_size(space: gymnasium.Space[Any]) -> int:
    """Return the number of columns that `encode_actions` gives an action.

    Raises:
        TypeError: if the space is not built from Box, Discrete, MultiDiscrete and MultiBinary.
    """
    return ActionLayout(space).encoded_size


def encode_actions(space: gymnasium.Space[Any], actions: Tensor) -> Tensor:
    """Encode rows of actions as float32 [..., encoded size], with one-hot choices.

    >>> encode_actions(spaces.Discrete(3), torch.tensor([2, 0]))
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    >>> encode_actions(spaces.MultiDiscrete([2, 3]), torch.tensor([1, 2]))
    tensor([0., 1., 0., 0., 1.])
    """
    return ActionLayout(space).encode(actions)


def require_action_indices(actions: Tensor, batch_shape: tuple[int, ...]) -> None:
    """Reject actions that are not one int64 index for each environment.

    The range is not checked, because that would synchronize with the device at every step.

    Args:
        actions: actions of the agent.
        batch_shape: required shape, [N, E].

    Raises:
        TypeError: if the actions are not int64.
        ValueError: if their shape differs.

    >>> require_action_indices(torch.tensor([[2, 0]]), (1, 2))
    """
    if actions.dtype != torch.int64:
        raise TypeError(f"actions must be int64 indices, got {actions.dtype}")
    if actions.shape != batch_shape:
        raise ValueError(
            f"actions must have shape {tuple(batch_shape)} (tasks, envs), got "
            f"{tuple(actions.shape)}"
        )


def _leaves(space: gymnasium.Space[Any]) -> Iterator[gymnasium.Space[Any]]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        for part in parts:
            yield from _leaves(part)
    elif isinstance(
        space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    ):
        yield space
    else:
        raise TypeError(
            "action_space must be built from Box, Discrete, MultiDiscrete and MultiBinary, "
            f"got {space}"
        )


def _columns(leaf: gymnasium.Space[Any]) -> Columns:
    if isinstance(leaf, spaces.Box):
        low, high = (bound.ravel().astype(np.float64) for bound in (leaf.low, leaf.high))
        is_integer = np.full(low.shape, not np.issubdtype(leaf.dtype, np.floating))
        bounds = np.where(low < -_NO_BOUND, -np.inf, low), np.where(high > _NO_BOUND, np.inf, high)
        return BoxColumns(*bounds, is_integer)
    if isinstance(leaf, spaces.Discrete):
        return ChoiceColumns((int(leaf.n),), (int(leaf.start),))
    if isinstance(leaf, spaces.MultiDiscrete):
        return ChoiceColumns(tuple(leaf.nvec.ravel().tolist()), tuple(leaf.start.ravel().tolist()))
    count = _num_columns(leaf)
    return ChoiceColumns((2,) * count, (0,) * count)


def _num_columns(leaf: gymnasium.Space[Any]) -> int:
    return int(np.prod(leaf.shape or ()))


def _width(part: Columns) -> int:
    return len(part.sizes) if isinstance(part, ChoiceColumns) else part.size


def _merged(parts: list[Columns]) -> tuple[Columns, ...]:
    """Merge consecutive parts of the same type."""
    merged: list[Columns] = []
    for part in parts:
        last = merged[-1] if merged else None
        if isinstance(part, ChoiceColumns) and isinstance(last, ChoiceColumns):
            merged[-1] = ChoiceColumns(last.sizes + part.sizes, last.starts + part.starts)
        elif isinstance(part, BoxColumns) and isinstance(last, BoxColumns):
            pairs = zip(last, part, strict=True)
            merged[-1] = BoxColumns(*(np.concatenate(pair) for pair in pairs))
        else:
            merged.append(part)
    return tuple(merged)


def _bounds(part: Columns) -> tuple[Array, Array, NDArray[np.bool_]]:
    if isinstance(part, BoxColumns):
        return part
    free = np.full(len(part.sizes), np.inf)
    return -free, free, np.zeros(len(free), np.bool_)


def _one_hot(part: ChoiceColumns, columns: Tensor) -> Tensor:
    ends = np.cumsum([0, *part.sizes]).tolist()
    rows = torch.eye(ends[-1], device=columns.device, dtype=torch.float32)
    indices = columns.to(torch.int64)
    pieces = [
        rows[indices[..., k] - part.starts[k] + low, low:high]
        for k, (low, high) in enumerate(pairwise(ends))
    ]
    return torch.cat(pieces, dim=-1)


def _box_inputs(part: BoxColumns, columns: Tensor, in_box_units: bool) -> Tensor:
    if not in_box_units:
        return columns.to(torch.float32)
    center, half_width = (torch.as_tensor(a).to(columns) for a in (part.center, part.half_width))
    return ((columns - center) / half_width).to(torch.float32)


def _pairs(space: gymnasium.Space[Any], actions: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each leaf space with its part of the actions."""
    if isinstance(space, spaces.Dict):
        if not isinstance(actions, Mapping) or set(actions) != set(space.spaces):
            raise ValueError(
                f"actions must be a dict with keys {list(space.spaces)}, got {actions}"
            )
        for key, part in space.spaces.items():
            yield from _pairs(part, actions[key])
    elif isinstance(space, spaces.Tuple):
        if not isinstance(actions, tuple | list) or len(actions) != len(space.spaces):
            raise ValueError(f"actions must be a tuple of {len(space.spaces)}, got {actions}")
        for part, action in zip(space.spaces, actions, strict=True):
            yield from _pairs(part, action)
    else:
        yield space, actions


def _checked(leaf: gymnasium.Space[Any], actions: Any, batch_shape: tuple[int, ...]) -> Array:
    array = np.asarray(actions)
    shape = batch_shape + (leaf.shape or ())
    if array.shape != shape:
        raise ValueError(f"actions must have shape {shape}, got {array.shape}")
    if isinstance(leaf, spaces.Box):
        if not np.isfinite(array).all():
            raise ValueError(f"actions must be finite, got {array.tolist()}")
        return array
    if array.dtype.kind not in "iu":
        raise ValueError(f"actions must be integers, got dtype {array.dtype}")
    columns = _columns(leaf)
    assert isinstance(columns, ChoiceColumns)
    flat = array.reshape(*batch_shape, -1) - np.array(columns.starts)
    if ((flat < 0) | (flat >= np.array(columns.sizes))).any():
        raise ValueError(f"actions must lie in {leaf}, got {array.tolist()}")
    return array


def _rebuilt(space: gymnasium.Space[Any], numbers: Iterator[Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _rebuilt(part, numbers) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_rebuilt(part, numbers) for part in space.spaces)
    if isinstance(space, spaces.Discrete):
        return np.int64(next(numbers))
    taken = [next(numbers) for _ in range(_num_columns(space))]
    return np.array(taken).reshape(space.shape).astype(space.dtype)
