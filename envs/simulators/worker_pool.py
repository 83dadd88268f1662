"""Worker processes of a batch: start, commands, failures and shutdown.

All data are in arrays shared with the workers; a command and its answer in a worker's pipe are one
byte each. The shared memory has no name in the file system, so no file can be left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import selectors
import signal
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.processes import without_main_module

from .env_results import describe_env_error
from .worker_process import (
    DONE,
    RENDER,
    RESET,
    STEP,
    Arrays,
    Image,
    Layout,
    Shard,
    WorkerFamily,
    serve,
)

__all__ = ["InProcessPool", "WorkerError", "WorkerPool", "shared_memory"]

_MIN_START_SECONDS = 120.0  # smallest time limit for imports and the first environment
_SHUTDOWN_SECONDS = 3.0  # for closing environments before a worker is killed
_START_HINT = (
    "; its standard error has the reason (a script that creates batches must do so under "
    "`if __name__ == '__main__':`)"
)
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerError(RuntimeError):
    """An environment raised, or its process died or hung; the batch is closed.

    The first line of the message is complete; a traceback may follow.
    """

    def __init__(self, message: str, task: int | None = None, env: int | None = None) -> None:
        super().__init__(message)
        self.task, self.env = task, env
        """Indices of the task and environment, if the error occurred in an environment."""

    lost_process = False
    """Whether a worker died or hung; in this process, the environment would end or block it."""


class _LostWorkerError(WorkerError):
    lost_process = True


class InProcessPool:
    """A pool without workers that steps in this process, with bitwise identical results."""

    def __init__(self, family: WorkerFamily, layout: Layout, arrays: Arrays) -> None:
        self._layout, self._arrays = layout, arrays
        arrays.active_env[:] = -1
        shard = self._shard = Shard(family, layout, arrays, 0)
        self._finalizer = weakref.finalize(self, shard.close)
        with self._describing_errors("creating environments"):
            shard.make()

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in vars(self).items() if name != "_finalizer"}
        return {**kept, "is_closed": self.is_closed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        is_closed = state.pop("is_closed")
        vars(self).update(state)
        self._finalizer = weakref.finalize(self, self._shard.close)
        if is_closed:
            self.close()

    @property
    def is_closed(self) -> bool:
        """Whether the pool was closed, by an error or `close`."""
        return not self._finalizer.alive

    def reset(self) -> None:
        """Reset the chosen environments."""
        with self._describing_errors("resetting"):
            self._shard.reset()

    def step(self) -> None:
        """Step the chosen environments."""
        with self._describing_errors("stepping"):
            self._shard.step()

    def render(self, index: int) -> Image:
        """Render one environment."""
        with self._describing_errors("rendering"):
            return self._shard.render(index)

    def close(self) -> None:
        """Close the environments."""
        self._finalizer()

    @contextlib.contextmanager
    def _describing_errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as error:
            index = int(self._arrays.active_env[0])
            self.close()
            place = "" if index < 0 else f", in {_describe_env(self._layout, self._arrays, index)}"
            raise WorkerError(
                f"this process failed while {doing}{place}: {describe_env_error(error)}",
                *_task_and_env(self._layout, index),
            ) from error


@dataclass(frozen=True)
class _Worker:
    number: int
    process: SpawnProcess
    connection: Connection


class WorkerPool:
    """Spawned processes, each with a shard of the batch's environments.

    After an error, or an interrupt while the workers are busy, all workers are ended.
    """

    def __init__(
        self, family: WorkerFamily, layout: Layout, memory: Any, *, timeout_seconds: float
    ) -> None:
        """Start the workers, which create their environments.

        Args:
            family: pickled to the workers.
            layout: layout of the shared arrays; its `num_shards` is the number of workers.
            memory: from `shared_memory`; its arrays contain the first tasks.
            timeout_seconds: time limit of a call to one environment; a worker that hangs is
                detected after one to two times this time.

        Raises:
            TypeError: if the family cannot be pickled.
            WorkerError: if a worker cannot create its environments.
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
        with self._closing_on_error():
            for number in range(layout.num_shards):
                ours, theirs = context.Pipe()
                arguments = (theirs, memory, layout, number)
                process = context.Process(target=serve, args=arguments, daemon=True)
                worker = _Worker(number, process, ours)
                self._workers.append(worker)
                with _started_as_worker(needs_main=b"__main__" in pickled):
                    process.start()
                theirs.close()
                self._selector.register(ours, selectors.EVENT_READ, worker)
            self._send(pickled, "starting", self._workers)
            self._receive("starting", max(timeout_seconds, _MIN_START_SECONDS), self._workers)

    @property
    def is_closed(self) -> bool:
        """Whether the workers were ended, by an error or `close`."""
        return not self._finalizer.alive

    @property
    def processes(self) -> list[SpawnProcess]:
        """The worker processes."""
        return [worker.process for worker in self._workers]

    def reset(self) -> None:
        """Reset the chosen environments."""
        self._command(RESET, "resetting")

    def step(self) -> None:
        """Step the chosen environments."""
        self._command(STEP, "stepping")

    def render(self, index: int) -> Image:
        """Render one environment."""
        owner = next(w for w in self._workers if index in self._layout.shard(w.number))
        with self._closing_on_error():
            self._send(RENDER + pickle.dumps(index), "rendering", [owner])
            answer = self._receive("rendering", self._timeout_seconds, [owner])[0]
        image: Image = pickle.loads(answer)
        return image

    def close(self) -> None:
        """Close the environments and end the workers."""
        self._finalizer()

    def _command(self, command: bytes, doing: str) -> None:
        """Run a command in the workers that have a chosen environment."""
        chosen, shard = self._arrays.chosen, self._layout.shard
        workers = [w for w in self._workers if chosen[_slice(shard(w.number))].any()]
        with self._closing_on_error():
            self._send(command, doing, workers)
            self._receive(doing, self._timeout_seconds, workers)

    @contextlib.contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:  # also interrupts, after which answers would remain in pipes
            self.close()
            raise

    def _send(self, message: bytes, doing: str, workers: Sequence[_Worker]) -> None:
        for worker in workers:
            try:
                worker.connection.send_bytes(message)
            except OSError:
                if not worker.connection.poll():  # otherwise its error message can be read
                    raise self._death_error(worker, doing) from None

    def _receive(
        self, doing: str, timeout_seconds: float, workers: Sequence[_Worker]
    ) -> list[bytes]:
        """Wait for the answers of the workers and return their payloads."""
        answers: dict[int, bytes] = {}
        earlier = self._arrays.active_env.copy()
        while len(answers) < len(workers):
            events = self._selector.select(timeout_seconds)
            for key, _ in events:
                worker: _Worker = key.data
                answers[worker.number] = self._payload(worker, doing)
            if not events:
                waiting = [w for w in workers if w.number not in answers]
                self._require_progress(waiting, earlier, doing, timeout_seconds)
                earlier = self._arrays.active_env.copy()
        return [answers[worker.number] for worker in workers]

    def _payload(self, worker: _Worker, doing: str) -> bytes:
        try:
            answer = worker.connection.recv_bytes()
        except (EOFError, OSError):
            raise self._death_error(worker, doing) from None
        if answer.startswith(DONE):
            return answer[1:]
        index, place = self._locate(worker)
        text = f"worker {worker.number} failed while {doing}, {place}: {answer[1:].decode()}"
        raise WorkerError(text, *_task_and_env(self._layout, index))

    def _require_progress(
        self,
        waiting: Sequence[_Worker],
        earlier: NDArray[np.int64],
        doing: str,
        timeout_seconds: float,
    ) -> None:
        """Raise if a worker is in the same environment as at the previous time limit."""
        for worker in waiting:
            index, place = self._locate(worker)
            if index == earlier[worker.number] and not worker.connection.poll():
                worker.process.kill()
                raise _LostWorkerError(
                    f"worker {worker.number} did not answer within {timeout_seconds:g} s while "
                    f"{doing}, {place}",
                    *_task_and_env(self._layout, index),
                )

    def _death_error(self, worker: _Worker, doing: str) -> WorkerError:
        index, place = self._locate(worker)
        worker.process.join(_SHUTDOWN_SECONDS)
        hint = _START_HINT if doing == "starting" and index < 0 else ""
        return _LostWorkerError(
            f"worker {worker.number} died (exit code {worker.process.exitcode}) while {doing}, "
            f"{place}{hint}",
            *_task_and_env(self._layout, index),
        )

    def _locate(self, worker: _Worker) -> tuple[int, str]:
        """Index of the environment that a worker is in, −1 for none, and a description."""
        index = int(self._arrays.active_env[worker.number])
        if index >= 0:
            return index, f"in {_describe_env(self._layout, self._arrays, index)}"
        shard = self._layout.shard(worker.number)
        ends = (_describe_env(self._layout, self._arrays, end) for end in (shard[0], shard[-1]))
        return index, f"outside of its environments, {' to '.join(ends)}"


