"""What an agent does before and after it adapts: where it goes, what it chooses, how it looks.

A family says which of these is worth a look (`TaskFamily.behaviour`). The pictures of it are in
`behaviour_plots` and `films`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import NamedTuple, TypeAlias

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.evaluation.observer import Places, WatchedPlay
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.rl.players import AdaptiveAgent
from metarl.tasks.family import RendersBatch, TaskFamily
from metarl.tasks.spaces import Tasks
from metarl.validation import require_at_least

__all__ = ["Recording", "Choices", "Films", "Paths", "record_behaviour", "record_films"]

Numbers: TypeAlias = NDArray[np.float64]
Picture: TypeAlias = NDArray[np.uint8]

_MOST_FRAMES = 60


class Paths(NamedTuple):
    """Ways through the plane: S stages, N tasks, E episodes of each, up to T steps."""

    tasks: Tasks  # [N, D]
    stages: tuple[str, ...]  # S names
    places: Numbers  # [S, N, E, T + 1, 2], nan after an episode's end
    returns: Numbers  # [S, N, E]
    oracle: Numbers | None  # [N, E, T + 1, 2], the ways of one who knows the tasks
    is_grid: bool  # whether places are cells of a grid


class Choices(NamedTuple):
    """Which of a few actions were taken: S stages, N tasks, E episodes of each, T steps."""

    tasks: Tasks  # [N, D]
    stages: tuple[str, ...]  # S names
    chosen: NDArray[np.int64]  # [S, N, E, T], −1 after an episode's end
    returns: Numbers  # [S, N, E]
    best: NDArray[np.int64] | None  # [S, N, E, T], what the oracle would have chosen there
    num_choices: int


class Films(NamedTuple):
    """One episode of each of N tasks at S stages, in pictures."""

    tasks: Tasks  # [N, D]
    stages: tuple[str, ...]  # S names
    frames: list[list[list[Picture]]]  # [S][N][frames], each [height, width, 3]
    returns: Numbers  # [S, N]
    steps_per_frame: int


Recording: TypeAlias = Paths | Choices | Films


def record_behaviour(
    agent: AdaptiveAgent,
    family: TaskFamily,
    tasks: Tasks,
    protocol: EvaluationProtocol,
    *,
    num_episodes: int = 3,
    device: torch.device | str = "cpu",
) -> Recording | None:
    """What is worth a look, at the first stage of a protocol and at its last.

    Args:
        agent: plays as in an evaluation.
        family: says what is worth a look.
        tasks: shape [N, D].
        protocol: how the agent adapts; its number of tasks and its split are not used.
        num_episodes: episodes of each task that are kept, the first; of films one.
        device: where the agent computes.

    Returns:
        None if the family has nothing to show: its behaviour is a video, and it has no picture.

    Raises:
        ValueError: if a number is out of range, or the family shows paths or choices but does not
            observe two numbers, has no `Discrete` actions, or cannot be drawn here.
    """
    require_at_least("num_episodes", num_episodes, 1)
    stages = tuple(sorted({0, protocol.adaptation_steps}))
    play = WatchedPlay(agent, family, tasks, protocol, stages, num_episodes, torch.device(device))
    if family.behaviour == "path":
        return _record_paths(play)
    if family.behaviour == "choices":
        return _record_choices(play)
    return record_films(agent, family, tasks, protocol, stages=stages, device=device)


def record_films(
    agent: AdaptiveAgent,
    family: TaskFamily,
    tasks: Tasks,
    protocol: EvaluationProtocol,
    *,
    stages: Sequence[int],
    max_frames: int = _MOST_FRAMES,
    device: torch.device | str = "cpu",
) -> Films | None:
    """The first episode of each task at some stages of a protocol, in pictures.

    Args:
        agent: plays as in an evaluation.
        family: draws its environments.
        tasks: shape [N, D].
        protocol: how the agent adapts; its number of tasks and its split are not used.
        stages: which, in rising order; 0 is before adaptation.
        max_frames: of an episode as long as the horizon; steps between frames are left out.
        device: where the agent computes.

    Returns:
        None if the family has no picture.

    Raises:
        ValueError: if a stage or a number is out of range, or the environment cannot be drawn here.
    """
    require_at_least("max_frames", max_frames, 1)
    play = WatchedPlay(agent, family, tasks, protocol, tuple(stages), 1, torch.device(device))
    with closing(play.make_batch()) as env:
        if not (family.has_picture and isinstance(env, RendersBatch)):
            return None
        every = -(-family.horizon // max_frames)
        films = _FilmNotes(play, _drawing(env), every)
        play.show(env, films)
    returns = films.returns[..., 0]
    return Films(play.tasks, play.stage_names, films.frames, returns, every)


def _drawing(env: RendersBatch) -> Callable[[int, int], Picture]:
    """The batch's `render`; if the environment or this machine cannot draw, a ValueError."""

    def draw(task: int, index: int) -> Picture:
        try:
            return env.render(task, index)
        except RuntimeError as error:  # NotImplementedError is one
            raise ValueError(str(error)) from error

    return draw


