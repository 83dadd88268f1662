"""Recordings of how an agent acts before and after it adapts: paths, choices or videos.

The family selects the kind (`TaskFamily.behavior`). `metarl.plots.behavior` draws paths and
choices; `video` writes files of frames.
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

from metarl.evaluation.protocol import EvaluationProtocol
from metarl.evaluation.recorder import RecordIndices, RolloutRecorder
from metarl.evaluation.video import Frame
from metarl.rl.players import AdaptiveAgent
from metarl.tasks.family import BatchEnv, RendersBatch, TaskFamily
from metarl.tasks.spaces import Tasks
from metarl.validation import require_at_least

__all__ = ["Choices", "Paths", "Recording", "Videos", "record_behavior", "record_videos"]

Numbers: TypeAlias = NDArray[np.float64]

_MAX_FRAMES = 60


class Paths(NamedTuple):
    """Paths through the plane: S stages, N tasks, E episodes of each, up to T steps."""

    tasks: Tasks  # [N, D]
    stages: tuple[str, ...]  # S names
    places: Numbers  # [S, N, E, T + 1, 2], nan after an episode's end
    returns: Numbers  # [S, N, E]
    oracle: Numbers | None  # [N, E, T + 1, 2], the oracle's paths
    is_grid: bool  # whether places are cells of a grid


class Choices(NamedTuple):
    """Discrete actions that were taken: S stages, N tasks, E episodes of each, T steps."""

    tasks: Tasks  # [N, D]
    stages: tuple[str, ...]  # S names
    chosen: NDArray[np.int64]  # [S, N, E, T], −1 after an episode's end
    returns: Numbers  # [S, N, E]
    best: NDArray[np.int64] | None  # [S, N, E, T], the oracle's actions in the same states
    num_choices: int


class Videos(NamedTuple):
    """Frames of one episode of each of N tasks at S stages."""

    tasks: Tasks  # [N, D]
    stages: tuple[str, ...]  # S names
    frames: list[list[list[Frame]]]  # [S][N][frames], each [height, width, 3]
    returns: Numbers  # [S, N]
    steps_per_frame: int


Recording: TypeAlias = Paths | Choices | Videos


def record_behavior(
    agent: AdaptiveAgent,
    family: TaskFamily,
    tasks: Tasks,
    protocol: EvaluationProtocol,
    *,
    num_episodes: int = 3,
    device: torch.device | str = "cpu",
) -> Recording | None:
    """Record an agent at the first and the last stage of a protocol.

    Args:
        agent: runs as in an evaluation.
        family: selects the kind of recording.
        tasks: shape [N, D].
        protocol: how the agent adapts; its number of tasks and its split are not used.
        num_episodes: maximum number of episodes of each task that are kept; videos have one.
        device: device of the agent.

    Returns:
        The recording; None if the family's kind is a video and it cannot be rendered.

    Raises:
        ValueError: if a number is out of range, the family's kind is paths but it does not observe
            two numbers, its kind is choices but its actions are not `Discrete`, or rendering is
            not possible on this machine.
    """
    require_at_least("num_episodes", num_episodes, 1)
    stages = tuple(sorted({0, protocol.adaptation_steps}))
    recorder = RolloutRecorder(
        agent, family, tasks, protocol, stages, num_episodes, torch.device(device)
    )
    if family.behavior == "path":
        return _record_paths(recorder)
    if family.behavior == "choices":
        return _record_choices(recorder)
    return record_videos(agent, family, tasks, protocol, stages=stages, device=device)


def record_videos(
    agent: AdaptiveAgent,
    family: TaskFamily,
    tasks: Tasks,
    protocol: EvaluationProtocol,
    *,
    stages: Sequence[int],
    max_frames: int = _MAX_FRAMES,
    device: torch.device | str = "cpu",
) -> Videos | None:
    """Record frames of the first episode of each task at some stages of a protocol.

    Args:
        agent: runs as in an evaluation.
        family: renders its environments.
        tasks: shape [N, D].
        protocol: how the agent adapts; its number of tasks and its split are not used.
        stages: numbers of the stages, in ascending order; 0 is before adaptation.
        max_frames: maximum number of frames after the first one; if the longest episode has more
            steps, episodes are rendered every few steps.
        device: device of the agent.

    Returns:
        The videos; None if the family cannot be rendered.

    Raises:
        ValueError: if a stage or a number is out of range, or rendering is not possible on this
            machine.
    """
    require_at_least("max_frames", max_frames, 1)
    recorder = RolloutRecorder(
        agent, family, tasks, protocol, tuple(stages), 1, torch.device(device)
    )
    with closing(recorder.make_batch()) as env:
        if not (family.can_render and isinstance(env, RendersBatch)):
            return None
        steps_per_frame = -(-_longest_episode(recorder, env, max_frames) // max_frames)
        videos = _VideoCallback(recorder, _renderer(env), steps_per_frame)
        recorder.record(env, videos)
    returns = videos.returns[..., 0]
    return Videos(recorder.tasks, recorder.stage_names, videos.frames, returns, steps_per_frame)


def _longest_episode(recorder: RolloutRecorder, env: BatchEnv, max_frames: int) -> int:
    """Steps of the longest recorded episode; the horizon if that needs no more than `max_frames`.

    The agent acts once more for this, without rendering, which takes most of the time.
    """
    if recorder.family.horizon <= max_frames:
        return recorder.family.horizon
    lengths = _LengthCallback()
    recorder.record(env, lengths)
    return lengths.longest


def _renderer(env: RendersBatch) -> Callable[[int, int], Frame]:
    """The batch's `render`; it raises ValueError if rendering is not possible."""

    def render(task: int, index: int) -> Frame:
        try:
            return env.render(task, index)
        except RuntimeError as error:  # NotImplementedError is one
            raise ValueError(str(error)) from error

    return render


