"""Commands run for the fault campaign: in this process, or in a forked one that can be killed."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from metarl.scripts.cli import dispatch
from metarl.scripts.command_line import run

__all__ = ["Ended", "Forked", "Row", "command", "count_file_operations", "kill_at_file_operation"]

_FILE_EVENTS = ("open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir")


class Row(NamedTuple):
    """One line of the campaign's table."""

    fault: str
    tried: int
    passed: int
    required: str
    """Required behavior."""
    failures: tuple[str, ...] = ()


class Ended(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    def rejection_fault(self, code: int = 2) -> str:
        """The fault of a rejection; "" if it was one sentence with this exit code."""
        if self.code != code:
            return f"exit code {self.code} instead of {code}: {self.err.strip()[-300:]}"
        lines = self.err.strip().splitlines()
        if len(lines) != 1 or not lines[0].startswith("metarl: "):
            return f"printed {self.err[-500:]!r}"
        return ""


def command(arguments: Sequence[str]) -> Ended:
    """Run the command `metarl` in this process."""
    out, err, before, code = io.StringIO(), io.StringIO(), sys.argv, 0
    sys.argv = ["metarl", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run(dispatch)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 99
    except Exception:  # a user would see a traceback
        code = 99
        err.write(traceback.format_exc())
    finally:
        sys.argv = before
    return Ended(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Forked:
    """The command `metarl` in a fork of this process, which has imported everything."""

    pid: int
    log: Path

    @classmethod
    def start(
        cls,
        arguments: Sequence[str],
        log: Path,
        *,
        prepare: Callable[[], None] = lambda: None,
    ) -> Forked:
        """Start the command.

        Args:
            arguments: arguments of the command.
            log: file for its output.
            prepare: function called first in the fork.
        """
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return cls(pid, log)
        code = 99
        try:
            os.setpgid(0, 0)
            os.dup2(
                os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), 2
            )  # of C++, workers
            signal.signal(signal.SIGINT, signal.default_int_handler)
            prepare()
            ended = command(arguments)
            code = ended.code
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            with log.open("a", encoding="utf-8", errors="replace") as file:
                file.write(ended.out + ended.err)
        finally:
            os._exit(code)

    def wait(self) -> int:
        """Wait for the end and return the exit code; −9 if it was killed."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def wait_at_most(self, seconds: float) -> int | None:
        """The exit code; None if it did not end in time, and was killed with its children."""
        deadline = time.monotonic() + seconds
        while os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                self.wait()
                return None
            time.sleep(0.002)
        return self.wait()

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Wait for a condition; False if the process ended before (it is not reaped)."""
        while not condition():
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return condition()
            time.sleep(0.002)
        return True

    def send(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)


def kill_at_file_operation(folder: Path, number: int) -> Callable[[], None]:
    """A `prepare` that sends SIGKILL at an operation on files in a folder, counted from 1."""

    def prepare() -> None:
        count = 0

        def note() -> None:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

        _watch(folder, note)

    return prepare


def count_file_operations(folder: Path, result: Path) -> Callable[[], None]:
    """A `prepare` that writes one byte to a file for each operation on files in a folder."""

    def prepare() -> None:
        descriptor = os.open(result, os.O_WRONLY | os.O_CREAT)
        _watch(folder, lambda: os.write(descriptor, b"."))

    return prepare


def _watch(folder: Path, note: Callable[[], Any]) -> None:
    """Call `note` before every operation on files in a folder, including fsync."""
    name, fsync = str(folder), os.fsync

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _FILE_EVENTS and any(name in str(argument) for argument in arguments[:2]):
            note()

    def noted_fsync(fd: Any) -> None:
        note()
        fsync(fd)

    sys.addaudithook(hook)
    os.fsync = noted_fsync
