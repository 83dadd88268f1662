"""Help texts of all commands: plain sentences with the names of a command line."""

from __future__ import annotations

import itertools
import re

import pytest

from metarl.agents import AGENTS
from metarl.fewshot.learners.catalog import LEARNERS
from metarl.scripts.cli import dispatch

COMMANDS = (
    *(f"train {entry.name}" for entry in AGENTS),
    *(f"fewshot {entry.name}" for entry in LEARNERS),
    *("evaluate", "compare", "report", "play", "check", "list"),
)


def raw_help(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        dispatch([*command.split(), "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def help_text(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The help of a command, without the frames of its boxes."""
    return re.sub(r"[│╭╮╰╯─]", "", raw_help(command, capsys))


@pytest.mark.parametrize("command", COMMANDS)
def test_settings_have_the_names_of_options_and_defaults_are_visible(command, capsys):
    text = help_text(command, capsys)
    options = re.findall(r"--([a-z0-9-]+-[a-z0-9-]+)", text)
    words = set(re.findall(r"(?<![\w.])[a-z0-9]+(?:_[a-z0-9]+)+", text))
    assert words & {option.replace("-", "_") for option in options} <= {"num_tasks", "num_envs"}
    assert "`" not in text
    assert not re.search(r"\(default:\s*\)", text)


@pytest.mark.parametrize("command", COMMANDS)
def test_lines_break_only_where_they_are_full(command, capsys):
    """A line of an option is followed by another one only if its first word did not fit."""
    for block in re.findall(r"(?m)^│ --.*(?:\n│  +.*)*", raw_help(command, capsys)):
        lines = [line.strip("│").rstrip() for line in block.splitlines()]
        texts = [line for line in lines if not line.lstrip().startswith("--")]
        for line, following in itertools.pairwise(texts):
            assert len(line) + 1 + len(following.split()[0]) >= 77, block


@pytest.mark.parametrize("entry", list(LEARNERS), ids=lambda entry: entry.name)
def test_a_few_shot_learner_has_no_option_without_effect(entry, capsys):
    text, learner = help_text(f"fewshot {entry.name}", capsys), entry.load()
    assert ("--test-steps" in text) == learner.has_steps
    assert ("--compile" in text) == getattr(learner, "can_compile", False)
    assert "MuJoCo" not in text
    assert "agents" not in text


def test_options_without_effect_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="there is no option --test-steps"):
        dispatch(["fewshot", "protonet", "--out", str(tmp_path / "a"), "--test-steps", "3"])
    assert not list(tmp_path.iterdir())
