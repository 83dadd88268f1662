"""Walkers on a square grid who see their own cell only, and must find what is hidden in others.

Cells are (x, y) from (0, 0) on; where a task is one number, cell (x, y) of a grid of n × n has the
index n x + y. A step off the grid leaves the walker where it is. Episodes end at the horizon only.
An action that does not exist is not looked for: on the CPU it raises torch's IndexError.
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
from .plane import GOAL, OTHER, both, draw_cells

__all__ = ["DarkRoom", "GridNavigation", "KeyToDoor"]

_STAY, _UP, _RIGHT, _DOWN, _LEFT = (0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)
_GRID_MOVES = (_STAY, _UP, _RIGHT, _DOWN, _LEFT)
_DARK_MOVES = (_RIGHT, _LEFT, _UP, _DOWN, _STAY)
_DARK_ROOM_CELLS = 9  # along each side, in algorithm distillation


class _Room(NamedTuple):
    """What a batch knows of its tasks."""

    goals: Tensor  # [N, 1, 2], or [N, 1, 4]: the key's cell and the door's
    moves: Tensor  # [5, 2], the displacement of each action


def _use_grid(family: TensorFamily, size: int) -> None:
    family.observation_description, family.behaviour = "the cell (x, y)", "path"
    family.observation_space = spaces.Box(0.0, size - 1.0, (2,), np.float32)
    family.action_space = spaces.Discrete(5)


def _walked(cells: Tensor, actions: Tensor, moves: Tensor, size: int) -> Tensor:
    """Where actions [N, E] lead from cells [N, E, 2]."""
    require_action_indices(actions, cells.shape[:2])
    return (cells + functional.embedding(actions, moves)).clamp(0, size - 1)


def _steps_towards(cells: Tensor, goals: Tensor, moves: Tensor) -> Tensor:
    """Actions [N, E] of a shortest way; staying, at the goal."""
    led = cells.unsqueeze(-2) + moves  # [N, E, 5, 2]
    return (led - goals.unsqueeze(-2)).abs().sum(-1).argmin(-1)


def _cell_of_index(index: Tensor, size: int) -> Tensor:
    """The cell (x, y) of an index n x + y, along a new last axis."""
    return torch.stack([index // size, index % size], dim=-1)


class GridNavigation(TensorFamily):
    """A walker looks for the goal cell; each step pays 1 on the goal and −.1 elsewhere.

    Task: the index of the goal among the 21 cells that are not in the start's block of 2 × 2, in
    the order (0, 2), (0, 3), (0, 4), (1, 2), …, (4, 4), shape [1]. Observation: the cell, [2].
    Actions: stay, up, right, down, left. The start is (0, 0) and the grid 5 × 5.

    Source: Zintgraf et al. 2020 (arXiv:1910.08348), sec. 5.1 and `GridNavi` of their code.
    """

    name: ClassVar[str] = "GridNavigation"
    _sources: ClassVar[dict[str, str]] = {"varibad": "Zintgraf et al. 2020 (arXiv:1910.08348)"}
    variants: ClassVar[tuple[str, ...]] = tuple(_sources)
    same_tasks_in_splits = True
    task_description = "goal cell uniform over 21 of 5 × 5"
    warning = "the source's trials are of 4 such episodes with one goal"
    horizon = 15

    _SIZE: ClassVar = 5
    _GOALS: ClassVar = [(x, y) for x in range(5) for y in range(5) if x > 1 or y > 1]
    structure = HiddenGoalGrid(_SIZE, (0, 0), _GRID_MOVES, tuple(_GOALS))

    def __init__(self, variant: str) -> None:
        self.source = lookup("variant of GridNavigation", variant, self._sources)
        self.variant = variant
        self.task_space = spaces.Discrete(len(self._GOALS))
        _use_grid(self, self._SIZE)

    def prepare(self, tasks: Tensor) -> _Room:
        goals = tasks.new_tensor(self._GOALS)[tasks.long()]
        return _Room(goals, tasks.new_tensor(_GRID_MOVES))

    def initial_states(
        self, parameters: _Room, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        del generator  # every episode starts at (0, 0)
        return parameters.goals.new_zeros(*shape, 2)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: _Room, generator: torch.Generator
    ) -> Transition:
        del generator
        cells = _walked(states, actions, parameters.moves, self._SIZE)
        on_goal = both(cells == parameters.goals)
        return Transition(cells, torch.where(on_goal, 1.0, -0.1))

    def best_actions(self, states: Tensor, parameters: _Room, time: Tensor) -> Tensor:
        del time
        return _steps_towards(states, parameters.goals, parameters.moves)

    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        return draw_cells(self._SIZE, {self._GOALS[int(task[0])]: GOAL}, _cell(state))

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        del split  # all goals are for training and test, as in the source
        return uniform_tasks(self.task_space, num_tasks, rng)


@dataclass(frozen=True)
class _Dark:
    source: str
    size: int
    start: Cell
    horizon: int
    holds_out: bool  # whether a fixed list of goals is kept for the test
    warning: str = ""


_DARK = {
    "dpt": _Dark(
        "Lee et al. 2023 (arXiv:2306.14892)", size=10, start=(0, 0), horizon=100, holds_out=True
    ),
    "ad": _Dark(
        "Laskin et al. 2022 (arXiv:2210.14215)",
        size=_DARK_ROOM_CELLS,
        start=(4, 4),
        horizon=20,
        holds_out=False,
        warning="which goals the source held out is not published; both splits draw from all",
    ),
}


class DarkRoom(TensorFamily):
    """A walker in the dark looks for the goal cell; each step that leads to it pays 1, others 0.

    Task: the index n x + y of the goal, shape [1]. Observation: the cell, [2]. Actions: right,
    left, up, down, stay. Of "dpt" 80 goals are the split "train" and 20 "test", by its own list.

    Source: Lee et al. 2023 (arXiv:2306.14892) and their code; Laskin et al. 2022
    (arXiv:2210.14215), whose code is not public: the order of the actions is that of the former.
    """

    name: ClassVar[str] = "DarkRoom"
    variants: ClassVar[tuple[str, ...]] = tuple(_DARK)

    def __init__(self, variant: str) -> None:
        self._numbers = numbers = lookup("variant of DarkRoom", variant, _DARK)
        self.variant, self.source, self.warning = variant, numbers.source, numbers.warning
        self.horizon, size = numbers.horizon, numbers.size
        self.same_tasks_in_splits = not numbers.holds_out
        self.task_space = spaces.Discrete(size**2)
        goals = tuple(divmod(index, size) for index in range(size**2))
        self.structure = HiddenGoalGrid(size, numbers.start, _DARK_MOVES, goals)
        held_out = ", one in five kept for the test" if numbers.holds_out else ""
        self.task_description = f"goal cell uniform over {size} × {size}{held_out}"
        _use_grid(self, size)

    def prepare(self, tasks: Tensor) -> _Room:
        goals = _cell_of_index(tasks, self._numbers.size)
        return _Room(goals, tasks.new_tensor(_DARK_MOVES))

    def initial_states(
        self, parameters: _Room, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        del generator  # every episode starts in one cell
        start = parameters.goals.new_tensor(self._numbers.start)
        return start.expand(*shape, 2).contiguous()

    def transition(
        self, states: Tensor, actions: Tensor, parameters: _Room, generator: torch.Generator
    ) -> Transition:
        del generator
        cells = _walked(states, actions, parameters.moves, self._numbers.size)
        return Transition(cells, both(cells == parameters.goals).to(states.dtype))

    def best_actions(self, states: Tensor, parameters: _Room, time: Tensor) -> Tensor:
        del time
        return _steps_towards(states, parameters.goals, parameters.moves)

    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        size = self._numbers.size
        x, y = divmod(int(task[0]), size)
        return draw_cells(size, {(x, y): GOAL}, _cell(state))

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        if not self._numbers.holds_out:
            return uniform_tasks(self.task_space, num_tasks, rng)
        goals = np.arange(self._numbers.size**2, dtype=np.float64)[:, None]
        np.random.RandomState(0).shuffle(goals)  # the order of the source
        num_train = len(goals) * 4 // 5
        kept = goals[:num_train] if split == "train" else goals[num_train:]
        return listed_tasks(kept, num_tasks, rng)


class KeyToDoor(TensorFamily):
    """A walker in the dark looks for a key, then for a door: each pays 1, once, in this order.

    Task: the indices 9 x + y of key and door, shape [2]; they may be one cell, which then pays 2
    at once. Observation: the cell, [2]; what was found is not seen. Actions: right, left, up,
    down, stay. The start is uniform over the grid of 9 × 9. What lies in the start's own cell is
    found by staying there.

    Source: Laskin et al. 2022 (arXiv:2210.14215), whose code is not public: the order of the
    actions is that of `DarkRoom`, and that the episode goes on after the door is our reading.
    """

    name: ClassVar[str] = "KeyToDoor"
    _sources: ClassVar[dict[str, str]] = {"ad": "Laskin et al. 2022 (arXiv:2210.14215)"}
    variants: ClassVar[tuple[str, ...]] = tuple(_sources)
    same_tasks_in_splits = True
    task_description = "key cell and door cell, each uniform over 9 × 9"
    warning = (
        "which tasks the source held out is not published: both splits draw from all 6561; other "
        "code bases end the episode at the door"
    )
    horizon = 50

    _SIZE: ClassVar = _DARK_ROOM_CELLS

    def __init__(self, variant: str) -> None:
        self.source = lookup("variant of KeyToDoor", variant, self._sources)
        self.variant = variant
        self.task_space = spaces.MultiDiscrete([self._SIZE**2] * 2)
        _use_grid(self, self._SIZE)

    def prepare(self, tasks: Tensor) -> _Room:
        cells = _cell_of_index(tasks, self._SIZE).flatten(1).unsqueeze(1)
        return _Room(cells, tasks.new_tensor(_DARK_MOVES))

    def initial_states(
        self, parameters: _Room, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        """The cell, and 0 twice: neither key nor door found. Shape [N, E, 4]."""
        device = generator.device
        cells = torch.randint(self._SIZE, (*shape, 2), generator=generator, device=device)
        return torch.cat([cells, torch.zeros_like(cells)], dim=-1).to(parameters.goals.dtype)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: _Room, generator: torch.Generator
    ) -> Transition:
        del generator
        cells = _walked(states[..., :2], actions, parameters.moves, self._SIZE)
        key, door = parameters.goals.split(2, dim=-1)
        has_key = both(cells == key) | (states[..., 2] > 0)
        opened = both(cells == door) & has_key | (states[..., 3] > 0)
        found = torch.stack([has_key, opened], dim=-1).to(states.dtype)
        rewards = (found - states[..., 2:]).sum(-1)
        return Transition(torch.cat([cells, found], dim=-1), rewards)

    def observe(self, states: Tensor) -> Tensor:
        return states[..., :2]

    def best_actions(self, states: Tensor, parameters: _Room, time: Tensor) -> Tensor:
        del time
        key, door = parameters.goals.split(2, dim=-1)
        target = torch.where(states[..., 2:3] > 0, door, key)
        return _steps_towards(states[..., :2], target, parameters.moves)

    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """The door as a goal; the key, until it is found, in grey."""
        key, door = (divmod(int(index), self._SIZE) for index in task)
        marks = {door: GOAL} if state[2] > 0 else {door: GOAL, key: OTHER}
        return draw_cells(self._SIZE, marks, _cell(state))

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        del split  # key and door may lie anywhere in both
        return uniform_tasks(self.task_space, num_tasks, rng)


def _cell(state: NDArray[np.float64]) -> tuple[int, int]:
    return int(state[0]), int(state[1])
