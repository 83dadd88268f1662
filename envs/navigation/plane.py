"""Spaces, moves and images shared by the families of a point in the plane, and images of grids.

The state of a point is its position, which is also the observation; an action is a displacement,
clipped in each coordinate. Images are rendered with NumPy only.
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
    "both_coordinates",
    "distance",
    "render_point",
    "move",
    "shortest_step",
    "uniform_points",
    "set_plane_spaces",
    "AGENT",
    "GOAL",
    "OTHER",
    "ZONE",
    "Color",
    "Disc",
    "render_cells",
    "render_discs",
]


def set_plane_spaces(family: TensorFamily, max_displacement: float) -> None:
    """Set the spaces of a family that observes a position and acts by displacements.

    Args:
        family: the family to change.
        max_displacement: bound on each coordinate of a displacement per step, in the unit of the
            plane's coordinates.
    """
    family.observation_description, family.behavior = "the position", "path"
    family.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    family.action_space = spaces.Box(-max_displacement, max_displacement, (2,), np.float32)


def uniform_points(
    low: Sequence[float],
    high: Sequence[float],
    shape: tuple[int, int],
    generator: torch.Generator,
) -> Tensor:
    """Points uniform in a rectangle, shape [N, E, 2], on the generator's device."""
    shares = torch.rand(
        *shape, 2, generator=generator, device=generator.device, dtype=torch.float32
    )
    first, last = shares.new_tensor(low), shares.new_tensor(high)
    return first + (last - first) * shares


def move(positions: Tensor, actions: Tensor, max_displacement: float) -> Tensor:
    """Positions [N, E, 2] after displacements, each coordinate clipped to ±`max_displacement`."""
    return positions + actions.clamp(-max_displacement, max_displacement)


def both_coordinates(condition: Tensor) -> Tensor:
    """Whether a condition holds in both coordinates, [N, E, 2] ↦ [N, E]; faster than `all`."""
    x, y = condition.unbind(-1)
    return x & y


def distance(positions: Tensor, points: Tensor) -> Tensor:
    """Euclidean distances, [N, E, 2] ↦ [N, E]."""
    distances: Tensor = torch.linalg.vector_norm(positions - points, dim=-1)
    return distances


def shortest_step(positions: Tensor, goals: Tensor, max_displacement: float) -> Tensor:
    """The displacement that moves each coordinate as near to the goal as one step allows.

    No policy is ever nearer to the goal in either coordinate, so this is optimal
    for every reward that decreases with the distance.
    """
    return (goals - positions).clamp(-max_displacement, max_displacement)


def render_point(
    position: NDArray[np.float64],
    goal: Sequence[float] | NDArray[np.float64],
    *,
    half_width: float,
    reward_radius: float = 0.0,
    others: Sequence[Sequence[float]] = (),
) -> NDArray[np.uint8]:
    """Image [240, 240, 3] of the plane around the origin.

    Args:
        position: position of the agent, shape [2].
        goal: shape [2].
        half_width: half-width of the visible square.
        reward_radius: radius of the rewarded zone around the goal.
        others: other points to mark, such as the goals of other tasks.
    """
    size = half_width / 40
    marks = [Disc(point, size, OTHER) for point in others]
    zone, spot = Disc(goal, reward_radius, ZONE), Disc(goal, size, GOAL)
    return render_discs([zone, *marks, spot, Disc(position, size, AGENT)], half_width=half_width)


Color = tuple[int, int, int]

AGENT: Color = (31, 119, 180)
GOAL: Color = (214, 39, 40)
OTHER: Color = (150, 150, 150)
"""Marks that are neither the agent nor the goal, such as a start."""
ZONE: Color = (247, 198, 199)
"""The rewarded zone around a goal."""
_BACKGROUND, _LINE = 255, 225

_IMAGE_SIZE = 240  # pixels


class Disc(NamedTuple):
    """A filled circle; if its center lies outside the image, it is moved to the edge."""

    center: Sequence[float] | NDArray[np.float64]  # [2]
    radius: float
    color: Color


def render_discs(discs: Sequence[Disc], *, half_width: float) -> NDArray[np.uint8]:
    """Render discs in a square of the plane around the origin, x to the right and y up.

    Args:
        discs: later ones cover earlier ones.
        half_width: half-width of the square, in the plane's units.

    Returns:
        An image, shape [240, 240, 3].
    """
    image = np.full((_IMAGE_SIZE, _IMAGE_SIZE, 3), _BACKGROUND, np.uint8)
    middles = half_width * (
        (2 * np.arange(_IMAGE_SIZE) + 1) / _IMAGE_SIZE - 1
    )  # pixel centers, left to right
    image[:, _IMAGE_SIZE // 2] = image[_IMAGE_SIZE // 2] = _LINE  # the axes
    for center, radius, color in discs:
        x, y = np.clip(center, -half_width, half_width)
        inside = (middles - x) ** 2 + (middles[::-1, None] - y) ** 2 <= radius**2
        image[inside] = color
    return image


def render_cells(
    size: int, marks: Mapping[tuple[int, int], Color], agent: tuple[int, int]
) -> NDArray[np.uint8]:
    """Render a square grid, x to the right and y up, with the agent as a small square in its cell.

    Args:
        size: cells along each side.
        marks: colors of cells (x, y).
        agent: cell of the agent.

    Returns:
        An image, at most [240, 240, 3]; each cell has the same whole number of pixels.
    """
    pixels = _IMAGE_SIZE // size
    image = np.full((size, pixels, size, pixels, 3), _BACKGROUND, np.uint8)  # row, …, column, …
    for (x, y), color in marks.items():
        image[size - 1 - y, :, x] = color
    margin = pixels // 4
    within = slice(margin, pixels - margin)
    image[size - 1 - agent[1], within, agent[0], within] = AGENT
    image[:, 0] = image[:, :, :, 0] = _LINE  # the edges between cells
    return image.reshape(size * pixels, size * pixels, 3)
