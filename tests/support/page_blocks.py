"""The code blocks of the documentation, and a program that runs them.

The fence of a block names its language, and may have a title, which readers see above the block:

    ```python                         runs, after the blocks before it on the page
    ```bash                           runs in the same folder
    ```python title="my_agent.py"     is written to this file, in the same folder
    ```bash title="Takes 3 minutes"   is not run; its commands must be valid
    ```bash title="Needs a GPU"       is not run; its commands must be valid
    ```text                           output, or anything else that is not code
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = ("python", "bash")
"""Languages of code that runs."""

_FENCE = re.compile(
    r'^(?P<indent> *)```(?P<language>\w*)(?: +title="(?P<title>[^"]+)")?[ ]*\n'
    r"(?P<code>.*?)^(?P=indent)```[ ]*$",
    re.DOTALL | re.MULTILINE,
)
_NOT_RUN = re.compile(r"(Takes|Needs) ")

RUNNER = """
import json, pathlib, subprocess, sys
for place, language, file, code in json.loads(pathlib.Path(sys.argv[1]).read_text("utf-8")):
    if file:
        pathlib.Path(file).write_text(code, encoding="utf-8")
    elif language == "python":
        exec(compile(code, place, "exec"), globals())
    elif subprocess.run(["bash", "-euo", "pipefail", "-c", code]).returncode:
        sys.exit(f"{place} failed")
"""
"""A program that runs blocks in order, in the current folder."""


class Block(NamedTuple):
    """One fenced block of a page."""

    page: Path
    line: int
    """Line of the fence."""
    language: str
    title: str
    code: str

    @property
    def place(self) -> str:
        """The page and the line, for messages."""
        return f"{name_of(self.page)}:{self.line}"

    @property
    def file(self) -> str:
        """The file that holds the block; "" if it is not the text of a file."""
        return self.title if re.fullmatch(r"[\w.-]+\.\w+", self.title) else ""

    @property
    def is_code(self) -> bool:
        """Whether the block is code rather than output."""
        return self.language in LANGUAGES

    @property
    def is_run(self) -> bool:
        """Whether the tests run the block, or write it to its file."""
        return bool(self.file) or (self.is_code and not _NOT_RUN.match(self.title))

    @property
    def first_line(self) -> str:
        """The first line of the code."""
        return self.code.strip().partition("\n")[0]


def name_of(page: Path) -> str:
    """The path of a page in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, match.start()) + 1,
            match["language"],
            match["title"] or "",
            textwrap.dedent(match["code"]),
        )
        for match in _FENCE.finditer(text)
    ]
