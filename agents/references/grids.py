"""Searching a dark grid for its goal as fast as can be: a reference for an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from gymnasium import spaces
from torch import Tensor

from metarl.planning.search import Cell, search_path
from metarl.rollouts.episodes import Episodes
from metarl.rollouts.trials import ActorInput
from metarl.tasks.family import TaskFamily
from metarl.validation import require_at_least

__all__ = ["GridSearch"]

_STAY, _UP, _RIGHT, _DOWN, _LEFT = (0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)


@dataclass(frozen=True)
class _Grid:
    """What a source says of its grid."""

    size: int
    start: Cell
    moves: tuple[Cell, ...]  # the displacement of each action
    nearest_goal: int = 0  # goals have an x or a y of at least this

    @property
    def goals(self) -> set[Cell]:
        cells = range(self.size)
        return {(x, y) for x in cells for y in cells if max(x, y) >= self.nearest_goal}


_DARK_MOVES = (_RIGHT, _LEFT, _UP, _DOWN, _STAY)
_GRIDS = (
    # Zintgraf et al. 2020 (arXiv:1910.08348), sec. 5.1
    _Grid(5, (0, 0), (_STAY, _UP, _RIGHT, _DOWN, _LEFT), nearest_goal=2),
    _Grid(10, (0, 0), _DARK_MOVES),  # Lee et al. 2023 (arXiv:2306.14892)
    _Grid(9, (4, 4), _DARK_MOVES),  # Laskin et al. 2022 (arXiv:2210.14215)
)


class GridSearch:
    """Visits a new cell where the goal may lie at every step; once there, stays or comes back.

    Which cell is the goal shows by a reward above 0. In the first episode this is Bayes-optimal
    for a goal uniform over the candidates, up to what is worth staying at the start for: no walk
    has visited more candidates after any number of steps. It earns 4.0 in the grid of Zintgraf et
    al. 2020, whose goal is never at the start; from the episode after the one in which the goal
    was found it earns what is earned by knowing it. Later episodes of search visit what is left,
    nearest first, which need not be optimal.

    Source: the ceiling of Zintgraf et al. 2020, sec. 5.1, there called Bayes-optimal.
    """

    remembers = True

    def __init__(self, family: TaskFamily, *, num_episodes: int = 1) -> None:
        """
        Args:
            family: a grid of one hidden goal: `GridNavigation` or `DarkRoom`.
            num_episodes: episodes of a trial; the search does not depend on it.

        Raises:
            ValueError: if the family is none of these.
        """
        require_at_least("num_episodes", num_episodes, 1)
        self.grid = _known_grid(family)
        self.walks = _walks(self.grid, family.horizon)

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> _Searcher:
        """Begin at the start, every goal possible."""
        return _Searcher(self.grid, self.walks, (num_tasks, num_envs), generator.device)


class _Searcher:
    """Walks in all environments."""

    def __init__(
        self,
        grid: _Grid,
        walks: Sequence[Sequence[Cell]],
        lead: tuple[int, int],
        device: torch.device,
    ) -> None:
        self._size = grid.size
        self._moves = torch.tensor(grid.moves, device=device)  # [5, 2]
        self._start = torch.tensor(grid.start, device=device)
        self._walks = torch.tensor(walks, device=device)  # [K, T + 1, 2]
        self._cells = self._start.expand(*lead, 2)
        self._goals = torch.full((*lead, 2), -1, device=device)  # −1 until it is found
        self._time = torch.zeros(lead, dtype=torch.int64, device=device)
        self._episode = torch.zeros_like(self._time)

    def act(self, moment: ActorInput) -> Tensor:
        """The next step of the walk, or towards the goal where it was found."""
        if moment.previous_actions is not None:
            self._look(moment, moment.previous_actions)
        next_cells = self._walks[self._episode, self._time + 1]
        targets = torch.where(self._goals >= 0, self._goals, next_cells)
        led = (self._cells.unsqueeze(-2) + self._moves).clamp(0, self._size - 1)
        return (led - targets.unsqueeze(-2)).abs().sum(-1).argmin(-1)

    def adapt(self, episodes: Episodes) -> None:
        """Everything is learnt while acting."""

    def _look(self, moment: ActorInput, actions: Tensor) -> None:
        """Where the last actions led, and whether the goal was there."""
        num_walks, num_cells = self._walks.shape[:2]
        reached = (self._cells + self._moves[actions]).clamp(0, self._size - 1)
        found = (moment.previous_rewards > 0).unsqueeze(-1)
        self._goals = torch.where(found, reached, self._goals)
        ended = moment.episode_ended
        self._cells = torch.where(ended.unsqueeze(-1), self._start, reached)
        self._time = torch.where(ended, 0, self._time + 1).clamp(max=num_cells - 2)
        self._episode = (self._episode + ended).clamp(max=num_walks - 1)


def _known_grid(family: TaskFamily) -> _Grid:
    task, observation = family.task_space, family.observation_space
    if isinstance(task, spaces.Discrete) and observation.shape == (2,):
        for grid in _GRIDS:
            if task.n == len(grid.goals) and (observation.high == grid.size - 1).all():
                return grid
    raise ValueError(
        "grid search needs a grid with one hidden goal (GridNavigation or DarkRoom), "
        f"got {family.id}"
    )


def _walks(grid: _Grid, horizon: int) -> tuple[tuple[Cell, ...], ...]:
    """The walk of each episode of search, until every goal would have been found."""
    walks: list[tuple[Cell, ...]] = []
    left = grid.goals
    while not walks or left:
        walks.append(search_path(grid.size, grid.start, left, horizon))
        left = left - set(walks[-1][1:])
    return tuple(walks)
