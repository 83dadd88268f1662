"""Who may import whom: scripts → {agents, envs} → core, and nothing in the other direction."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {  # by folder
    "metarl": "metarl",
    "envs": "metarl.envs",
    "agents": "metarl.agents",
    "scripts": "metarl.scripts",
}
LAYERS = ("metarl.envs", "metarl.agents", "metarl.scripts")
FORBIDDEN = {
    "metarl": LAYERS,
    "metarl.envs": ("metarl.agents", "metarl.scripts"),
    "metarl.agents": ("metarl.envs", "metarl.scripts"),
    "metarl.scripts": (),
}


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def imports(source: str, package: str) -> Iterator[tuple[str, int]]:
    """Every imported name as an absolute one, and the level of the import (0: absolute).

    `from a import b` gives a.b: b may be a module. `package` is what one leading dot stands for.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = [node.module] if node.module else []
            if node.level:
                parents = package.split(".")
                parts = parents[: len(parents) - node.level + 1] + parts
            yield from ((".".join([*parts, alias.name]), node.level) for alias in node.names)


def violations(source: str, package: str) -> list[str]:
    """What is wrong with the imports of a module of a package."""
    layer = next((name for name in LAYERS if is_within(package, name)), "metarl")
    found = []
    for name, level in imports(source, package):
        target = next((other for other in LAYERS if is_within(name, other)), None)
        if name.split(".")[0] in ("envs", "agents", "scripts"):
            found.append(f"{name}: not installed under this name, say metarl.{name}")
        elif target in FORBIDDEN[layer]:
            found.append(f"{name}: {layer} must not import {target}")
        elif layer in LAYERS[:2] and target == layer and not level:
            found.append(f"{name}: siblings are imported relatively")
        elif layer in LAYERS[:2] and level and target != layer:
            found.append(f"{name}: the core is imported absolutely")
    return found


def modules() -> list[tuple[Path, str]]:
    """Every module of the four folders and the package it belongs to."""
    return [
        (path, ".".join([package, *path.relative_to(ROOT / folder).parts[:-1]]))
        for folder, package in PACKAGES.items()
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]


@pytest.mark.parametrize(
    ("path", "package"),
    modules(),
    ids=lambda value: value.stem if isinstance(value, Path) else value,
)
def test_imports_point_down_only(path, package):
    assert violations(path.read_text(encoding="utf-8"), package) == []


def test_all_four_folders_are_read():
    assert {package for _, package in modules()} >= set(PACKAGES.values())


@pytest.mark.parametrize(
    ("package", "source", "complaint"),
    [
        ("metarl", "import metarl.envs.navigation", "metarl must not import metarl.envs"),
        ("metarl", "from metarl import agents", "metarl must not import metarl.agents"),
        ("metarl", "from .envs import make_family", "metarl must not import metarl.envs"),
        ("metarl", "from . import scripts", "metarl must not import metarl.scripts"),
        ("metarl.fewshot", "from ..agents import MAMLTRPO", "must not import metarl.agents"),
        ("metarl.envs", "from metarl.agents.rl2 import RL2", "must not import metarl.agents"),
        ("metarl.envs", "from ..agents import rl2", "must not import metarl.agents"),
        ("metarl.agents", "def f():\n    import metarl.envs", "must not import metarl.envs"),
        ("metarl.agents", "from metarl.scripts.cli import main", "must not import metarl.scripts"),
        ("metarl.envs", "from metarl.envs.base import x", "siblings are imported relatively"),
        ("metarl.envs", "from metarl.envs import base", "siblings are imported relatively"),
        ("metarl.agents", "from ..tasks import Step", "the core is imported absolutely"),
        ("metarl.agents", "from .. import tasks", "the core is imported absolutely"),
        ("metarl.scripts", "from envs import make_family", "say metarl.envs.make_family"),
        ("metarl", "import agents.maml_trpo", "say metarl.agents.maml_trpo"),
    ],
)
def test_a_made_up_violation_is_found(package, source, complaint):
    found = violations(f"import os\n{source}\n", package)
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("metarl", "from metarl.tasks import Step\nimport metarl.environments"),
        ("metarl.fewshot", "from metarl.bilevel import adapt\nfrom .episodes import Episode"),
        ("metarl.envs", "from metarl.tasks import Step\nfrom .base import x\nfrom . import base"),
        ("metarl.scripts", "import metarl.envs, metarl.agents\nfrom metarl.scripts import cli"),
    ],
)
def test_what_is_allowed_is_not_complained_of(package, source):
    assert violations(source, package) == []
