"""The README's Python examples run unchanged, and its family is sound."""

import re
import sys
from pathlib import Path

import gymnasium
import pytest

from metarl.envs import FAMILIES, gymnasium_id, make_family
from metarl.soundness.check import require_sound

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
FAMILY = next(example for example in EXAMPLES if "register_family" in example)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "example",
    [example for example in EXAMPLES if example != FAMILY and "agent.learn" not in example],
)
def test_an_example_runs(example):
    exec(compile(example, "README.md", "exec"), {})


def test_the_family_of_the_readme_is_sound(monkeypatch, tmp_path):
    (tmp_path / "pendulums.py").write_text(FAMILY, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    import pendulums

    try:
        monkeypatch.setattr(pendulums.Pendulums, "num_workers", 0)
        require_sound(make_family("Pendulums:wide"))
    finally:
        del sys.modules["pendulums"], FAMILIES._entries["Pendulums"]
        del gymnasium.registry[gymnasium_id("Pendulums")]


def test_the_family_of_the_readme_is_short():
    assert len([line for line in FAMILY.splitlines() if line.strip()]) <= 24
