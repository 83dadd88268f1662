"""Simple pictures, drawn with NumPy alone: discs in the plane, and cells of a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["AGENT", "GOAL", "OTHER", "ZONE", "Color", "Disc", "draw_cells", "draw_discs"]

Color = tuple[int, int, int]

AGENT: Color = (31, 119, 180)
GOAL: Color = (214, 39, 40)
OTHER: Color = (150, 150, 150)
"""What is neither the agent nor the goal, such as a start."""
ZONE: Color = (247, 198, 199)
"""Around a goal: where it pays."""
_PAPER, _LINE = 255, 225

_SIDE = 240  # pixels


class Disc(NamedTuple):
    """A filled circle; one whose centre lies outside a picture is drawn at its edge."""

    center: Sequence[float] | NDArray[np.float64]  # [2]
    radius: float
    color: Color


def draw_discs(discs: Sequence[Disc], *, half_width: float) -> NDArray[np.uint8]:
    """Discs in a square of the plane around the origin, x to the right and y up.

    Args:
        discs: later ones cover earlier ones.
        half_width: of the square, in the plane's units.

    Returns:
        The picture, shape [240, 240, 3].
    """
    picture = np.full((_SIDE, _SIDE, 3), _PAPER, np.uint8)
    middles = half_width * ((2 * np.arange(_SIDE) + 1) / _SIDE - 1)  # of the pixels, left to right
    picture[:, _SIDE // 2] = picture[_SIDE // 2] = _LINE  # the axes
    for center, radius, color in discs:
        x, y = np.clip(center, -half_width, half_width)
        inside = (middles - x) ** 2 + (middles[::-1, None] - y) ** 2 <= radius**2
        picture[inside] = color
    return picture


def draw_cells(
    size: int, marks: Mapping[tuple[int, int], Color], agent: tuple[int, int]
) -> NDArray[np.uint8]:
    """A square grid, x to the right and y up, with the agent as a smaller square in its cell.

    Args:
        size: cells along each side.
        marks: colours of cells (x, y).
        agent: its cell.

    Returns:
        The picture, at most [240, 240, 3]: as many whole pixels a cell as fit.
    """
    pixels = _SIDE // size
    picture = np.full((size, pixels, size, pixels, 3), _PAPER, np.uint8)  # row, …, column, …
    for (x, y), color in marks.items():
        picture[size - 1 - y, :, x] = color
    margin = pixels // 4
    within = slice(margin, pixels - margin)
    picture[size - 1 - agent[1], within, agent[0], within] = AGENT
    picture[:, 0] = picture[:, :, :, 0] = _LINE  # the edges between cells
    return picture.reshape(size * pixels, size * pixels, 3)
