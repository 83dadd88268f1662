"""Installed files: pyproject.toml, Makefile and constraints agree with the source tree."""

from __future__ import annotations

import re
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent / "support"))

from wheel_files import ROOT, packages, wheel_files

tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]


def test_the_listed_packages_are_those_of_the_source_tree():
    assert sorted(SETUPTOOLS["packages"]) == packages()


def test_files_that_only_the_repository_needs_are_not_installed():
    parts = {part for name in SETUPTOOLS["packages"] for part in name.split(".")}
    assert parts & {"benchmark", "faults", "publish", "website", "examples", "tests"} == set()


def test_every_data_file_of_a_package_is_listed():
    patterns = [
        f"{package.replace('.', '/')}/{pattern}"
        for package, listed in SETUPTOOLS["package-data"].items()
        for pattern in listed
    ]
    data = [path for path in wheel_files() if not path.endswith(".py")]
    assert len(data) > 3
    assert [path for path in data if not any(fnmatch(path, p) for p in patterns)] == []
    assert [p for p in patterns if not any(fnmatch(path, p) for path in data)] == []


def test_the_installed_scripts_stay_thin():
    files = (ROOT / "scripts").glob("*.py")
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= 1500


def test_every_dependency_has_a_pinned_version():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    extras = PROJECT["project"]["optional-dependencies"]
    requirements = [*PROJECT["project"]["dependencies"], *extras["test"], *extras["docs"]]
    for requirement in requirements:
        assert re.split(r"[<>=\[]", requirement)[0] in pinned


def test_every_path_in_the_makefile_exists():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    paths = re.findall(r"\b(?:tests|scripts|docs)/[\w/]+\.\w+", text)
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []
