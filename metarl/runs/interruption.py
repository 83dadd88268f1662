"""Ctrl-C, SIGTERM and SIGHUP: the first is a request to stop, a second one interrupts."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interruption"]

_NAMES = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM", "SIGHUP": "SIGHUP (the terminal was closed)"}
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class Interruption:
    """Within the block, the first of these signals is recorded; a second one interrupts as usual.

    Handlers are not changed outside the main thread, where Python does not allow it, or for signals
    that are ignored, as under `nohup`.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        """The signal that arrived; None before."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """The exit code that shells use for a signal: 130 for SIGINT, 143 for SIGTERM."""
        assert self.signal is not None
        return 128 + self.signal

    @property
    def cause(self) -> str:
        """The signal in words."""
        assert self.signal is not None
        return _NAMES[self.signal.name]

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        with contextlib.suppress(OSError):  # the terminal may be gone
            os.write(
                2, b"\nfinishing this iteration and saving; press Ctrl-C again to stop at once\n"
            )
