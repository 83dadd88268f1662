"""What an agent does before and after it adapts: where it goes, what it chooses, how it looks.

A family says which of these is worth a look (`TaskFamily.behaviour`). The pictures of it are in
`behaviour_plots` and `films`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.agent import AdaptiveAgent
from metarl.episodes import collect
from metarl.evaluation_protocol import EvaluationProtocol
from metarl.evaluator import play_stages, stage_names
from metarl.ranges import require_at_least
from metarl.seeding import torch_generator
from metarl.tasks import BatchEnv, RendersBatch, TaskFamily, Tasks
from metarl.trials import collect_trials
from metarl.watched import Onlooker, Places, WatchedBatch

__all__ = ["Behaviour", "Choices", "Films", "Paths", "record_behaviour", "record_films"]

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


Behaviour: TypeAlias = Paths | Choices | Films


def record_behaviour(
    agent: AdaptiveAgent,
    family: TaskFamily,
    tasks: Tasks,
    protocol: EvaluationProtocol,
    *,
    num_episodes: int = 3,
    device: torch.device | str = "cpu",
) -> Behaviour | None:
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
            observe two numbers or has no `Discrete` actions.
        RuntimeError: if this machine cannot draw.
    """
    require_at_least("num_episodes", num_episodes, 1)
    stages = tuple(sorted({0, protocol.adaptation_steps}))
    play = _Play(agent, family, tasks, protocol, stages, num_episodes, torch.device(device))
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
        ValueError: if a stage or a number is out of range.
        RuntimeError: if this machine cannot draw.
    """
    require_at_least("max_frames", max_frames, 1)
    play = _Play(agent, family, tasks, protocol, tuple(stages), 1, torch.device(device))
    with closing(play.make_batch()) as env:
        if not (family.has_picture and isinstance(env, RendersBatch)):
            return None
        every = -(-family.horizon // max_frames)
        films = _FilmNotes(play, env.render, every)
        play.run(env, films)
    returns = films.returns[..., 0]
    return Films(play.tasks, play.stage_names, films.frames, returns, every)


@dataclass(frozen=True)
class _Play:
    """Who plays what; the same chance as in an evaluation."""

    agent: AdaptiveAgent
    family: TaskFamily
    tasks: Tasks
    protocol: EvaluationProtocol
    stages: tuple[int, ...]
    num_episodes: int
    device: torch.device

    def __post_init__(self) -> None:
        last = self.protocol.adaptation_steps
        if not self.stages or min(self.stages) < 0 or max(self.stages) > last:
            raise ValueError(f"stages must be numbers from 0 to {last}, got {list(self.stages)}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """[S, N, E] of what is kept."""
        return len(self.stages), len(self.tasks), self.num_kept

    @property
    def num_kept(self) -> int:
        """Episodes of each task that are kept."""
        if self.agent.remembers:
            return self.num_episodes
        return min(self.num_episodes, self.protocol.evaluation_episodes)

    @property
    def stage_names(self) -> tuple[str, ...]:
        names = stage_names(self.protocol, remembers=self.agent.remembers)
        return tuple(names[stage] for stage in self.stages)

    def make_batch(self) -> BatchEnv:
        protocol, kept = self.protocol, self.num_kept
        together = max(protocol.exploration_episodes, protocol.evaluation_episodes)
        num_envs = kept if self.agent.remembers else together
        return self.family.make_batch(self.tasks, num_envs=num_envs, device=self.device)

    def run(self, env: BatchEnv, onlooker: Onlooker) -> None:
        """Let someone look on at the stages asked for."""
        if self.agent.remembers:
            for k, stage in enumerate(self.stages):
                self._run_trials(env, onlooker, k, self.protocol.episodes_before(stage))
            return
        resets_per_stage = 1 if self.protocol.shares_episodes else 2
        shown = {stage * resets_per_stage: k for k, stage in enumerate(self.stages)}
        watched = WatchedBatch(env, onlooker, shown, num_envs=self.num_kept)
        for _ in play_stages(self.agent, watched, self.protocol, *self._chance()):
            pass

    def _run_trials(self, env: BatchEnv, onlooker: Onlooker, k: int, before: int) -> None:
        """One trial of each environment, up to the episode that counts."""
        watched = WatchedBatch(env, onlooker, {before: k}, num_envs=self.num_kept)
        resets, noise = self._chance()
        collect_trials(
            watched,
            self.agent.play(env.num_tasks, env.num_envs, noise),
            resets,
            num_episodes=before + 1,
            num_exploratory=before if self.protocol.deterministic else None,
        )

    def _chance(self) -> tuple[torch.Generator, torch.Generator]:
        seed = self.protocol.seed
        return (
            torch_generator(seed, "evaluation", "resets"),
            torch_generator(seed, "evaluation", "actions", device=self.device),
        )

    def watch_oracle(self, make_notes: Callable[[], _PathNotes]) -> _PathNotes | None:
        """The same tasks and, where one draws as many of them, starts; None without an oracle."""
        with closing(self.make_batch()) as env:
            resets, _ = self._chance()
            env.reset(resets)
            if env.oracle_actions() is None:
                return None
            notes = make_notes()
            watched = WatchedBatch(env, notes, {0: 0}, num_envs=self.num_kept)
            collect(watched, lambda _: _known(env.oracle_actions()), self._chance()[0])
        return notes


def _known(actions: Tensor | None) -> Tensor:
    assert actions is not None
    return actions


class _PathNotes:
    """Where agents were."""

    def __init__(self, play: _Play) -> None:
        self.places = np.full((*play.shape, play.family.horizon + 1, 2), np.nan)
        self.returns = np.zeros(play.shape)

    def look(self, where: Places, observations: Tensor) -> None:
        self.places[where] = where.pick(observations[..., :2])

    def note(self, where: Places, actions: Tensor, rewards: Tensor, best: Tensor | None) -> None:
        del actions, best
        self.returns[where[:3]] += where.pick(rewards)


class _ChoiceNotes:
    """What agents chose, and what the oracle would have chosen."""

    def __init__(self, play: _Play) -> None:
        self.chosen = np.full((*play.shape, play.family.horizon), -1)
        self.best = self.chosen.copy()
        self.returns = np.zeros(play.shape)

    def look(self, where: Places, observations: Tensor) -> None:
        """Observations are not needed."""

    def note(self, where: Places, actions: Tensor, rewards: Tensor, best: Tensor | None) -> None:
        self.chosen[where] = where.pick(actions)
        self.returns[where[:3]] += where.pick(rewards)
        if best is not None:
            self.best[where] = where.pick(best)


class _FilmNotes:
    """Every few steps a picture."""

    def __init__(self, play: _Play, render: Callable[[int, int], Picture], every: int) -> None:
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

    def note(self, where: Places, actions: Tensor, rewards: Tensor, best: Tensor | None) -> None:
        del actions, best
        self.returns[where[:3]] += where.pick(rewards)


def _record_paths(play: _Play) -> Paths:
    family = play.family
    if family.observation_space.shape[0] < 2:
        raise ValueError(f"{family.id} must observe a place in the plane for its paths to be shown")
    notes = _PathNotes(play)
    with closing(play.make_batch()) as env:
        play.run(env, notes)
    oracle = play.watch_oracle(lambda: _PathNotes(play))
    return Paths(
        play.tasks,
        play.stage_names,
        notes.places,
        notes.returns,
        None if oracle is None else oracle.places[0],
        isinstance(family.action_space, gymnasium.spaces.Discrete),
    )


def _record_choices(play: _Play) -> Choices:
    space = play.family.action_space
    if not isinstance(space, gymnasium.spaces.Discrete):
        raise ValueError(
            f"{play.family.id} must have Discrete actions for its choices to be shown, got {space}"
        )
    notes = _ChoiceNotes(play)
    with closing(play.make_batch()) as env:
        play.run(env, notes)
    best = notes.best if (notes.best >= 0).any() else None
    return Choices(play.tasks, play.stage_names, notes.chosen, notes.returns, best, int(space.n))
