"""The commands on the pages are accepted; links lead somewhere; modules and files exist."""

import contextlib
import importlib
import re
import shlex
from importlib.metadata import entry_points
from typing import Any, NoReturn

import pytest
from page_blocks import PAGES, ROOT, blocks, name_of

from metarl.scripts import cli

COMMANDS = ("train", "evaluate", "compare", "report", "play", "fewshot", "list", "check")


def documented_commands() -> list[str]:
    """All complete command lines of `metarl` on the pages, without those that import a module."""
    found = []
    for page in [*PAGES, *sorted((ROOT / "results").rglob("README.md"))]:
        lines = [
            line
            for block in blocks(page)
            for line in block.code.replace("\\\n", " ").splitlines()
            if line.startswith("metarl ")
        ]
        inline = re.findall(r"`(metarl [^`]+ --[^`]+)`", page.read_text(encoding="utf-8"))
        lines += [
            " ".join(line.split()) for line in inline if not re.search(r"[|…]|[A-Z]{3}", line)
        ]
        found += [line for line in lines if "--import" not in line and "--help" not in line]
    return sorted(set(found))


class Accepted(Exception):  # noqa: N818 - what a command raises instead of its work
    """A command line was read without a complaint."""


@pytest.mark.parametrize("line", documented_commands())
def test_a_documented_command_is_accepted(line, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        module = importlib.import_module(f"metarl.scripts.{command}")
        parse = module.parse

        def accept(*args: Any, parse: Any = parse, **options: Any) -> NoReturn:
            parse(*args, **options)
            raise Accepted

        monkeypatch.setattr(module, "parse", accept)
    words = shlex.split(line.partition(" #")[0])[1:]
    if words[0] in ("train", "fewshot") and not {"--out", "--list"} & set(words):
        words += ["--out", "run"]  # left out in sentences
    with contextlib.suppress(Accepted):  # lists are printed at once
        cli.dispatch(words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_modules_and_files_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`(metarl(?:\.\w+)+)`", text):
        assert resolves(name) or entry_points(group=name), name
    for name in re.findall(
        r"(?<![\w/.])((?:metarl|envs|agents|scripts|docs|tests|results)/[\w./-]+\.\w+)", text
    ):
        assert (ROOT / name).exists() or "NAME" in name, name


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        return all((found := getattr(found, part, None)) is not None for part in parts[length:])
    return False


def test_the_example_report_has_the_current_style():
    style = (ROOT / "metarl" / "report" / "templates" / "style.css").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "example_report.html").read_text(encoding="utf-8")
    remedy = "metarl report results/Navigation2D-maml17/maml-trpo --out docs/example_report.html"
    assert style.strip() in page, f"run {remedy}"