class _PathCallback:
    """Keeps the positions."""

    def __init__(self, recorder: RolloutRecorder) -> None:
        self.places = np.full((*recorder.shape, recorder.family.horizon + 1, 2), np.nan)
        self.returns = np.zeros(recorder.shape)

    def on_states(self, index: RecordIndices, observations: Tensor) -> None:
        self.places[index] = index.select(observations[..., :2])

    def on_step(self, index: RecordIndices, actions: Tensor, rewards: Tensor) -> None:
        del actions
        self.returns[index[:3]] += index.select(rewards)


class _ChoiceCallback:
    """Keeps the actions, and the oracle's actions in the same states."""

    def __init__(self, recorder: RolloutRecorder, oracle: Callable[[], Tensor | None]) -> None:
        self.chosen = np.full((*recorder.shape, recorder.family.horizon), -1)
        self.returns = np.zeros(recorder.shape)
        self._best = np.full((*recorder.shape, recorder.family.horizon + 1), -1)
        self._oracle = oracle

    @property
    def best(self) -> NDArray[np.int64] | None:
        """The oracle's actions in the format of `chosen`; None without an oracle."""
        best = np.where(self.chosen < 0, -1, self._best[..., :-1])
        return best if (best >= 0).any() else None

    def on_states(self, index: RecordIndices, observations: Tensor) -> None:
        del observations
        best = self._oracle()
        if best is not None:
            self._best[index] = index.select(best)

    def on_step(self, index: RecordIndices, actions: Tensor, rewards: Tensor) -> None:
        self.chosen[index] = index.select(actions)
        self.returns[index[:3]] += index.select(rewards)


class _LengthCallback:
    """Keeps the number of steps of the longest episode."""

    def __init__(self) -> None:
        self.longest = 1

    def on_states(self, index: RecordIndices, observations: Tensor) -> None:
        del observations
        self.longest = max(self.longest, int(index.time.max(initial=1)))

    def on_step(self, index: RecordIndices, actions: Tensor, rewards: Tensor) -> None:
        """Do nothing."""


class _VideoCallback:
    """Renders a frame every few steps."""

    def __init__(
        self,
        recorder: RolloutRecorder,
        render: Callable[[int, int], Frame],
        steps_per_frame: int,
    ) -> None:
        num_stages, num_tasks, _ = recorder.shape
        self.frames: list[list[list[Frame]]] = [
            [[] for _ in range(num_tasks)] for _ in range(num_stages)
        ]
        self.returns = np.zeros(recorder.shape)
        self._render, self._steps_per_frame = render, steps_per_frame

    def on_states(self, index: RecordIndices, observations: Tensor) -> None:
        del observations
        for stage, task, env, time in zip(*index, strict=True):
            if time % self._steps_per_frame == 0:
                self.frames[stage][task].append(self._render(int(task), int(env)))

    def on_step(self, index: RecordIndices, actions: Tensor, rewards: Tensor) -> None:
        del actions
        self.returns[index[:3]] += index.select(rewards)


def _record_paths(recorder: RolloutRecorder) -> Paths:
    family = recorder.family
    if family.observation_space.shape[0] < 2:
        raise ValueError(
            f"{family.id} must observe a position in the plane for its paths to be shown"
        )
    agent, oracle = _PathCallback(recorder), _PathCallback(recorder)
    with closing(recorder.make_batch()) as env:
        recorder.record(env, agent)
    return Paths(
        recorder.tasks,
        recorder.stage_names,
        agent.places,
        agent.returns,
        oracle.places[0] if recorder.record_oracle(oracle) else None,
        isinstance(family.action_space, gymnasium.spaces.Discrete),
    )


def _record_choices(recorder: RolloutRecorder) -> Choices:
    space = recorder.family.action_space
    if not isinstance(space, gymnasium.spaces.Discrete):
        raise ValueError(
            f"{recorder.family.id} must have Discrete actions for its choices to be shown, "
            f"got {space}"
        )
    with closing(recorder.make_batch()) as env:
        found = _ChoiceCallback(recorder, env.oracle_actions)
        recorder.record(env, found)
    stages, num_choices = recorder.stage_names, int(space.n)
    return Choices(recorder.tasks, stages, found.chosen, found.returns, found.best, num_choices)
