"""Looking for a hidden cell of a grid: in which order to visit cells."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from metarl.validation import require_at_least

__all__ = ["search_path"]

Cell = tuple[int, int]


def search_path(
    size: int, start: Cell, candidates: Collection[Cell], num_steps: int
) -> tuple[Cell, ...]:
    """A walk that visits cells where the goal may lie, one after the other, nearest first.

    Of cells equally near the walk takes the one with the fewest unvisited candidates around it, so
    that none is left behind; of several, the one that came first in (x, y). Where the walk visits
    a new candidate at every step, from as soon as one can be reached, no walk finds a goal that is
    uniform over the candidates earlier: at each step as many have been visited as can be.

    Args:
        size: cells along each side.
        start: the cell (x, y) where the walk starts; it counts as visited.
        candidates: cells where the goal may lie.
        num_steps: to neighbouring cells; when all are visited the walk stays.

    Returns:
        The cells after 0 … num_steps steps, num_steps + 1 of them.

    Raises:
        ValueError: if a number is below 1, or a cell lies off the grid.

    Source: the order of ties is Warnsdorff's (1823) for knights. A cell is walked to along x first.
    """
    require_at_least("size", size, 1)
    require_at_least("num_steps", num_steps, 1)
    for cell in (start, *candidates):
        if not all(0 <= coordinate < size for coordinate in cell):
            raise ValueError(f"cells must lie on the grid of {size} × {size}, got {cell}")
    left = set(candidates) - {start}
    walk = [start]
    while left and len(walk) <= num_steps:
        here = walk[-1]
        target = min(left, key=lambda cell: (_distance(here, cell), _company(cell, left), cell))
        walk += _way(here, target)
        left -= set(walk)
    walk += [walk[-1]] * num_steps
    return tuple(walk[: num_steps + 1])


def _distance(one: Cell, other: Cell) -> int:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def _company(cell: Cell, left: Collection[Cell]) -> int:
    """Candidates beside a cell."""
    return sum(_distance(cell, other) == 1 for other in left)


def _way(here: Cell, there: Cell) -> Sequence[Cell]:
    """The cells after `here` on a shortest way, along x first."""
    (x, y), (to_x, to_y) = here, there
    along, up = (1 if to_x > x else -1), (1 if to_y > y else -1)
    horizontal = [(at, y) for at in range(x + along, to_x + along, along)] if to_x != x else []
    vertical = [(to_x, at) for at in range(y + up, to_y + up, up)] if to_y != y else []
    return horizontal + vertical
