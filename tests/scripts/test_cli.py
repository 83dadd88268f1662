"""The command `metarl` and its subcommands: help, names, and one sentence for every mistake."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from metarl.agents import AGENTS
from metarl.scripts.cli import dispatch

ROOT = Path(__file__).parents[2]


def metarl(line: str, *paths: Path) -> None:
    """The command `metarl`; each path replaces one OUT in the line."""
    rest = iter(paths)
    dispatch([str(next(rest)) if word == "OUT" else word for word in line.split()])


def test_agents_are_listed_and_a_family_is_checked(capsys):
    metarl("list agents")
    assert capsys.readouterr().out.startswith("agents\n  maml-trpo  ")
    metarl("check Navigation2D:maml17")
    assert capsys.readouterr().out.endswith("1 family is sound\n")


COMMANDS = ("train", "evaluate", "compare", "report", "play", "fewshot", "list", "check")


@pytest.mark.parametrize("line", ["", "--help", "-h"])
def test_without_a_command_the_commands_are_listed(capsys, line):
    with pytest.raises(SystemExit, match=r"^0$"):
        metarl(line)
    text = capsys.readouterr().out
    assert [name for name in COMMANDS if f"{name} " not in text] == []
    assert "--import MODULE, before or after a command, first imports" in text


def test_the_version_is_that_of_the_distribution(capsys):
    metarl("--version")
    assert capsys.readouterr().out == f"metarl {version('metarl-toolkit')}\n"


HELP = [*COMMANDS, "train maml-trpo", "fewshot maml"]


@pytest.mark.parametrize("line", HELP)
def test_every_command_has_help(capsys, line):
    with pytest.raises(SystemExit, match=r"^0$"):
        metarl(f"{line} --help")
    assert capsys.readouterr().out.startswith(f"usage: metarl {line} ")


MISTAKES = [
    ("trian", "command must be one of train, .*, got 'trian'; did you mean 'train'"),
    ("train maml-trop", "agent must be one of .*, got 'maml-trop'; did you mean 'maml-trpo'"),
    ("fewshot mamml", "learner must be one of maml, .*, got 'mamml'; did you mean 'maml'"),
    ("train maml-trpo --env Navigatoin2D:maml17 --out OUT", "did you mean 'Navigation2D'"),
    ("train maml-trpo --env Navigation2D --out OUT", "environment must name its variant, one of"),
    (
        "train maml-trpo --env Navigation2D:maml18 --out OUT",
        "variant of Navigation2D must be one of maml17, got 'maml18'; did you mean 'maml17'",
    ),
    (
        "train maml-trpo --out OUT",
        "--env must be given: a task family and its variant; see metarl list",
    ),
    ("train maml-trpo --env Navigation2D:maml17", "--out must be given"),
    ("train maml-trpo --out OUT --gama .9", "there is no option --gama; did you mean --gamma"),
    ("train maml-trpo --out OUT --gamma 2", r"gamma must lie in \[0, 1\], got 2"),
    ("train maml-trpo --out OUT --seed x", "--seed.*'x'"),
    ("train maml-trpo --out OUT --iterations 0", "iterations must be 1 or more, got 0"),
    ("fewshot maml --out OUT --shots 0", "shots must be 1 or more, got 0"),
    (
        "fewshot maml --out OUT --differentiation second",
        "--differentiation must be one of .*recurrence.*, got 'second'",
    ),
    ("list agnets", "must be one of all, agents, .*, got 'agnets'; did you mean 'agents'"),
    ("check Navigation2D:maml", "variant of Navigation2D must be one of maml17, got 'maml'"),
    ("check", "give either families or --all; metarl list envs"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(tmp_path, line, message):
    with pytest.raises(ValueError, match=message) as caught:
        metarl(line, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def subprocess_of(*command: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def test_a_module_named_on_the_command_line_must_exist():
    ended = subprocess_of(Path(sys.executable).with_name("metarl"), "list", "--import", "no_such")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "metarl: --import must be the name of an existing module, got 'no_such'; "
        "the working directory and the installed packages are searched\n"
    )


@pytest.mark.parametrize(
    "command",
    [
        [Path(sys.executable).with_name("metarl"), "train"],
        [sys.executable, "-m", "metarl", "train"],
        [sys.executable, Path("scripts", "train.py")],
    ],
    ids=["installed", "module", "script"],
)
def test_a_mistake_at_a_terminal_is_one_line_and_exit_code_two(command):
    ended = subprocess_of(*command, "maml-trop")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == (
        "metarl: agent must be one of "
        f"{', '.join(entry.name for entry in AGENTS)}, got 'maml-trop'; did you mean 'maml-trpo'? "
        "Names of your own modules need --import MODULE\n"
    )


def test_the_help_of_references_states_how_to_choose_all(capsys):
    with pytest.raises(SystemExit, match="0"):
        dispatch(["evaluate", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert 'or "all" for all that support the family' in text
    assert "as listed by metarl list references" in text
