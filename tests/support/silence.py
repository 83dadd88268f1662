"""Runs a command in a pseudo-terminal and measures how long it prints nothing."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Heard(NamedTuple):
    """The output of a command on a terminal."""

    code: int
    text: str
    """Without control sequences."""
    gaps: list[tuple[float, str]]
    """Seconds without output and when they began, in order."""

    @property
    def longest_gap(self) -> tuple[float, str]:
        """The longest silence between the first and the last output."""
        return max(self.gaps[1:-1])


def listen(
    command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Heard:
    """Run a command with a pseudo-terminal of 100 columns as its input and outputs."""
    ours, theirs = pty.openpty()
    started = last = time.monotonic()
    variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **(env or {})}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=variables
    )
    os.close(theirs)
    text, gaps = "", []
    while True:
        select.select([ours], [], [])
        now = time.monotonic()
        gaps.append((now - last, f"{last - started:.1f} s: {text[-60:]!r}"))
        last = now
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the last process closed the terminal
            break
        if not piece:
            break
        text += _ESCAPES.sub("", piece.decode(errors="replace"))
    os.close(ours)
    return Heard(process.wait(), text, gaps)
