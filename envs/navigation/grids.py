"""Square grids with hidden cells to find; the agent observes only its own cell.

Cells are (x, y), starting at (0, 0); cell (x, y) of an n × n grid has the index n x + y. A step off
the grid leaves the agent in its cell. Episodes end only at the horizon. The range of actions is not
checked: an action that does not exist raises torch's IndexError on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from metarl.tasks.actions import require_action_indices
from metarl.tasks.family import listed_tasks, uniform_tasks
from metarl.tasks.spaces import Tasks
from metarl.tasks.structure import Cell, HiddenGoalGrid
from metarl.validation import lookup

from ..simulators.tensor import TensorFamily, Transition
from .plane import GOAL, OTHER, both_coordinates, render_cells

__all__ = ["DarkRoom", "GridNavigation", "KeyToDoor"]

_STAY, _UP, _RIGHT, _DOWN, _LEFT = (0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)
_GRID_MOVES = (_STAY, _UP, _RIGHT, _DOWN, _LEFT)
_DARK_MOVES = (_RIGHT, _LEFT, _UP, _DOWN, _STAY)
_DARK_ROOM_CELLS = 9  # along each side, in algorithm distillation


class _GridTasks(NamedTuple):
    """The tasks of a batch as tensors."""

    goals: Tensor  # [N, 1, 2], or [N, 1, 4]: the cells of key and door
    moves: Tensor  # [5, 2], the displacement of each action


def _set_grid_spaces(family: TensorFamily, size: int) -> None:
    family.observation_description, family.behavior = "the cell (x, y)", "path"
    family.observation_space = spaces.Box(0.0, size - 1.0, (2,), np.float32)
    family.action_space = spaces.Discrete(5)


def _move(cells: Tensor, actions: Tensor, moves: Tensor, size: int) -> Tensor:
    """Cells [N, E, 2] after actions [N, E]."""
    require_action_indices(actions, cells.shape[:2])
    return (cells + functional.embedding(actions, moves)).clamp(0, size - 1)


def _shortest_moves(cells: Tensor, goals: Tensor, moves: Tensor) -> Tensor:
    """First action [N, E] of a shortest path to the goal; at the goal, the action that stays."""
    next_cells = cells.unsqueeze(-2) + moves  # [N, E, 5, 2]
    return (next_cells - goals.unsqueeze(-2)).abs().sum(-1).argmin(-1)


def _cell_of_index(index: Tensor, size: int) -> Tensor:
    """Cells (x, y) of indices n x + y, along a new last axis."""
    return torch.stack([index // size, index % size], dim=-1)


class GridNavigation(TensorFamily):
    """An agent searches for the goal cell; the reward is 1 on the goal and −0.1 elsewhere.

    Task: the index of the goal among the 21 cells outside the 2 × 2 block around the start, in
    the order (0, 2), (0, 3), (0, 4), (1, 2), …, (4, 4), shape [1]. Observation: the cell, [2].
    Actions: stay, up, right, down, left. The grid is 5 × 5, and episodes start at (0, 0).

    Source: Zintgraf et al. 2020 (arXiv:1910.08348), sec. 5.1 and `GridNavi` of their code.
    """

    name: ClassVar[str] = "GridNavigation"
    _sources: ClassVar[dict[str, str]] = {"varibad": "Zintgraf et al. 2020 (arXiv:1910.08348)"}
    variants: ClassVar[tuple[str, ...]] = tuple(_sources)
    shared_tasks = "all"
    task_description = "goal uniform over 21 cells of a 5 × 5 grid"
    warning = "a trial in the source has 4 such episodes with the same goal"
    horizon = 15

    _SIZE: ClassVar = 5
    _GOALS: ClassVar = [(x, y) for x in range(5) for y in range(5) if x > 1 or y > 1]
    structure = HiddenGoalGrid(_SIZE, (0, 0), _GRID_MOVES, tuple(_GOALS))

    def __init__(self, variant: str) -> None:
        self.source = lookup("variant of GridNavigation", variant, self._sources)
        self.variant = variant
        self.task_space = spaces.Discrete(len(self._GOALS))
        _set_grid_spaces(self, self._SIZE)

    def prepare(self, tasks: Tensor) -> _GridTasks:
        goals = tasks.new_tensor(self._GOALS)[tasks.long()]
        return _GridTasks(goals, tasks.new_tensor(_GRID_MOVES))

    def initial_states(
        self, parameters: _GridTasks, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        del generator  # every episode starts at (0, 0)
        return parameters.goals.new_zeros(*shape, 2)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: _GridTasks, generator: torch.Generator
    ) -> Transition:
        del generator
        cells = _move(states, actions, parameters.moves, self._SIZE)
        on_goal = both_coordinates(cells == parameters.goals)
        return Transition(cells, torch.where(on_goal, 1.0, -0.1).to(torch.float32))

    def best_actions(self, states: Tensor, parameters: _GridTasks, time: Tensor) -> Tensor:
        del time
        return _shortest_moves(states, parameters.goals, parameters.moves)

    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        return render_cells(self._SIZE, {self._GOALS[int(task[0])]: GOAL}, _cell(state))


@dataclass(frozen=True)
class _Variant:
    source: str
    size: int
    start: Cell
    horizon: int
    holds_out_goals: bool  # whether a fixed list of goals is used only for testing
    warning: str = ""


_DARK = {
    "dpt": _Variant(
        "Lee et al. 2023 (arXiv:2306.14892)",
        size=10,
        start=(0, 0),
        horizon=100,
        holds_out_goals=True,
    ),
    "ad": _Variant(
        "Laskin et al. 2022 (arXiv:2210.14215)",
        size=_DARK_ROOM_CELLS,
        start=(4, 4),
        horizon=20,
        holds_out_goals=False,
        warning="the held-out goals of the source are not published; both splits contain all goals",
    ),
}


class DarkRoom(TensorFamily):
    """An agent searches for the goal cell; a step that ends there has reward 1, other steps 0.

    Task: the index n x + y of the goal, shape [1]. Observation: the cell, [2]. Actions: right,
    left, up, down, stay. In "dpt", 80 goals are in the split "train" and 20 in "test", in the
    fixed order of the source.

    Source: Lee et al. 2023 (arXiv:2306.14892) and their code; Laskin et al. 2022
    (arXiv:2210.14215), whose code is not public, with the order of actions of Lee et al.
    """

    name: ClassVar[str] = "DarkRoom"
    variants: ClassVar[tuple[str, ...]] = tuple(_DARK)

    def __init__(self, variant: str) -> None:
        self._params = params = lookup("variant of DarkRoom", variant, _DARK)
        self.variant, self.source, self.warning = variant, params.source, params.warning
        self.horizon, size = params.horizon, params.size
        self.shared_tasks = "none" if params.holds_out_goals else "all"
        self.task_space = spaces.Discrete(size**2)
        goals = tuple(divmod(index, size) for index in range(size**2))
        self.structure = HiddenGoalGrid(size, params.start, _DARK_MOVES, goals)
        held_out = ", one in five held out for testing" if params.holds_out_goals else ""
        self.task_description = f"goal uniform over {size} × {size} cells{held_out}"
        _set_grid_spaces(self, size)

    def prepare(self, tasks: Tensor) -> _GridTasks:
        goals = _cell_of_index(tasks, self._params.size)
        return _GridTasks(goals, tasks.new_tensor(_DARK_MOVES))

    def initial_states(
        self, parameters: _GridTasks, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        del generator  # every episode starts in the same cell
        start = parameters.goals.new_tensor(self._params.start)
        return start.expand(*shape, 2).contiguous()

    def transition(
        self, states: Tensor, actions: Tensor, parameters: _GridTasks, generator: torch.Generator
    ) -> Transition:
        del generator
        cells = _move(states, actions, parameters.moves, self._params.size)
        return Transition(cells, both_coordinates(cells == parameters.goals).to(states.dtype))

    def best_actions(self, states: Tensor, parameters: _GridTasks, time: Tensor) -> Tensor:
        del time
        return _shortest_moves(states, parameters.goals, parameters.moves)

    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        size = self._params.size
        x, y = divmod(int(task[0]), size)
        return render_cells(size, {(x, y): GOAL}, _cell(state))

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        if not self._params.holds_out_goals:
            return uniform_tasks(self.task_space, num_tasks, rng)
        goals = np.arange(self._params.size**2, dtype=np.float64)[:, None]
        np.random.RandomState(0).shuffle(goals)  # the order of the source
        num_train = len(goals) * 4 // 5
        chosen = goals[:num_train] if split == "train" else goals[num_train:]
        return listed_tasks(chosen, num_tasks, rng)


class KeyToDoor(TensorFamily):
    """An agent searches for a key, then for a door; each gives reward 1 once, in this order.

    Task: the indices 9 x + y of key and door, shape [2]; if they share a cell, its first visit has
    reward 2. Observation: only the cell, [2]; the agent does not observe
    whether it has the key. Actions: right, left, up, down,
    stay. The start is uniform over the 9 × 9 grid; a key or door in the start cell is found by
    staying there.

    Source: Laskin et al. 2022 (arXiv:2210.14215), whose code is not public: the order of the
    actions is the one of `DarkRoom`, and we assume that the episode continues after the door.
    """

    name: ClassVar[str] = "KeyToDoor"
    _sources: ClassVar[dict[str, str]] = {"ad": "Laskin et al. 2022 (arXiv:2210.14215)"}
    variants: ClassVar[tuple[str, ...]] = tuple(_sources)
    shared_tasks = "all"
    task_description = "key cell and door cell, each uniform over 9 × 9"
    warning = (
        "the held-out tasks of the source are not published: both splits contain all 6561; other "
        "code bases end the episode at the door"
    )
    horizon = 50

    _SIZE: ClassVar = _DARK_ROOM_CELLS

    def __init__(self, variant: str) -> None:
        self.source = lookup("variant of KeyToDoor", variant, self._sources)
        self.variant = variant
        self.task_space = spaces.MultiDiscrete([self._SIZE**2] * 2)
        _set_grid_spaces(self, self._SIZE)

    def prepare(self, tasks: Tensor) -> _GridTasks:
        cells = _cell_of_index(tasks, self._SIZE).flatten(1).unsqueeze(1)
        return _GridTasks(cells, tasks.new_tensor(_DARK_MOVES))

    def initial_states(
        self, parameters: _GridTasks, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        """The cell, whether the key was found, and whether the door was opened. Shape [N, E, 4]."""
        device = generator.device
        cells = torch.randint(self._SIZE, (*shape, 2), generator=generator, device=device)
        return torch.cat([cells, torch.zeros_like(cells)], dim=-1).to(parameters.goals.dtype)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: _GridTasks, generator: torch.Generator
    ) -> Transition:
        del generator
        cells = _move(states[..., :2], actions, parameters.moves, self._SIZE)
        key, door = parameters.goals.split(2, dim=-1)
        has_key = both_coordinates(cells == key) | (states[..., 2] > 0)
        opened = both_coordinates(cells == door) & has_key | (states[..., 3] > 0)
        found = torch.stack([has_key, opened], dim=-1).to(states.dtype)
        rewards = (found - states[..., 2:]).sum(-1)
        return Transition(torch.cat([cells, found], dim=-1), rewards)

    def observe(self, states: Tensor) -> Tensor:
        return states[..., :2]

    def best_actions(self, states: Tensor, parameters: _GridTasks, time: Tensor) -> Tensor:
        del time
        key, door = parameters.goals.split(2, dim=-1)
        target = torch.where(states[..., 2:3] > 0, door, key)
        return _shortest_moves(states[..., :2], target, parameters.moves)

    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """Image of the grid: the door in red, and the key in gray until it is found."""
        key, door = (divmod(int(index), self._SIZE) for index in task)
        marks = {door: GOAL} if state[2] > 0 else {door: GOAL, key: OTHER}
        return render_cells(self._SIZE, marks, _cell(state))


def _cell(state: NDArray[np.float64]) -> tuple[int, int]:
    return int(state[0]), int(state[1])