def _slice(indices: range) -> slice:
    return slice(indices.start, indices.stop)


def shared_memory(layout: Layout) -> Any:
    """Zeroed memory that spawned processes can share; it is freed after its last use."""
    return get_context("spawn").RawArray(ctypes.c_uint8, layout.num_bytes)


def _describe_env(layout: Layout, arrays: Arrays, index: int) -> str:
    task, env = divmod(index, layout.num_envs)
    return f"environment {env} of task {task} (values {arrays.tasks[task].tolist()})"


def _task_and_env(layout: Layout, index: int) -> tuple[int | None, int | None]:
    return divmod(index, layout.num_envs) if index >= 0 else (None, None)


def _pickle(family: WorkerFamily) -> bytes:
    try:
        return pickle.dumps(family)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"family must be picklable to reach its worker processes: define {type(family)} and "
            f"its attributes at the top level of a module, or set num_workers=0 ({error})"
        ) from error


@contextlib.contextmanager
def _started_as_worker(*, needs_main: bool) -> Iterator[None]:
    """Start processes with one thread and with interrupts blocked from the beginning.

    Args:
        needs_main: whether they import the main module, for a class that is defined there.
    """
    resource_tracker.ensure_running()  # starting it later would unblock the signal
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        with contextlib.nullcontext() if needs_main else without_main_module():
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
    """Close the pipes, wait for the workers to end, and kill the others."""
    if os.getpid() != owner_pid:
        return  # a fork of the owner, which must not end its workers
    selector.close()
    for worker in workers:
        worker.connection.close()
    deadline = time.monotonic() + _SHUTDOWN_SECONDS
    for worker in workers:
        if worker.process.pid is None:
            continue  # it was never started
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.kill()
        worker.process.join()
        worker.process.close()
