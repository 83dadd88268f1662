"""All code in the documentation runs, except for blocks whose title gives a reason."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from page_blocks import LANGUAGES, PAGES, ROOT, RUNNER, Block, blocks, name_of

CODE = {page: [block for block in blocks(page) if block.is_run] for page in PAGES}
TIMEOUT_SECONDS = 240
EXAMPLES = ROOT / "scripts" / "examples"
NOT_RUN = Path(__file__).parent / "not_run.txt"
"""The page and first line of each block of code that is not run."""


def run_blocks(code: list[Block], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run blocks of a page in a folder, with the command `metarl` of this Python."""
    listed = [(block.place, block.language, block.file, block.code) for block in code]
    (folder / "blocks.json").write_text(json.dumps(listed), encoding="utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        [sys.executable, "-c", RUNNER, "blocks.json"],
        cwd=folder,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("page", [page for page, code in CODE.items() if code], ids=name_of)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path):
    done = run_blocks(CODE[page], tmp_path)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.parametrize(
    ("language", "code"),
    [("python", "x = y"), ("bash", "metarl trian"), ("bash", "false\ntrue"), ("bash", "missing")],
)
def test_code_that_fails_is_found(language, code, tmp_path):
    assert run_blocks([Block(ROOT / "README.md", 1, language, "", code)], tmp_path).returncode


def test_blocks_of_a_page_share_names_and_files(tmp_path):
    code = [
        Block(ROOT / "README.md", 1, "python", "", "x = 1\n"),
        Block(ROOT / "README.md", 5, "python", "mine.py", "y = 2\n"),
        Block(ROOT / "README.md", 9, "bash", "", "test -f mine.py && touch seen"),
        Block(ROOT / "README.md", 12, "python", "", "import mine\nassert x + mine.y == 3\n"),
    ]
    done = run_blocks(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "seen").exists()


def test_blocks_that_are_not_run_are_few_and_listed():
    code = [block for page in PAGES for block in blocks(page) if block.is_code]
    found = {f"{name_of(block.page)}: {block.first_line}" for block in code if not block.is_run}
    listed = set(NOT_RUN.read_text(encoding="utf-8").splitlines())
    assert found == listed, f"update {NOT_RUN.name}: {sorted(found ^ listed)}"
    assert len(found) < len(code) / 2


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_fence_names_its_language(page):
    text = page.read_text(encoding="utf-8")
    fences = re.findall(r"^ *```", text, flags=re.MULTILINE)
    found = blocks(page)
    assert len(fences) == 2 * len(found), "a fence has another form than those of page_blocks.py"
    known = {*LANGUAGES, "text", "toml", "json", "yaml"}
    assert [block.place for block in found if block.language not in known] == []
    titles = [block.title for block in found if block.title and not block.file]
    assert [title for title in titles if not title.startswith(("Takes ", "Needs "))] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_that_is_not_run_compiles(page):
    for block in blocks(page):
        if block.language == "python":
            compile(block.code, block.place, "exec")


def test_files_on_the_pages_are_the_tested_examples():
    shown = {block.file: block.code for page in PAGES for block in blocks(page) if block.file}
    examples = {file.name: file.read_text(encoding="utf-8") for file in EXAMPLES.glob("my_*.py")}
    assert len(examples) == 3
    assert {name: shown.get(name) for name in examples} == examples, "copy the files there"
