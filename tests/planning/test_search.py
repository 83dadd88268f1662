"""Walks that search for a goal: moves to neighbors, as early as possible, and complete."""

import itertools

import pytest

from metarl.planning.search import search_path


def cells(size: int) -> set[tuple[int, int]]:
    return set(itertools.product(range(size), repeat=2))


def news(walk, candidates) -> list[bool]:
    """Whether each step leads to a candidate that was not visited before."""
    return [cell in candidates and cell not in walk[:t] for t, cell in enumerate(walk)][1:]


@pytest.mark.parametrize(
    ("size", "start", "steps"), [(5, (0, 0), 24), (10, (0, 0), 99), (9, (4, 4), 80)]
)
def test_every_step_visits_a_new_cell_of_an_open_grid(size, start, steps):
    walk = search_path(size, start, cells(size), steps)
    assert walk[0] == start
    assert all(news(walk, cells(size)))
    assert set(walk) == cells(size)


def test_the_grid_of_varibad_is_searched_without_a_wasted_step():
    goals = {(x, y) for x, y in cells(5) if max(x, y) > 1}
    walk = search_path(5, (0, 0), goals, 15)
    assert news(walk, goals) == [False] + [True] * 14  # none is nearer than 2 steps


def test_steps_lead_to_neighbors_or_nowhere():
    walk = search_path(6, (2, 3), {(0, 0), (5, 5), (5, 0)}, 40)
    assert len(walk) == 41
    for (x, y), (to_x, to_y) in itertools.pairwise(walk):
        assert abs(x - to_x) + abs(y - to_y) <= 1


def test_all_candidates_are_visited_and_then_the_walk_stays():
    walk = search_path(6, (2, 3), {(0, 0), (5, 5), (5, 0)}, 40)
    assert {(0, 0), (5, 5), (5, 0)} <= set(walk)
    assert walk[-1] == walk[-2]
    # (0, 0) is 5 steps away, as is (5, 5): the first of equals; then (5, 0) and (5, 5), 5 each
    assert (walk[5], walk[10], walk[15]) == ((0, 0), (5, 0), (5, 5))


def test_a_walk_without_candidates_stays():
    assert search_path(3, (1, 1), {(1, 1)}, 4) == ((1, 1),) * 5


def test_cells_off_the_grid_are_rejected():
    with pytest.raises(ValueError, match=r"the grid of 3 × 3, got \(3, 0\)"):
        search_path(3, (0, 0), {(3, 0)}, 4)
    with pytest.raises(ValueError, match="num_steps must be 1 or more, got 0"):
        search_path(3, (0, 0), {(1, 0)}, 0)
    with pytest.raises(ValueError, match="size must be 1 or more, got 0"):
        search_path(0, (0, 0), set(), 1)
