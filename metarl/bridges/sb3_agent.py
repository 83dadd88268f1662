"""Models of Stable-Baselines3 and sb3-contrib as agents for an evaluation.

Both are optional dependencies, so nothing else in the package imports this module at its top.
"""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.finite import first_non_finite
from metarl.rollouts.actors import select_actions
from metarl.rollouts.episodes import Episodes
from metarl.rollouts.trial_inputs import TrialInputs
from metarl.rollouts.trials import ActorInput
from metarl.tasks.actions import ActionLayout
from metarl.tasks.family import TaskFamily

try:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecNormalize

    from metarl.bridges.sb3_observations import (
        ObservationWrappers,
        Stack,
        normalization_of,
        single_space,
    )
except ImportError as missing:
    raise ImportError(
        "metarl.bridges.sb3_agent needs Stable-Baselines3: pip install stable-baselines3"
    ) from missing

__all__ = ["SB3Agent", "load_sb3_agent"]

_PACKAGES = ("stable_baselines3", "sb3_contrib")


class SB3Agent:
    """A trained model as an agent; it adapts by its recurrent state, or not at all.

    A recurrent state is kept over the episodes of a trial; a stack of frames starts empty in each
    episode. A model that was trained on a `TrialFamily` gets the inputs of that family. Models of
    images get the image that a family's observations are, in either order of axes.
    """

    def __init__(
        self,
        model: BaseAlgorithm,
        family: TaskFamily,
        *,
        normalization: VecNormalize | Path | str | None = None,
        frame_stack: int = 1,
    ) -> None:
        """Wrap a model.

        Args:
            model: a trained model with the spaces of the family or of its trials.
            family: family of the environments to act in.
            normalization: the `VecNormalize` that normalized observations in training, or the file
                that its `save` wrote (a pickle: loading it can run arbitrary code); "none": they
                were not normalized; None: the one of the model's environments.
            frame_stack: number of observations in an input if `VecFrameStack` was used.

        Raises:
            ValueError: if the spaces differ, statistics are missing or do not fit, or a number is
                not finite.
        """
        if model.action_space != family.action_space:
            raise ValueError(
                f"the model's actions must match {family.id}, {family.action_space}, "
                f"got {model.action_space}"
            )
        shape = model.observation_space.shape
        space = single_space(shape, family, frame_stack)
        self._inputs: TrialInputs | None = None
        if space is None:
            self._inputs = TrialInputs(
                family.observation_space, family.action_space, family.action_divisor
            )
            if shape != (self._inputs.size,) or frame_stack != 1:
                raise ValueError(
                    f"the model's observations must match {family.id}, of shape "
                    f"{family.observation_space.shape}, or of its trials, of shape "
                    f"({self._inputs.size},), got {shape}; frame_stack (--sb3-frame-stack) must be "
                    f"the number of stacked observations, if they were stacked, got {frame_stack}"
                )
            space = spaces.Box(-np.inf, np.inf, (self._inputs.size,), np.float32)
        _require_finite(model)
        self._wrappers = ObservationWrappers(
            space, normalization=normalization_of(model, normalization), frame_stack=frame_stack
        )
        self._model = model
        self._row_shape = ActionLayout(family.action_space).row_shape
        self.adapts = self._inputs is not None or _is_recurrent(model)
        self.remembers = self.adapts or frame_stack > 1

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> SB3Player:
        """A player with a new state."""
        del num_tasks, num_envs  # the state takes its size from the first observations
        return SB3Player(self._model, self._inputs, self._wrappers, self._row_shape, generator)


class SB3Player:
    """Acts with a model; keeps the recurrent state of one batch of trials, if there is one."""

    def __init__(
        self,
        model: BaseAlgorithm,
        inputs: TrialInputs | None,
        wrappers: ObservationWrappers,
        row_shape: tuple[int, ...],
        generator: torch.Generator,
    ) -> None:
        self._row_shape = row_shape
        self._policy, self._inputs, self._generator = model.policy, inputs, generator
        self._device = model.device
        self._state: tuple[np.ndarray[Any, Any], ...] | None = None
        self._is_start = True
        self._wrappers = wrappers
        self._stack: Stack | None = None

    def act(self, actor_input: ActorInput) -> Tensor:
        """Actions of the policy, without additional exploration such as ε-greedy."""
        given = (
            actor_input.observations if self._inputs is None else self._inputs.encode(actor_input)
        )
        flat = given.flatten(0, 1).numpy(force=True)
        if self._is_start:
            self._stack = self._wrappers.stack(len(flat))
        flat = self._wrappers.apply(
            flat.reshape(-1, *self._wrappers.space.shape),
            self._stack,
            actor_input.episode_ended.flatten().numpy(force=True),
        )
        starts, state = np.full(len(flat), self._is_start), self._state

        def predict(deterministic: bool) -> Tensor:
            with _seeded(self._generator, self._device):
                actions, self._state = self._policy.predict(
                    flat, state=state, episode_start=starts, deterministic=deterministic
                )
            batch: Tensor = torch.as_tensor(actions, device=given.device)
            return batch.reshape(*given.shape[:2], *self._row_shape)

        self._is_start = False
        return select_actions(actor_input, lambda _: predict(False), lambda _: predict(True))

    def adapt(self, episodes: Episodes) -> None:
        """Do nothing: the model does not learn from recorded episodes."""


def load_sb3_agent(
    path: Path,
    class_name: str,
    family: TaskFamily,
    *,
    device: torch.device | str = "cpu",
    normalization: Path | str | None = None,
    frame_stack: int = 1,
) -> SB3Agent:
    """Load the agent of a model's file. Loading can run arbitrary code: trust the file's source.

    Args:
        path: file that the model's `save` wrote.
        class_name: class of the model in `stable_baselines3` or `sb3_contrib`, such as "PPO".
        family: family of the environments to act in.
        device: device of the policy.
        normalization: as for `SB3Agent`.
        frame_stack: as for `SB3Agent`.

    Raises:
        ValueError: if the class is unknown, the file does not hold such a model, its spaces do
            not fit the family, or statistics of observations are missing or do not fit.
    """
    model_type = _model_class(class_name)
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} must be a model that Stable-Baselines3 saved, but it is not a zip file"
        )
    try:
        model = model_type.load(path, device=device)
    except Exception as error:  # unpickling can raise any exception
        raise ValueError(
            f"{path} cannot be read as a model of class {class_name}: "
            f"{type(error).__name__}: {error}"
        ) from error
    return SB3Agent(model, family, normalization=normalization, frame_stack=frame_stack)


def _model_class(name: str) -> type[BaseAlgorithm]:
    for package in _PACKAGES:
        try:
            found = getattr(importlib.import_module(package), name, None)
        except ImportError:
            continue
        if isinstance(found, type) and issubclass(found, BaseAlgorithm):
            return found
    raise ValueError(
        f"sb3 must name a class of stable_baselines3 or, if that is installed, of sb3_contrib, "
        f"such as PPO or RecurrentPPO, got {name!r}"
    )


def _require_finite(model: BaseAlgorithm) -> None:
    name = first_non_finite(model.policy.state_dict())
    if name is not None:
        raise ValueError(
            f"the model must hold finite parameters only, {name} does not; use an earlier model"
        )


def _is_recurrent(model: BaseAlgorithm) -> bool:
    return hasattr(model.policy, "lstm_actor")


@contextmanager
def _seeded(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Seed the global generators, which these models use, from the given generator."""
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
