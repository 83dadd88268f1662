"""Observation wrappers of Stable-Baselines3: normalization, frame stacking, image order.

A model that was trained behind such wrappers must get the same inputs when it is measured. It is an
optional dependency, so nothing else in the package imports this module at its top.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from metarl.tasks.family import TaskFamily
from metarl.validation import require_at_least

__all__ = ["ObservationWrappers", "Stack", "normalization_of", "single_space"]

Array: TypeAlias = NDArray[Any]

_REMEDY = (
    "give them as normalization (on the command line --sb3-normalization FILE.pkl, which "
    "VecNormalize.save wrote), or none if observations were not normalized"
)


class ObservationWrappers:
    """The wrappers of a model's environments, in the order of Stable-Baselines3.

    Normalization comes before stacking if its statistics have the shape of single observations, and
    after it if they have the shape of the stack. Images are transposed by the model itself.
    """

    def __init__(
        self, space: spaces.Box, *, normalization: VecNormalize | None = None, frame_stack: int = 1
    ) -> None:
        """Describe the wrappers.

        Args:
            space: observations of a single environment, without wrappers.
            normalization: statistics of observations; None: no normalization.
            frame_stack: observations in an input, as in `VecFrameStack`; 1: no stacking.

        Raises:
            ValueError: if the statistics fit neither single nor stacked observations, or are not
                finite.
        """
        require_at_least("frame_stack", frame_stack, 1)
        self.space, self.frame_stack, self._normalization = space, frame_stack, normalization
        self.shape = Stack(self, 1).shape if frame_stack > 1 else space.shape
        """Shape of the model's inputs."""
        self._is_stacked_first = False
        if normalization is not None and normalization.norm_obs:
            mean, variance = (
                getattr(normalization.obs_rms, name, np.zeros(())) for name in ("mean", "var")
            )
            if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
                raise ValueError("normalization must hold finite statistics only; use earlier ones")
            found = mean.shape
            if found not in (space.shape, self.shape):
                raise ValueError(
                    f"normalization must have statistics of shape {space.shape}, the shape of the "
                    f"observations, got {found}"
                )
            self._is_stacked_first = found != space.shape

    def stack(self, num_envs: int) -> Stack | None:
        """Memory of the last observations of environments; None without stacking."""
        return Stack(self, num_envs) if self.frame_stack > 1 else None

    def apply(self, observations: Array, stack: Stack | None, ended: Array) -> Array:
        """Inputs of the model [B, ...] from observations [B, ...].

        Args:
            observations: present observations.
            stack: result of `stack` for these environments, which is updated.
            ended: whether an episode has just begun, bool [B].
        """
        if stack is None:
            return self._normalized(observations)
        if self._is_stacked_first:
            return self._normalized(stack.push(observations, ended))
        return stack.push(self._normalized(observations), ended)

    def _normalized(self, observations: Array) -> Array:
        if self._normalization is None:
            return observations
        normalized: Array = np.asarray(self._normalization.normalize_obs(observations))
        return normalized


class Stack:
    """The last observations of each environment; zeros before the start of an episode."""

    def __init__(self, wrappers: ObservationWrappers, num_envs: int) -> None:
        self._stacked = StackedObservations(num_envs, wrappers.frame_stack, wrappers.space)
        self._is_new = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a stack."""
        return tuple(self._stacked.stacked_observation_space.shape or ())

    def push(self, observations: Array, ended: Array) -> Array:
        """Add observations [B, ...] and return the stacks; environments that ended start empty."""
        if self._is_new:
            self._is_new = False
            stacked = self._stacked
            stacked.stacked_obs = stacked.stacked_obs.astype(observations.dtype)
            return np.array(stacked.reset(observations))
        infos = [{"terminal_observation": one} for one in observations]  # required, not used
        return np.array(self._stacked.update(observations, ended, infos)[0])


def normalization_of(
    model: BaseAlgorithm, given: VecNormalize | Path | str | None
) -> VecNormalize | None:
    """The statistics that normalize a model's observations.

    Args:
        model: the model.
        given: the statistics; a file with them, which is a pickle: loading it can run arbitrary
            code; "none" for no normalization; None: the statistics of the model's environments.

    Raises:
        ValueError: if the model was trained under `VecNormalize` and its statistics are missing, or
            a file does not hold them.
    """
    if isinstance(given, VecNormalize):
        return given
    if given == "none":
        return None
    if given is not None:
        return _read_normalization(Path(given))
    own: VecNormalize | None = model.get_vec_normalize_env()
    if own is not None:
        return own
    if model.get_env() is None:  # loaded from a file
        _require_unnormalized(model)
    return None


def _require_unnormalized(model: BaseAlgorithm) -> None:
    """Reject a model that was trained under `VecNormalize`, or warn if that is not known.

    On-policy models store original observations only with `VecNormalize`, off-policy ones always.
    """
    if isinstance(model, OffPolicyAlgorithm):
        warnings.warn(
            f"files of {type(model).__name__} do not record whether VecNormalize was used in "
            f"training; if it was, its statistics are needed: {_REMEDY}",
            stacklevel=4,
        )
    elif getattr(model, "_last_original_obs", None) is not None:
        raise ValueError(
            "the model was trained under VecNormalize, whose statistics are not stored with it: "
            f"{_REMEDY}"
        )


def single_space(
    shape: tuple[int, ...] | None, family: TaskFamily, frame_stack: int
) -> spaces.Box | None:
    """The space of single observations for which a model has inputs of this shape.

    Args:
        shape: shape of the model's inputs.
        family: its observations are rows; a row that is one image also counts as that image.
        frame_stack: observations in an input.

    Returns:
        Space of rows or of images; None if neither fits.
    """
    rows = family.observation_space
    choices = [rows]
    for image in family.observation_images:
        if image.size == rows.shape[0] and image.shape != rows.shape:
            low, high = rows.low.reshape(image.shape), rows.high.reshape(image.shape)
            choices.append(spaces.Box(low, high, dtype=rows.dtype.type))
    for space in choices:
        found = ObservationWrappers(space, frame_stack=frame_stack).shape
        if shape in (found, (*found[2:], *found[:2])):  # the model transposes images
            return space
    return None


def _read_normalization(path: Path) -> VecNormalize:
    if not path.is_file():
        raise ValueError(f"normalization must be a file or none, there is no file {path}")
    try:
        found = pickle.loads(path.read_bytes())
    except Exception as error:  # unpickling can raise any exception
        raise ValueError(
            f"{path} cannot be read as statistics of VecNormalize: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, VecNormalize):
        raise ValueError(
            f"{path} must hold statistics that VecNormalize.save wrote, it holds a "
            f"{type(found).__name__}"
        )
    return found
