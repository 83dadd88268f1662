"""Results of Gymnasium environments, converted to numbers after a check of their form.

An error here is about the code of an environment, so each is one sentence that names the part of
the result, the form that Gymnasium requires, and the value that was returned. Numbers that are not
finite are kept: `metarl.finite` rejects them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils.step_api_compatibility import step_api_compatibility
from numpy.typing import NDArray

from metarl.locations import describe_error_with_traceback
from metarl.validation import short_repr

__all__ = [
    "EnvResultError",
    "ObservationReader",
    "describe_env_error",
    "read_image",
    "read_step",
    "read_success",
    "reset",
]

Row: TypeAlias = NDArray[Any]  # float32, or uint8 for images of bytes
Writer: TypeAlias = Callable[[str, Any, Row], None]

_OLD_API = (
    "; environments for Gym 0.21 and earlier can be wrapped in make_env, for instance with "
    "shimmy's GymV21CompatibilityV0"
)


class EnvResultError(ValueError):
    """An environment returned a result that Gymnasium's interface does not allow."""


def reset(env: gymnasium.Env[Any, Any], seed: int) -> Any:
    """Reset an environment and return the observation.

    Raises:
        EnvResultError: if it accepts no seed or does not return (observation, info).
    """
    try:
        result: Any = env.reset(seed=seed)
    except TypeError as error:
        if "unexpected keyword argument 'seed'" not in str(error):
            raise
        raise EnvResultError(f"reset must accept seed and options: {error}{_OLD_API}") from error
    is_pair = isinstance(result, tuple | list) and len(result) == 2
    if not is_pair or not isinstance(result[1], Mapping | None):
        raise EnvResultError(
            f"reset must return (observation, info), got {short_repr(result)}{_OLD_API}"
        )
    return result[0]


def read_step(result: Any) -> tuple[Any, float, bool, bool, Any]:
    """Check the result of `Env.step`; results of Gym 0.25 and earlier are converted as in
    Gymnasium.

    Returns:
        The observation as it is, reward, terminated, truncated, and info.

    Raises:
        EnvResultError: if a part is missing or cannot be converted to a number or a flag.
    """
    parts = result if isinstance(result, tuple | list) else ()
    if len(parts) == 4 and isinstance(parts[3], Mapping):
        parts = step_api_compatibility((*parts[:2], _flag("done", parts[2]), dict(parts[3])))
    if len(parts) != 5:
        raise EnvResultError(
            "step must return (observation, reward, terminated, truncated, info), got "
            f"{short_repr(result)}"
        )
    observation, reward, terminated, truncated, info = parts
    return (
        observation,
        reward if type(reward) is float else float(_one_number("reward", reward, "a number")),
        terminated if terminated is False else _flag("terminated", terminated),
        truncated if truncated is False else _flag("truncated", truncated),
        info,
    )


def read_success(info: Any) -> bool:
    """Read `info["success"]` of a step.

    Raises:
        EnvResultError: if it is missing or not a flag.
    """
    if not isinstance(info, Mapping) or "success" not in info:
        raise EnvResultError(
            "info must contain 'success' at every step because has_success is True, got "
            f"{short_repr(info)}"
        )
    return _flag("info['success']", info["success"])


def read_image(image: Any) -> NDArray[np.uint8]:
    """Check the result of `Env.render`, an image [height, width, 3].

    Raises:
        EnvResultError: if it is anything else.
    """
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        kind = "None" if image is None else f"{array.dtype} of shape {array.shape}"
        raise EnvResultError(f"render must return a uint8 image [height, width, 3], got {kind}")
    return array


def describe_env_error(error: BaseException) -> str:
    """Describe an environment's error: its message if a result has a wrong form, otherwise its
    place in the user's code and the traceback."""
    return str(error) if isinstance(error, EnvResultError) else describe_error_with_traceback(error)


class _Leaf(NamedTuple):
    path: tuple[Any, ...]  # keys and indices in the observation
    name: str
    write: Writer
    columns: slice


