"""Worker processes of a batch: how they start, are told what to do, fail, and end.

All data lie in arrays shared with the workers; what goes through a worker's pipe is one byte each
way. The memory has no name in the file system, so there is nothing to be left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import selectors
import signal
import time
import traceback
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .worker_process import (
    DONE,
    RENDER,
    RESET,
    STEP,
    Arrays,
    Layout,
    Picture,
    Shard,
    TaskSetter,
    serve,
)

__all__ = ["InProcess", "WorkerError", "WorkerPool", "shared_memory"]

_START_SECONDS = 120.0  # at least this long may a worker take to import and make an environment
_FAREWELL_SECONDS = 3.0  # for closing environments, before a worker is killed
_START_HINT = (
    "; what it wrote to standard error tells why (a script that makes batches must do so under "
    "`if __name__ == '__main__':`)"
)
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerError(RuntimeError):
    """An environment raised, or the process that steps it died or hung; its batch is closed."""

    def __init__(self, message: str, task: int | None = None, env: int | None = None) -> None:
        super().__init__(message)
        self.task, self.env = task, env
        """Where it happened, if in an environment."""


class InProcess:
    """A pool without workers: the environments are stepped in this process, to the same bits."""

    def __init__(self, family: TaskSetter, layout: Layout, arrays: Arrays) -> None:
        self._layout, self._arrays = layout, arrays
        arrays.active_env[:] = -1
        shard = self._shard = Shard(family, layout, arrays, 0)
        self._finalizer = weakref.finalize(self, shard.close)
        with self._errors_named("making"):
            shard.make()

    @property
    def is_closed(self) -> bool:
        """Whether it has been closed, by an error or `close`."""
        return not self._finalizer.alive

    def reset(self) -> None:
        """Reset the chosen environments."""
        with self._errors_named("resetting"):
            self._shard.reset()

    def step(self) -> None:
        """Step the chosen environments."""
        with self._errors_named("stepping"):
            self._shard.step()

    def render(self, index: int) -> Picture:
        """A picture of one environment."""
        with self._errors_named("drawing"):
            return self._shard.render(index)

    def close(self) -> None:
        """Close the environments."""
        self._finalizer()

    @contextlib.contextmanager
    def _errors_named(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as error:
            index = int(self._arrays.active_env[0])
            self.close()
            place = "" if index < 0 else f", in {_place(self._layout, self._arrays, index)}"
            raise WorkerError(
                f"this process failed while {doing}{place}:\n{traceback.format_exc()}",
                *_task_and_env(self._layout, index),
            ) from error


@dataclass(frozen=True)
class _Worker:
    number: int
    process: SpawnProcess
    connection: Connection


class WorkerPool:
    """Spawned processes, each with a shard of the batch's environments.

    After an error, or an interrupt while the workers were busy, all of them are ended.
    """

    def __init__(
        self, family: TaskSetter, layout: Layout, memory: Any, *, timeout_seconds: float
    ) -> None:
        """Start the workers and let them make their environments.

        Args:
            family: pickled to the workers.
            layout: of the shared arrays; its `num_shards` is the number of workers.
            memory: from `shared_memory`; the arrays in it hold the first tasks.
            timeout_seconds: how long one environment may take for one call; a worker that hangs
                is found after one to two times as long.

        Raises:
            TypeError: if the family cannot be pickled.
            WorkerError: if a worker cannot make its environments.
        """
        pickled = _pickle(family)
        context = get_context("spawn")
        self._layout, self._timeout_seconds = layout, timeout_seconds
        self._arrays = layout.arrays(memory)
        self._arrays.active_env[:] = -1
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._finalizer = weakref.finalize(
            self, _shut_down, self._workers, self._selector, os.getpid()
        )
        with self._closed_on_error():
            for number in range(layout.num_shards):
                ours, theirs = context.Pipe()
                arguments = (theirs, memory, layout, number)
                process = context.Process(target=serve, args=arguments, daemon=True)
                worker = _Worker(number, process, ours)
                self._workers.append(worker)
                with _started_as_worker():
                    process.start()
                theirs.close()
                self._selector.register(ours, selectors.EVENT_READ, worker)
            self._tell(pickled, "starting", self._workers)
            self._hear("starting", max(timeout_seconds, _START_SECONDS), self._workers)

    @property
    def is_closed(self) -> bool:
        """Whether the workers have been ended, by an error or `close`."""
        return not self._finalizer.alive

    @property
    def processes(self) -> list[SpawnProcess]:
        """The worker processes."""
        return [worker.process for worker in self._workers]

    def reset(self) -> None:
        """Reset the chosen environments."""
        self._ask(RESET, "resetting")

    def step(self) -> None:
        """Step the chosen environments."""
        self._ask(STEP, "stepping")

    def render(self, index: int) -> Picture:
        """A picture of one environment."""
        owner = next(w for w in self._workers if index in self._layout.shard(w.number))
        with self._closed_on_error():
            self._tell(RENDER + pickle.dumps(index), "drawing", [owner])
            answer = self._hear("drawing", self._timeout_seconds, [owner])[0]
        picture: Picture = pickle.loads(answer)
        return picture

    def close(self) -> None:
        """End the workers; the environments are closed first."""
        self._finalizer()

    def _ask(self, command: bytes, doing: str) -> None:
        """Give the command to those workers that have a chosen environment."""
        chosen, shard = self._arrays.chosen, self._layout.shard
        asked = [w for w in self._workers if chosen[_slice(shard(w.number))].any()]
        with self._closed_on_error():
            self._tell(command, doing, asked)
            self._hear(doing, self._timeout_seconds, asked)

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:  # an interrupt too: an answer would be left in a pipe
            self.close()
            raise

    def _tell(self, message: bytes, doing: str, asked: Sequence[_Worker]) -> None:
        for worker in asked:
            try:
                worker.connection.send_bytes(message)
            except OSError:
                if not worker.connection.poll():  # else it has left a last word
                    raise self._death(worker, doing) from None

    def _hear(self, doing: str, timeout_seconds: float, asked: Sequence[_Worker]) -> list[bytes]:
        """Wait for the answers of all who were asked; their payloads."""
        answers: dict[int, bytes] = {}
        seen = self._arrays.active_env.copy()
        while len(answers) < len(asked):
            events = self._selector.select(timeout_seconds)
            for key, _ in events:
                worker: _Worker = key.data
                answers[worker.number] = self._payload(worker, doing)
            if not events:
                waiting = [w for w in asked if w.number not in answers]
                self._require_progress(waiting, seen, doing, timeout_seconds)
                seen = self._arrays.active_env.copy()
        return [answers[worker.number] for worker in asked]

    def _payload(self, worker: _Worker, doing: str) -> bytes:
        try:
            answer = worker.connection.recv_bytes()
        except (EOFError, OSError):
            raise self._death(worker, doing) from None
        if answer.startswith(DONE):
            return answer[1:]
        index, place = self._where(worker)
        text = f"worker {worker.number} failed while {doing}, {place}:\n{answer[1:].decode()}"
        raise WorkerError(text, *_task_and_env(self._layout, index))

    def _require_progress(
        self,
        waiting: Sequence[_Worker],
        seen: NDArray[np.int64],
        doing: str,
        timeout_seconds: float,
    ) -> None:
        """Raise if one is still where it was before."""
        for worker in waiting:
            index, place = self._where(worker)
            if index == seen[worker.number] and not worker.connection.poll():
                worker.process.kill()
                raise WorkerError(
                    f"worker {worker.number} gave no answer for {timeout_seconds:g} s while "
                    f"{doing}, {place}",
                    *_task_and_env(self._layout, index),
                )

    def _death(self, worker: _Worker, doing: str) -> WorkerError:
        index, place = self._where(worker)
        worker.process.join(_FAREWELL_SECONDS)
        hint = _START_HINT if doing == "starting" and index < 0 else ""
        return WorkerError(
            f"worker {worker.number} died (exit code {worker.process.exitcode}) while {doing}, "
            f"{place}{hint}",
            *_task_and_env(self._layout, index),
        )

    def _where(self, worker: _Worker) -> tuple[int, str]:
        """The environment a worker is in, −1 for none, and that in words."""
        index = int(self._arrays.active_env[worker.number])
        if index >= 0:
            return index, f"in {_place(self._layout, self._arrays, index)}"
        shard = self._layout.shard(worker.number)
        ends = (_place(self._layout, self._arrays, end) for end in (shard[0], shard[-1]))
        return index, f"outside its environments, which are {' to '.join(ends)}"


def _slice(indices: range) -> slice:
    return slice(indices.start, indices.stop)


def shared_memory(layout: Layout) -> Any:
    """Zeroed memory that spawned processes can share; it is freed with its last user."""
    return get_context("spawn").RawArray(ctypes.c_uint8, layout.num_bytes)


def _place(layout: Layout, arrays: Arrays, index: int) -> str:
    task, env = divmod(index, layout.num_envs)
    return f"environment {env} of task {task} (values {arrays.tasks[task].tolist()})"


def _task_and_env(layout: Layout, index: int) -> tuple[int | None, int | None]:
    return divmod(index, layout.num_envs) if index >= 0 else (None, None)


def _pickle(family: TaskSetter) -> bytes:
    try:
        return pickle.dumps(family)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"family must be picklable to reach its worker processes: define {type(family)} and "
            f"what it holds at the top level of a module, or set num_workers=0 ({error})"
        ) from error


@contextlib.contextmanager
def _started_as_worker() -> Iterator[None]:
    """A process started herein computes on one thread, and interrupts pass it by from the start."""
    resource_tracker.ensure_running()  # its own start would unblock the signal
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _shut_down(
    workers: Sequence[_Worker], selector: selectors.BaseSelector, owner_pid: int
) -> None:
    """Hang up, wait a little for the workers to end, and kill those that do not."""
    if os.getpid() != owner_pid:
        return  # a fork of the owner: the workers are not its own
    selector.close()
    for worker in workers:
        worker.connection.close()
    deadline = time.monotonic() + _FAREWELL_SECONDS
    for worker in workers:
        if worker.process.pid is None:
            continue  # it was never started
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.kill()
        worker.process.join()
        worker.process.close()
