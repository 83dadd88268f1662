"""Search for a hidden cell of a grid: the order in which to visit cells."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from metarl.validation import require_at_least

__all__ = ["search_path"]

Cell = tuple[int, int]


def search_path(
    size: int, start: Cell, candidates: Collection[Cell], num_steps: int
) -> tuple[Cell, ...]:
    """A walk that visits all candidate cells of the goal one after another, nearest first.

    Among equally near cells the walk takes the one with the fewest unvisited neighbors, so that no
    cell is left behind, and among several of them the smallest (x, y). If, from the first reachable
    candidate on, the walk visits a new candidate at every step, then it is optimal on average for a
    goal that is uniform over the candidates: at each step it has visited as many as possible.

    Args:
        size: cells along each side.
        start: first cell (x, y) of the walk; it counts as visited.
        candidates: possible cells of the goal.
        num_steps: steps to neighboring cells; after the last candidate the walk stays.

    Returns:
        The cells after 0 … num_steps steps, num_steps + 1 of them.

    Raises:
        ValueError: if a number is below 1, or a cell lies off the grid.

    Source: ties are broken as in Warnsdorff's rule for knight's tours (1823). Paths follow x first.
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
        target = min(
            left, key=lambda cell: (_distance(here, cell), _num_neighbors(cell, left), cell)
        )
        walk += _shortest_path(here, target)
        left -= set(walk)
    walk += [walk[-1]] * num_steps
    return tuple(walk[: num_steps + 1])


def _distance(one: Cell, other: Cell) -> int:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def _num_neighbors(cell: Cell, left: Collection[Cell]) -> int:
    """Unvisited candidates next to a cell."""
    return sum(_distance(cell, other) == 1 for other in left)


def _shortest_path(here: Cell, there: Cell) -> Sequence[Cell]:
    """The cells after `here` on a shortest path, along x first."""
    (x, y), (to_x, to_y) = here, there
    along, up = (1 if to_x > x else -1), (1 if to_y > y else -1)
    horizontal = [(at, y) for at in range(x + along, to_x + along, along)] if to_x != x else []
    vertical = [(to_x, at) for at in range(y + up, to_y + up, up)] if to_y != y else []
    return horizontal + vertical
