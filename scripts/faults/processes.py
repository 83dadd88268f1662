"""Running `metarl` for the fault campaign: in this process, or in a fork that can be killed."""

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

__all__ = [
    "CommandResult",
    "ForkedCommand",
    "Row",
    "count_file_operations",
    "kill_at_file_operation",
    "run_command",
]

_PATIENCE = 6.0
_FILE_EVENTS = ("open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir")


class Row(NamedTuple):
    """One row of the campaign's table: one kind of fault."""

    fault: str
    """The injected fault."""
    tried: int
    """Number of injections."""
    passed: int
    """Number of injections after which the command behaved as required."""
    required: str
    """Required behavior."""
    failures: tuple[str, ...] = ()
    """A description of each failed case."""


class CommandResult(NamedTuple):
    """Exit code and output of a command."""

    exit_code: int
    stdout: str
    stderr: str

    def rejection_problem(self, exit_code: int = 2) -> str:
        """Check that the command failed with one sentence and this exit code.

        Returns:
            A description of the difference; "" if there is none.
        """
        if self.exit_code != exit_code:
            message = self.stderr.strip()[-300:]
            return f"exit code {self.exit_code} instead of {exit_code}: {message}"
        lines = self.stderr.strip().splitlines()
        if len(lines) != 1 or not lines[0].startswith("metarl: "):
            return f"printed {self.stderr[-500:]!r}"
        return ""


def run_command(arguments: Sequence[str]) -> CommandResult:
    """Run `metarl` with some arguments in this process."""
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
    return CommandResult(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class ForkedCommand:
    """A run of `metarl` in a fork of this process, in which all modules are already imported."""

    pid: int
    log: Path

    @classmethod
    def start(
        cls,
        arguments: Sequence[str],
        log: Path,
        *,
        prepare: Callable[[], None] = lambda: None,
    ) -> ForkedCommand:
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
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(descriptor, 2)  # standard error of C++ code and worker processes
            signal.signal(signal.SIGINT, signal.default_int_handler)
            prepare()
            result = run_command(arguments)
            code = result.exit_code
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            with log.open("a", encoding="utf-8", errors="replace") as file:
                file.write(result.stdout + result.stderr)
        finally:
            os._exit(code)

    def wait(self) -> int:
        """Wait for the end and return the exit code; −9 if it was killed."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def wait_at_most(self, seconds: float) -> int | None:
        """Wait for the exit code; after the time, kill the process and its children: None.

        On a busy machine, a process that has used less than this time of a core gets up to six
        times as long.
        """
        started = time.monotonic()
        while os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            passed = time.monotonic() - started
            if passed > seconds and max(_core_seconds(self.pid), passed / _PATIENCE) > seconds:
                os.killpg(self.pid, signal.SIGKILL)
                self.wait()
                return None
            time.sleep(0.002)
        return self.wait()

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Wait for a condition; False if the process ended first (it is not reaped)."""
        while not condition():
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return condition()
            time.sleep(0.002)
        return True

    def send(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)


def _core_seconds(pid: int) -> float:
    """Seconds that a process, which is not reaped yet, has run on a core (Linux)."""
    words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def kill_at_file_operation(folder: Path, number: int) -> Callable[[], None]:
    """A `prepare` function: SIGKILL at the operation `number`, from 1, on files in a folder."""

    def prepare() -> None:
        count = 0

        def on_operation() -> None:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

        _watch(folder, on_operation)

    return prepare


def count_file_operations(folder: Path, result: Path) -> Callable[[], None]:
    """A `prepare` function: write a byte to `result` at each operation on files in a folder."""

    def prepare() -> None:
        descriptor = os.open(result, os.O_WRONLY | os.O_CREAT)
        _watch(folder, lambda: os.write(descriptor, b"."))

    return prepare


def _watch(folder: Path, on_operation: Callable[[], Any]) -> None:
    """Call `on_operation` before every operation on files in a folder, including fsync."""
    name, fsync = str(folder), os.fsync

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _FILE_EVENTS and any(name in str(argument) for argument in arguments[:2]):
            on_operation()

    def watched_fsync(fd: Any) -> None:
        on_operation()
        fsync(fd)

    sys.addaudithook(hook)
    os.fsync = watched_fsync
