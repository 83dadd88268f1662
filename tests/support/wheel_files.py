"""The files that the wheel must hold, read from the source tree."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = {"metarl": "metarl", "agents": "metarl/agents", "envs": "metarl/envs"}
"""Source folders and the packages that they become; modules directly in scripts/ are extra."""


def wheel_files() -> dict[str, Path]:
    """Every file of an installed package: its path in the wheel and in the source tree."""
    files = {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}": path
        for folder, target in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    scripts = {f"metarl/scripts/{path.name}": path for path in (ROOT / "scripts").glob("*.py")}
    return files | scripts


def packages() -> list[str]:
    """The dotted names of the installed packages."""
    inits = (path for path in wheel_files() if path.endswith("/__init__.py"))
    return sorted(path.removesuffix("/__init__.py").replace("/", ".") for path in inits)
