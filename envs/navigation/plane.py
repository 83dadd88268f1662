"""What the families of a point in the plane share: its spaces, its moves and its picture.

The state of such a point is its position, which is also what is observed; an action is a
displacement, clipped in each coordinate.

Simple pictures, drawn with NumPy alone: discs in the plane, and cells of a grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from ..simulators.tensor import TensorFamily

__all__ = [
    "both",
    "distance",
    "draw_point",
    "moved",
    "shortest_way",
    "uniform_points",
    "use_plane",
    "AGENT",
    "GOAL",
    "OTHER",
    "ZONE",
    "Color",
    "Disc",
    "draw_cells",
    "draw_discs",
]


def use_plane(family: TensorFamily, reach: float) -> None:
    """Set what a family of points observes, and its actions: ±`reach` in each coordinate."""
    family.observation_description, family.behaviour = "the position", "path"
    family.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    family.action_space = spaces.Box(-reach, reach, (2,), np.float32)


def uniform_points(
    low: Sequence[float],
    high: Sequence[float],
    shape: tuple[int, int],
    generator: torch.Generator,
) -> Tensor:
    """Points uniform in a rectangle, shape [N, E, 2], on the generator's device."""
    shares = torch.rand(*shape, 2, generator=generator, device=generator.device)
    first, last = shares.new_tensor(low), shares.new_tensor(high)
    return first + (last - first) * shares


def moved(positions: Tensor, actions: Tensor, reach: float) -> Tensor:
    """Where displacements lead, each coordinate clipped to ±`reach`. Shapes [N, E, 2]."""
    return positions + actions.clamp(-reach, reach)


def both(coordinates: Tensor) -> Tensor:
    """Where both coordinates are true, bool [N, E] of [N, E, 2]; faster than `all`."""
    x, y = coordinates.unbind(-1)
    return x & y


def distance(positions: Tensor, points: Tensor) -> Tensor:
    """Euclidean distances, [N, E] of [N, E, 2]."""
    distances: Tensor = torch.linalg.vector_norm(positions - points, dim=-1)
    return distances


def shortest_way(positions: Tensor, goals: Tensor, reach: float) -> Tensor:
    """The displacement that brings each coordinate as near to the goal as it can come.

    No other way is nearer to the goal at any time, in either coordinate: it is the optimum of
    every reward that falls with the distance.
    """
    return (goals - positions).clamp(-reach, reach)


def draw_point(
    position: NDArray[np.float64],
    goal: Sequence[float] | NDArray[np.float64],
    *,
    half_width: float,
    paid_radius: float = 0.0,
    others: Sequence[Sequence[float]] = (),
) -> NDArray[np.uint8]:
    """A picture [240, 240, 3] of the plane around the origin.

    Args:
        position: the agent's, shape [2].
        goal: shape [2].
        half_width: of the square that is shown.
        paid_radius: around the goal, of the zone where it pays.
        others: further points to mark, such as the goals of other tasks.
    """
    size = half_width / 40
    marks = [Disc(point, size, OTHER) for point in others]
    zone, spot = Disc(goal, paid_radius, ZONE), Disc(goal, size, GOAL)
    return draw_discs([zone, *marks, spot, Disc(position, size, AGENT)], half_width=half_width)


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
