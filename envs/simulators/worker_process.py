"""Code of a worker process: a shard of the environments, and the arrays shared with the batch.

Batches without workers run the same code in the calling process. This module uses no tensors or
randomness; the shared arrays specify which environments to reset or step, with which seeds and
actions.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

from metarl.tasks.actions import ActionLayout
from metarl.tasks.observations import selected_space

from .env_results import (
    EnvResultError,
    ObservationReader,
    describe_env_error,
    read_image,
    read_step,
    read_success,
    reset,
)

__all__ = [
    "DONE",
    "FAILED",
    "RENDER",
    "RESET",
    "STEP",
    "Arrays",
    "Layout",
    "Image",
    "WorkerFamily",
    "Shard",
    "serve",
]

# Messages between parent and worker: one byte, in some cases followed by a payload.
RESET, STEP, RENDER = b"r", b"s", b"p"
DONE, FAILED = b"d", b"f"

_ALIGNMENT = 64  # bytes; each array begins on a new cache line

Env: TypeAlias = gymnasium.Env[Any, Any]
Row: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.float64]
Image: TypeAlias = NDArray[np.uint8] | str
"""An image [height, width, 3], or the reason why the environment cannot render."""


class WorkerFamily(Protocol):
    """A family whose environments run in worker processes; it is pickled to each of them."""

    horizon: int
    has_success: bool
    observation_space: spaces.Box
    action_space: gymnasium.Space[Any]
    observation_keys: tuple[str, ...] | None
    """Keys of Dict observations to use; None: all."""

    @property
    def id(self) -> str:
        """Family and variant, for messages."""

    def check_tasks(self, tasks: object) -> Rows:
        """The tasks as float64 [N, D]; a `ValueError` if they lie outside the task space."""

    def make_env(self, task: Row) -> Env:
        """An environment that `apply_task` can set to this task, shape [D]."""

    def env_key(self, task: Row) -> Hashable:
        """Tasks with equal keys can share one environment."""

    def apply_task(self, env: Env, task: Row) -> None:
        """Set the task in an environment made for its key."""

    def best_actions(self, observations: Any, tasks: Any) -> Any:
        """Actions [N, E, …] of an oracle that knows the tasks [N, 1, D]; None without an oracle."""


@dataclass(frozen=True)
class Arrays:
    """Arrays shared by parent and workers; B = N·E environments, task by task, in W workers."""

    tasks: NDArray[np.float64]  # [N, D]
    is_new_task: NDArray[np.bool_]  # [B], whether the task has not been applied yet
    chosen: NDArray[np.bool_]  # [B], which environments the next command is for
    seeds: NDArray[np.int64]  # [B]
    actions: NDArray[Any]  # [B, A…]
    observations: NDArray[Any]  # [B, O], float32 or uint8
    rewards: NDArray[np.float32]  # [B]
    terminated: NDArray[np.bool_]  # [B]
    truncated: NDArray[np.bool_]  # [B]
    success: NDArray[np.bool_]  # [B]
    active_env: NDArray[np.int64]  # [W], environment that a worker is in, or −1


@dataclass(frozen=True)
class Layout:
    """Shapes of the shared arrays and their places in one block of memory."""

    num_tasks: int
    num_envs: int
    num_shards: int
    task_size: int
    observation_size: int
    observation_dtype: str
    action_shape: tuple[int, ...]
    action_dtype: str

    @property
    def batch_size(self) -> int:
        """Number of environments, B = N·E."""
        return self.num_tasks * self.num_envs

    @property
    def num_bytes(self) -> int:
        """Size of the memory block for all arrays."""
        return sum(_padded_bytes(shape, dtype) for shape, dtype in self._shapes().values())

    def arrays(self, memory: Any) -> Arrays:
        """The arrays as views of a block of `num_bytes` bytes."""
        views, start = {}, 0
        for name, (shape, dtype) in self._shapes().items():
            count = int(np.prod(shape))
            views[name] = np.frombuffer(memory, dtype, count, start).reshape(shape)
            start += _padded_bytes(shape, dtype)
        return Arrays(**views)

    def shard(self, number: int) -> range:
        """The environments of one shard, in consecutive order; sizes differ by one at most."""
        bounds = [self.batch_size * k // self.num_shards for k in (number, number + 1)]
        return range(*bounds)

    def _shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        batch = (self.batch_size,)
        return {
            "tasks": ((self.num_tasks, self.task_size), "float64"),
            "is_new_task": (batch, "bool"),
            "chosen": (batch, "bool"),
            "seeds": (batch, "int64"),
            "actions": (batch + self.action_shape, self.action_dtype),
            "observations": ((*batch, self.observation_size), self.observation_dtype),
            "rewards": (batch, "float32"),
            "terminated": (batch, "bool"),
            "truncated": (batch, "bool"),
            "success": (batch, "bool"),
            "active_env": ((self.num_shards,), "int64"),
        }


def _padded_bytes(shape: Sequence[int], dtype: str) -> int:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return -(-size // _ALIGNMENT) * _ALIGNMENT


class Shard:
    """Consecutive environments of a batch, stepped one after another.

    Exceptions of environments are not caught; `active_env` then contains the environment's index.
    """

    def __init__(self, family: WorkerFamily, layout: Layout, arrays: Arrays, number: int) -> None:
        self._family, self._layout, self._arrays, self._number = family, layout, arrays, number
        self._indices = layout.shard(number)
        self._actions = ActionLayout(family.action_space)
        self._envs: dict[int, Env] = {}
        self._keys: dict[int, Hashable] = {}
        self._spare: defaultdict[Hashable, list[Env]] = defaultdict(list)
        self._readers: dict[int, ObservationReader] = {}

    def make(self) -> None:
        """Create the environments for their first tasks."""
        for index in self._mark_active(self._indices):
            self._install_env(index, self._family.env_key(self._task(index)))

    def reset(self) -> None:
        """Begin an episode in the chosen environments, after applying new tasks."""
        arrays = self._arrays
        chosen = self._chosen()
        self._replace_envs([index for index in chosen if arrays.is_new_task[index]])
        for index in self._mark_active(chosen):
            env = self._envs[index]
            if arrays.is_new_task[index]:
                self._family.apply_task(env, self._task(index))
                arrays.is_new_task[index] = False
            self._write(index, reset(env, int(arrays.seeds[index])), 0.0)

    def step(self) -> None:
        """Step the chosen environments."""
        arrays, envs, first = self._arrays, self._envs, self._indices.start
        # Copied: an environment may keep a reference to its action.
        rows = arrays.actions[first : self._indices.stop].copy()
        has_success, action_of = self._family.has_success, self._actions.from_row
        for index in self._mark_active(self._chosen()):
            result = envs[index].step(action_of(rows[index - first]))
            observation, reward, terminated, truncated, info = read_step(result)
            self._write(index, observation, reward)
            arrays.terminated[index] = terminated
            arrays.truncated[index] = truncated
            if has_success:
                arrays.success[index] = read_success(info)

    def render(self, index: int) -> Image:
        """Render one environment."""
        env = self._envs[index]
        if env.render_mode != "rgb_array":
            return "its environment was not created with render_mode='rgb_array'"
        for _ in self._mark_active([index]):
            try:
                return read_image(env.render())
            except (DependencyNotInstalled, EnvResultError) as error:
                return str(error)
            except Exception as error:  # no display or OpenGL, for instance
                return f"render failed with {type(error).__name__}: {error}"
        raise AssertionError("one index gives one image")

    def close(self) -> None:
        """Close all environments and ignore their exceptions."""
        for env in [*self._envs.values(), *(env for envs in self._spare.values() for env in envs)]:
            with contextlib.suppress(Exception):
                env.close()
        self._envs.clear()
        self._spare.clear()

    def _task(self, index: int) -> Row:
        row: Row = self._arrays.tasks[index // self._layout.num_envs].copy()
        return row

    def _chosen(self) -> list[int]:
        first, stop = self._indices.start, self._indices.stop
        chosen: list[int] = (np.flatnonzero(self._arrays.chosen[first:stop]) + first).tolist()
        return chosen

    def _mark_active(self, indices: Sequence[int]) -> Iterator[int]:
        """Yield the indices, each written to `active_env` while its environment runs."""
        active_env, number = self._arrays.active_env, self._number
        for index in indices:
            active_env[number] = index
            yield index
        active_env[number] = -1

    def _replace_envs(self, indices: Sequence[int]) -> None:
        """Replace environments that cannot represent their new task; they are kept for reuse."""
        keys = {index: self._family.env_key(self._task(index)) for index in indices}
        new_keys = {index: key for index, key in keys.items() if key != self._keys[index]}
        for index in new_keys:
            self._spare[self._keys[index]].append(self._envs.pop(index))
        for index in self._mark_active(list(new_keys)):
            self._install_env(index, new_keys[index])

    def _install_env(self, index: int, key: Hashable) -> None:
        spare = self._spare[key]
        env = spare.pop() if spare else self._family.make_env(self._task(index))
        self._envs[index], self._keys[index] = env, key
        space = selected_space(env.observation_space, self._family.observation_keys)
        reader = ObservationReader(space)
        if reader.size != self._layout.observation_size:
            raise ValueError(
                f"observations of all tasks must have {self._layout.observation_size} numbers, "
                f"got {reader.size} from {env}"
            )
        self._readers[index] = reader

    def _write(self, index: int, observation: Any, reward: float) -> None:
        with np.errstate(over="ignore"):  # numbers beyond float32 become infinite
            self._readers[index].write(observation, self._arrays.observations[index])
            self._arrays.rewards[index] = reward


def serve(connection: Connection, memory: Any, layout: Layout, number: int) -> None:
    """Main function of a worker: run the parent's commands until the parent closes the pipe.

    The first message is the pickled family. The answer to each message is DONE, or FAILED with a
    description of the error, after which the worker ends.

    Args:
        connection: pipe to the parent.
        memory: the block that contains the arrays.
        layout: layout of the arrays.
        number: index of this worker's shard.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles interrupts
    if hasattr(signal, "SIGHUP"):  # not on Windows
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    shard: Shard | None = None
    try:
        family = _receive(connection)
        if family is None:
            return
        arrays = layout.arrays(memory)
        shard = Shard(pickle.loads(family), layout, arrays, number)
        shard.make()
        _answer(connection, DONE)
        while (message := _receive(connection)) is not None:
            _answer(connection, DONE + _run_command(shard, message))
    except BaseException as error:  # an environment may raise anything, including SystemExit
        _answer(connection, FAILED + describe_env_error(error).encode())
    finally:
        if shard is not None:
            shard.close()
        connection.close()


def _run_command(shard: Shard, message: bytes) -> bytes:
    if message == STEP:
        shard.step()
    elif message == RESET:
        shard.reset()
    else:
        return pickle.dumps(shard.render(pickle.loads(message.removeprefix(RENDER))))
    return b""


def _receive(connection: Connection) -> bytes | None:
    """The next message, or None if the parent has closed the pipe."""
    try:
        return connection.recv_bytes()
    except (EOFError, OSError):
        return None


def _answer(connection: Connection, message: bytes) -> None:
    with contextlib.suppress(
        OSError
    ):  # the parent has closed the pipe; the next receive returns None
        connection.send_bytes(message)


def _die_with_parent() -> None:
    """End this process when its parent ends, even if an environment hangs.

    The sentinel is immediate, but a process forked from the parent may keep it open, so the parent
    is also checked every second.
    """
    parent = parent_process()
    assert parent is not None
    while not wait([parent.sentinel], timeout=1.0):
        if os.getppid() != parent.pid:
            break
    os._exit(1)
