"""What the families of a point in the plane share: its spaces, its moves and its picture.

The state of such a point is its position, which is also what is observed; an action is a
displacement, clipped in each coordinate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from .plane_picture import AGENT, GOAL, OTHER, ZONE, Disc, draw_discs
from .tensor_family import TensorFamily

__all__ = ["both", "distance", "draw_point", "moved", "shortest_way", "uniform_points", "use_plane"]


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
