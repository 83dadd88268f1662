"""The direction of imports: scripts → {agents, envs} → core."""

import ast
from pathlib import Path

import pytest

from metarl.scripts.publish import architecture
from metarl.scripts.publish.architecture import FOLDERS, imports

ROOT = Path(__file__).parents[1]
LAYERS = ("metarl.envs", "metarl.agents", "metarl.scripts")
FORBIDDEN = {
    "metarl": LAYERS,
    "metarl.envs": ("metarl.agents", "metarl.scripts"),
    "metarl.agents": ("metarl.envs", "metarl.scripts"),
    "metarl.scripts": (),
}


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def violations(source: str, package: str) -> list[str]:
    """Forbidden imports of a module of a package, one sentence each."""
    layer = next((name for name in LAYERS if is_within(package, name)), "metarl")
    found = []
    for name, level in imports(ast.parse(source), package):
        target = next((other for other in LAYERS if is_within(name, other)), None)
        if name.split(".")[0] in ("envs", "agents", "scripts"):
            found.append(f"{name}: not installed under this name, use metarl.{name}")
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
        for folder, package in FOLDERS.items()
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
    assert {package for _, package in modules()} >= set(FOLDERS.values())


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
        ("metarl.scripts", "from envs import make_family", "use metarl.envs.make_family"),
        ("metarl", "import agents.maml_trpo", "use metarl.agents.maml_trpo"),
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
def test_allowed_imports_are_no_violations(package, source):
    assert violations(source, package) == []


def tree(tmp_path: Path, files: dict[str, str]) -> dict[str, architecture.Module]:
    """The modules of a made-up source tree, given by path."""
    for name, source in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return architecture.read_tree(tmp_path)


def test_an_import_that_points_upward_is_found_inside_functions_too(tmp_path):
    lazy = "def f():\n    from metarl.report.build import report\n"
    modules = tree(tmp_path, {"metarl/nn/mlp.py": lazy, "metarl/report/build.py": ""})
    assert architecture.violations(modules) == [
        "metarl.nn.mlp imports metarl.report.build, which lies above it"
    ]


def test_files_that_import_each_other_are_found(tmp_path):
    modules = tree(
        tmp_path,
        {
            "metarl/nn/a.py": "from metarl.nn import b",
            "metarl/nn/b.py": "import metarl.nn.c",
            "metarl/nn/c.py": "from metarl.nn.a import x",
            "metarl/nn/d.py": "import metarl.nn.a",
        },
    )
    assert architecture.violations(modules) == [
        "files import each other: metarl.nn.a and metarl.nn.b and metarl.nn.c"
    ]


def test_packages_that_import_each_other_are_found_although_no_file_does(tmp_path):
    modules = tree(
        tmp_path,
        {
            "metarl/nn/a.py": "import metarl.optim.a",
            "metarl/nn/b.py": "",
            "metarl/optim/a.py": "",
            "metarl/optim/b.py": "import metarl.nn.b",
        },
    )
    assert "packages import each other: metarl.nn and metarl.optim" in architecture.violations(
        modules
    )


def test_long_files_and_functions_and_unlisted_packages_are_found(tmp_path):
    long_function = "def f():\n" + "    x = 1\n" * 61
    modules = tree(
        tmp_path,
        {"metarl/a.py": "\n" * 401, "metarl/b.py": long_function, "metarl/other/__init__.py": ""},
    )
    assert architecture.violations(modules) == [
        "metarl.other is not listed in ORDER of scripts/publish/architecture.py",
        "metarl.a has 401 lines, at most 400",
        "metarl.b: f has 61 lines, at most 60",
    ]


def test_a_folder_of_too_many_modules_is_found(tmp_path):
    modules = tree(tmp_path, {f"metarl/nn/{name}.py": "" for name in "abcdefghijklmnopqrs"})
    assert architecture.violations(modules) == ["metarl.nn has 19 modules, at most 18"]


def test_the_toolkit_has_no_cycle_no_upward_import_and_no_oversized_module():
    assert architecture.violations(architecture.read_tree(ROOT)) == []


def test_every_test_folder_mirrors_a_package():
    others = {"data", "docs", "learning", "support"}
    packages = {module.path.parent for module in architecture.read_tree(ROOT).values()}
    for folder in sorted({path.parent for path in (ROOT / "tests").rglob("test_*.py")}):
        place = folder.relative_to(ROOT / "tests")
        if place.parts and place.parts[0] not in others:
            assert packages & {ROOT / place, ROOT / "metarl" / place}, folder


def test_nothing_inside_imports_the_facade(tmp_path):
    modules = tree(tmp_path, {"metarl/__init__.py": "", "metarl/nn/a.py": "import metarl"})
    assert architecture.violations(modules) == [
        "metarl.nn.a imports the facade metarl; import the module that defines it"
    ]


def test_examples_import_the_facade_as_users_do(tmp_path):
    modules = tree(tmp_path, {"metarl/__init__.py": "", "scripts/examples/a.py": "import metarl"})
    assert architecture.violations(modules) == []


PAGE = ROOT / "docs" / "architecture.md"


def test_the_page_about_the_architecture_lists_the_packages_as_they_are():
    page = PAGE.read_text(encoding="utf-8")
    remedy = "run python scripts/publish/architecture.py --page docs/architecture.md"
    assert page == architecture.page_with_packages(page, architecture.read_tree(ROOT)), remedy


def test_the_table_of_a_page_is_replaced_and_the_rest_is_kept(tmp_path):
    modules = tree(
        tmp_path,
        {
            "metarl/nn/__init__.py": '"""Networks.\n\nMore."""',
            "metarl/nn/a.py": "",
            "metarl/rl/__init__.py": '"""Agents."""\nimport metarl.nn.a',
        },
    )
    begin, end = "<!-- packages: begin -->", "<!-- packages: end -->"
    page = architecture.page_with_packages(f"# Before\n{begin}\nold\n{end}\nafter\n", modules)
    assert page == (
        f"# Before\n{begin}\n| package | purpose | imports |\n|---|---|---|\n"
        "| `metarl.nn` | Networks. |  |\n| `metarl.rl` | Agents. | `nn` |\n"
        f"{end}\nafter\n"
    )
    with pytest.raises(ValueError, match="must hold the markers"):
        architecture.page_with_packages("no markers", modules)