class _PathNotes:
    """Where agents were."""

    def __init__(self, play: WatchedPlay) -> None:
        self.places = np.full((*play.shape, play.family.horizon + 1, 2), np.nan)
        self.returns = np.zeros(play.shape)

    def look(self, where: Places, observations: Tensor) -> None:
        self.places[where] = where.pick(observations[..., :2])

    def note(self, where: Places, actions: Tensor, rewards: Tensor) -> None:
        del actions
        self.returns[where[:3]] += where.pick(rewards)


class _ChoiceNotes:
    """What agents chose, and what the oracle would have chosen."""

    def __init__(self, play: WatchedPlay, oracle: Callable[[], Tensor | None]) -> None:
        self.chosen = np.full((*play.shape, play.family.horizon), -1)
        self.returns = np.zeros(play.shape)
        self._best = np.full((*play.shape, play.family.horizon + 1), -1)
        self._oracle = oracle

    @property
    def best(self) -> NDArray[np.int64] | None:
        """As `chosen`; None without an oracle."""
        best = np.where(self.chosen < 0, -1, self._best[..., :-1])
        return best if (best >= 0).any() else None

    def look(self, where: Places, observations: Tensor) -> None:
        del observations
        best = self._oracle()
        if best is not None:
            self._best[where] = where.pick(best)

    def note(self, where: Places, actions: Tensor, rewards: Tensor) -> None:
        self.chosen[where] = where.pick(actions)
        self.returns[where[:3]] += where.pick(rewards)


class _FilmNotes:
    """Every few steps a picture."""

    def __init__(
        self, play: WatchedPlay, render: Callable[[int, int], Picture], every: int
    ) -> None:
        num_stages, num_tasks, _ = play.shape
        self.frames: list[list[list[Picture]]] = [
            [[] for _ in range(num_tasks)] for _ in range(num_stages)
        ]
        self.returns = np.zeros(play.shape)
        self._render, self._every = render, every

    def look(self, where: Places, observations: Tensor) -> None:
        del observations
        for stage, task, env, time in zip(*where, strict=True):
            if time % self._every == 0:
                self.frames[stage][task].append(self._render(int(task), int(env)))

    def note(self, where: Places, actions: Tensor, rewards: Tensor) -> None:
        del actions
        self.returns[where[:3]] += where.pick(rewards)


def _record_paths(play: WatchedPlay) -> Paths:
    family = play.family
    if family.observation_space.shape[0] < 2:
        raise ValueError(f"{family.id} must observe a place in the plane for its paths to be shown")
    notes, oracle = _PathNotes(play), _PathNotes(play)
    with closing(play.make_batch()) as env:
        play.show(env, notes)
    return Paths(
        play.tasks,
        play.stage_names,
        notes.places,
        notes.returns,
        oracle.places[0] if play.show_oracle(oracle) else None,
        isinstance(family.action_space, gymnasium.spaces.Discrete),
    )


def _record_choices(play: WatchedPlay) -> Choices:
    space = play.family.action_space
    if not isinstance(space, gymnasium.spaces.Discrete):
        raise ValueError(
            f"{play.family.id} must have Discrete actions for its choices to be shown, got {space}"
        )
    with closing(play.make_batch()) as env:
        notes = _ChoiceNotes(play, env.oracle_actions)
        play.show(env, notes)
    stages, num_choices = play.stage_names, int(space.n)
    return Choices(play.tasks, stages, notes.chosen, notes.returns, notes.best, num_choices)
