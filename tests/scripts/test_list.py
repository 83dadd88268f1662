"""`metarl list` and the page of environments."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

sys.path.append(str(Path(__file__).parents[1] / "support"))

from sound_families import Walk

from metarl.agents import AGENTS
from metarl.envs import FAMILIES, register_family
from metarl.registry import Entry
from metarl.scripts.environment_list import environments_page
from metarl.scripts.list import main

PAGE = Path(__file__).parents[2] / "docs" / "environments.md"


class Odd(Walk):
    """Walks | and stumbles.

    More of it.
    """

    name = "Odd"
    variants = ("left", "right")
    splits, ood_splits = ("train", "test", "far"), ("far",)
    task_description = "goal |x| < 1"
    action_divisor = 10.0

    def __init__(self, variant: str) -> None:
        super().__init__(variant)
        self.warning = "left is not right" if variant == "left" else ""


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The catalog holds `Odd`, and a family whose package is missing."""
    missing = Entry("Gone", "no_such_module_of_ours:Gone", "not there", ("a", "b", "c"))
    monkeypatch.setattr(FAMILIES, "_entries", {"Gone": missing})
    before = set(gymnasium.registry)
    register_family("Odd", Odd, description="an odd walk", variants=Odd.variants)
    yield
    for env_id in set(gymnasium.registry) - before:
        del gymnasium.registry[env_id]


def listed(capsys: pytest.CaptureFixture[str], line: str = "") -> list[str]:
    main(line.split())
    return capsys.readouterr().out.splitlines()


# The list.


def test_every_agent_and_environment_is_named_once(capsys):
    first_words = [line.split()[0].rstrip(":") for line in listed(capsys)]
    names = [entry.name for entry in AGENTS]
    for entry in FAMILIES:
        names.append(entry.name)
        if is_installed(entry.name):
            names += [f"{entry.name}:{variant}" for variant in entry.variants]
    assert {name: first_words.count(name) for name in names} == dict.fromkeys(names, 1)
    assert len(names) > 80


def test_agents_and_environments_can_be_listed_separately(capsys):
    agents, environments = listed(capsys, "agents"), listed(capsys, "envs")
    references = listed(capsys, "references")
    assert agents[0] == "agents"
    assert environments[0] == "environments"
    assert references[0] == "references (metarl evaluate RUN --references NAME ...)"
    assert any(line.split()[0] == "thompson" for line in references)
    fewshot = listed(capsys, "learners") + listed(capsys, "datasets")
    everything = agents + references + fewshot + environments
    assert listed(capsys) == listed(capsys, "all") == everything
    assert not any("Navigation2D" in line for line in agents)


@pytest.mark.usefixtures("only")
def test_a_family_is_listed_with_each_variant_or_its_missing_package(capsys):
    lines = listed(capsys, "envs")
    assert lines[1] == "  Gone: not there"
    reason = "Gone needs a module that is not installed: "
    assert lines[2].startswith(f"    3 variants, a … c: {reason}")
    assert lines[3] == "  Odd: an odd walk"
    left = "goal |x| < 1; 7 steps; observes the position (1 number); policy actions ÷ 10; "
    assert lines[4] == f"    Odd:left   {left}these tests. Warning: left is not right"
    assert lines[5] == f"    Odd:right  {left}these tests"
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--markdown", "--markdown needs envs: metarl list envs --markdown"),
        ("agents --markdown", "--markdown needs envs: metarl list envs --markdown"),
        ("enws", "'enws'.*'envs'"),
        ("envs agents", "agents"),
    ],
)
def test_a_mistake_is_one_sentence(line, message):
    with pytest.raises(ValueError, match=message) as caught:
        main(line.split())
    assert "\n" not in str(caught.value)


# The page.


@pytest.mark.usefixtures("only")
def test_the_page_has_a_section_for_each_family(capsys):
    page = "\n".join(listed(capsys, "envs --markdown")) + "\n"
    assert page == environments_page()
    gone, odd = sections(page).values()
    assert "3 variants, a … c. Gone needs a module that is not installed: No mod" in gone
    assert "An odd walk." in odd
    assert "```text\nWalks | and stumbles.\n\nMore of it.\n```" in odd
    cells = [
        re.split(r" (?<!\\)\| ", line.strip("| ")) for line in odd.splitlines() if "| " in line
    ]
    rows = [row for row in cells if row[0] in ("`left`", "`right`")]
    assert [row[1:] for row in rows] == [
        [
            r"goal \|x\| < 1",
            "[-1, 1]",
            "7",
            "the position [1]",
            "[-0.5, 0.5]",
            "10",
            "train, test, far (out of distribution)",
            "these tests",
        ]
    ] * 2
    assert odd.count("is not") == 1
    assert "**left**: left is not right." in odd


SPACES = [
    (spaces.Discrete(3), "3 choices"),
    (spaces.MultiDiscrete([3, 4]), "3 × 4 choices"),
    (spaces.Box(-1, 2.5, (6,), np.float64), "[-1, 2.5]^6"),
    (spaces.Box(np.array([0.0, 1.0]), np.array([2.0, 2.0]), dtype=np.float64), "box of 2 numbers"),
]


@pytest.mark.usefixtures("only")
@pytest.mark.parametrize(("space", "text"), SPACES)
def test_spaces_are_written_in_a_few_characters(monkeypatch, space, text):
    monkeypatch.setattr(Odd, "task_space", space)
    assert f"| goal \\|x\\| < 1 | {text} | 7 |" in environments_page()


def sections(page: str) -> dict[str, str]:
    """The section of each family in a page."""
    parts = re.split(r"^## (\S+)\n", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_page_in_the_repository_is_current():
    kept, now = PAGE.read_text(encoding="utf-8"), environments_page()
    assert kept.partition("\n## ")[0] == now.partition("\n## ")[0]
    assert list(sections(kept)) == list(sections(now)) == [entry.name for entry in FAMILIES]
    stale = [name for name, text in sections(now).items() if sections(kept)[name] != text]
    remedy = "run where all optional packages are installed: metarl list envs --markdown > "
    assert [name for name in stale if is_installed(name)] == [], f"{remedy}{PAGE}"


def is_installed(name: str) -> bool:
    return name != "MetaWorld" or importlib.util.find_spec("metaworld") is not None


def test_learners_and_data_sets_are_listed(capsys):
    main(["learners"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "few-shot learners (metarl fewshot NAME)"
    assert any(line.startswith("  protonet  ") for line in lines)
    main(["datasets"])
    assert "  omniglot  " in capsys.readouterr().out
