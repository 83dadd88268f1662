"""Fast search for the hidden goal of a grid, as a reference for an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metarl.planning.search import search_path
from metarl.rollouts.episodes import Episodes
from metarl.rollouts.trials import ActorInput
from metarl.tasks.family import TaskFamily
from metarl.tasks.structure import Cell, HiddenGoalGrid
from metarl.validation import require_at_least

from .structures import require_structure

__all__ = ["GridSearch"]

_STEPS = {(0, 1), (1, 0), (0, -1), (-1, 0)}


class GridSearch:
    """Visits a new candidate cell at every step until a reward above 0 reveals the goal.

    The first episode is Bayes-optimal for a goal that is uniform over the candidates if the start
    is not one of them: no path visits more candidates in any number of steps. Its mean return is
    4.0 in the grid of Zintgraf et al. 2020, whose goal is never at the start. After the episode in
    which the goal was found, the agent acts like an oracle. Further episodes of search visit the
    remaining candidates, nearest first, which is not optimal in general.

    Source: Zintgraf et al. 2020, sec. 5.1, as the Bayes-optimal upper bound.
    """

    remembers = True

    def __init__(self, family: TaskFamily, *, num_episodes: int = 1) -> None:
        """
        Args:
            family: a grid with one hidden goal, such as `GridNavigation` or `DarkRoom`.
            num_episodes: episodes of a trial; the search does not depend on it.

        Raises:
            ValueError: if the family declares another structure or a number is out of range.
        """
        require_at_least("num_episodes", num_episodes, 1)
        self.grid = require_structure("grid search", family, HiddenGoalGrid)
        missing = _STEPS - set(self.grid.moves)
        if missing:
            raise ValueError(
                f"grid search needs moves by one cell in all four directions, but {family.id} "
                f"lacks {sorted(missing)}"
            )
        self.search_paths = _search_paths(self.grid, family.horizon)

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> _Searcher:
        """Create an actor at the start for which every goal is possible."""
        return _Searcher(self.grid, self.search_paths, (num_tasks, num_envs), generator.device)


class _Searcher:
    """Searches in all environments."""

    def __init__(
        self,
        grid: HiddenGoalGrid,
        search_paths: Sequence[Sequence[Cell]],
        batch_shape: tuple[int, int],
        device: torch.device,
    ) -> None:
        self._size = grid.size
        self._moves = torch.tensor(grid.moves, device=device)  # [5, 2]
        self._start = torch.tensor(grid.start, device=device)
        self._search_paths = torch.tensor(search_paths, device=device)  # [K, T + 1, 2]
        self._cells = self._start.expand(*batch_shape, 2)
        self._goals = torch.full((*batch_shape, 2), -1, device=device)  # −1 until the goal is found
        self._time = torch.zeros(batch_shape, dtype=torch.int64, device=device)
        self._episode = torch.zeros_like(self._time)

    def act(self, actor_input: ActorInput) -> Tensor:
        """The next step of the search, or toward the goal if it was found."""
        if actor_input.previous_actions is not None:
            self._update(actor_input, actor_input.previous_actions)
        next_cells = self._search_paths[self._episode, self._time + 1]
        targets = torch.where(self._goals >= 0, self._goals, next_cells)
        next_cells_of_moves = (self._cells.unsqueeze(-2) + self._moves).clamp(0, self._size - 1)
        return (next_cells_of_moves - targets.unsqueeze(-2)).abs().sum(-1).argmin(-1)

    def adapt(self, episodes: Episodes) -> None:
        """Do nothing: the actor learns while acting."""

    def _update(self, actor_input: ActorInput, actions: Tensor) -> None:
        """Update cells and goals after the previous actions."""
        num_paths, num_cells = self._search_paths.shape[:2]
        reached = (self._cells + self._moves[actions]).clamp(0, self._size - 1)
        found = (actor_input.previous_rewards > 0).unsqueeze(-1)
        self._goals = torch.where(found, reached, self._goals)
        ended = actor_input.episode_ended
        self._cells = torch.where(ended.unsqueeze(-1), self._start, reached)
        self._time = torch.where(ended, 0, self._time + 1).clamp(max=num_cells - 2)
        self._episode = (self._episode + ended).clamp(max=num_paths - 1)


def _search_paths(grid: HiddenGoalGrid, horizon: int) -> tuple[tuple[Cell, ...], ...]:
    """Search path of each episode, until all reachable goals are visited."""
    search_paths: list[tuple[Cell, ...]] = []
    left = set(grid.goals)
    while not search_paths or left:
        search_paths.append(search_path(grid.size, grid.start, left, horizon))
        if left.isdisjoint(search_paths[-1][1:]):  # the remaining goals are beyond the horizon
            break
        left = left - set(search_paths[-1][1:])
    return tuple(search_paths)