class ObservationReader:
    """Writes observations of a space to rows of numbers, as `gymnasium.spaces.flatten` does."""

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        self._space, self.size = space, spaces.flatdim(space)
        self._leaves: list[_Leaf] = []
        start = 0
        for path, leaf in _leaves(space, ()):
            columns = slice(start, start + spaces.flatdim(leaf))
            name = "observations" + "".join(f"[{key!r}]" for key in path)
            self._leaves.append(_Leaf(path, name, _writer(leaf), columns))
            start = columns.stop

    def __reduce__(self) -> tuple[type[ObservationReader], tuple[gymnasium.Space[Any]]]:
        return ObservationReader, (self._space,)  # the functions that write cannot be pickled

    def write(self, observation: Any, row: Row) -> None:
        """Write an observation to a row [size], without broadcasting.

        Raises:
            EnvResultError: if its structure, a shape, or a value differs from the space.
        """
        for path, name, write, columns in self._leaves:
            part = observation
            for depth, key in enumerate(path):
                try:
                    part = part[key]
                except (KeyError, IndexError, TypeError) as error:
                    outer = "observations" + "".join(f"[{k!r}]" for k in path[:depth])
                    raise EnvResultError(
                        f"{outer} must contain {key!r} as in their space, got {short_repr(part)}"
                    ) from error
            write(name, part, row[columns])


def _leaves(
    space: gymnasium.Space[Any], path: tuple[Any, ...]
) -> Iterator[tuple[tuple[Any, ...], gymnasium.Space[Any]]]:
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from _leaves(part, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from _leaves(part, (*path, index))
    else:
        yield path, space


def _writer(leaf: gymnasium.Space[Any]) -> Writer:
    """Function that writes a value of a leaf space to a row."""
    if isinstance(leaf, spaces.Box | spaces.MultiBinary):
        shape = leaf.shape

        def write(name: str, value: Any, row: Row) -> None:
            array = _array(name, value, shape, "biuf")
            if row.dtype == np.uint8 and array.dtype != np.uint8:
                array = _bytes(name, array)
            row[:] = array.reshape(-1)

        return write
    if isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete):
        return _one_hot_writer(leaf)

    def flatten(name: str, value: Any, row: Row) -> None:
        try:
            row[:] = np.asarray(spaces.flatten(leaf, value))
        except Exception as error:  # depends on the space
            raise EnvResultError(f"{name} must lie in {leaf}, got {short_repr(value)}") from error

    return flatten


def _one_hot_writer(leaf: spaces.Discrete | spaces.MultiDiscrete) -> Writer:
    sizes = np.atleast_1d(leaf.n if isinstance(leaf, spaces.Discrete) else leaf.nvec).reshape(-1)
    starts = np.atleast_1d(leaf.start).reshape(-1)
    offsets = np.cumsum(sizes) - sizes
    shape = leaf.shape or ()

    def write(name: str, value: Any, row: Row) -> None:
        given = np.asarray(value)
        single = shape == () and given.size == 1  # also an array of one choice
        choices = _array(name, given.reshape(()) if single else value, shape, "iu").reshape(-1)
        indices = choices.astype(np.int64) - starts
        if ((indices < 0) | (indices >= sizes)).any():
            raise EnvResultError(f"{name} must lie in {leaf}, got {short_repr(value)}")
        row[:] = 0
        row[offsets + indices] = 1

    return write


def _array(name: str, value: Any, shape: tuple[int, ...], kinds: str) -> NDArray[Any]:
    """The value as an array of a shape and of one of NumPy's kinds of numbers."""
    try:
        array = np.asarray(value)
    except Exception as error:  # ragged lists, tensors with gradients or on other devices
        raise EnvResultError(f"{name} must be an array, got {short_repr(value)}") from error
    if array.shape != shape:
        raise EnvResultError(
            f"{name} must have shape {shape} as in their space, got {_description(value, array)}"
        )
    if array.dtype.kind not in kinds:
        numbers = "numbers" if "f" in kinds else "integers"
        raise EnvResultError(f"{name} must be {numbers}, got {short_repr(value)}")
    return array


def _bytes(name: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    """The numbers as bytes, if they are whole numbers from 0 to 255."""
    converted: NDArray[np.uint8] = np.clip(array, 0, 255).astype(np.uint8)
    different = converted != array
    if different.any():
        raise EnvResultError(
            f"{name} must be whole numbers from 0 to 255, got {array[different][0]}"
        )
    return converted


def _description(value: Any, array: NDArray[Any]) -> str:
    """The shape of an array of numbers, or another value itself."""
    return str(array.shape) if array.dtype.kind in "biufc" else short_repr(value)


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    array = _one_number(name, value, "True or False")
    if array not in (0, 1):
        raise EnvResultError(f"{name} must be True or False, got {short_repr(value)}")
    return bool(array)


def _one_number(name: str, value: Any, needed: str) -> NDArray[Any]:
    """The value, a number or an array of one number, as an array without axes."""
    try:
        array = np.asarray(value)
    except Exception as error:  # a tensor with gradients, for instance
        raise EnvResultError(f"{name} must be {needed}, got {short_repr(value)}") from error
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise EnvResultError(f"{name} must be {needed}, got {short_repr(value)}")
    return array.reshape(())
