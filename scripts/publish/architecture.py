"""Print the package graph of the source tree and check it.

    python scripts/publish/architecture.py

Each row is a package with its purpose, its number of modules and lines, and the packages that it
imports. `--dot` prints the graph for Graphviz instead, and `--page docs/architecture.md` also
writes the packages into the documentation. The command fails if an import points upward, if files
or packages import each other in a cycle, or if a file or function is too long.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from metarl.scripts.command_line import parse, run
from metarl.storage.files import write_output

__all__ = [
    "ORDER",
    "Module",
    "cycles",
    "imports",
    "main",
    "module_graph",
    "package_graph",
    "page_with_packages",
    "read_tree",
    "violations",
]

ORDER = (
    "metarl",
    "metarl.storage",
    "metarl.statistics",
    "metarl.nn",
    "metarl.optim",
    "metarl.bilevel",
    "metarl.planning",
    "metarl.estimators",
    "metarl.tasks",
    "metarl.rollouts",
    "metarl.bridges",
    "metarl.soundness",
    "metarl.rl",
    "metarl.evaluation",
    "metarl.fewshot.data",
    "metarl.fewshot.datasets",
    "metarl.fewshot.contract",
    "metarl.fewshot.learners",
    "metarl.fewshot",
    "metarl.runs",
    "metarl.plots",
    "metarl.experiments",
    "metarl.report",
    "metarl.envs.simulators",
    "metarl.envs.navigation",
    "metarl.envs.locomotion",
    "metarl.envs.metaworld",
    "metarl.envs",
    "metarl.agents.references",
    "metarl.agents.maml_trpo",
    "metarl.agents.rl2",
    "metarl.agents",
    "metarl.scripts",
    "metarl.scripts.benchmark",
    "metarl.scripts.faults",
    "metarl.scripts.publish",
    "metarl.scripts.website",
    "metarl.scripts.examples",
)
"""All packages, from the bottom up: a package imports only from those before it and from itself."""

FOLDERS = {
    "metarl": "metarl",
    "envs": "metarl.envs",
    "agents": "metarl.agents",
    "scripts": "metarl.scripts",
}
_FACADES = frozenset({"metarl", "metarl.__main__"})
"""Modules at the top of the graph, which only the examples may import, as a user does."""
_EXAMPLES = "metarl.scripts.examples"
_BEGIN, _END = "<!-- packages: begin -->", "<!-- packages: end -->"
_MAX_FILES_PER_FOLDER = 18
_MAX_FILE_LINES = 400
_MAX_FUNCTION_LINES = 60


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    """Import name."""
    path: Path
    source: str

    @property
    def is_package(self) -> bool:
        """Whether the file is an `__init__.py`."""
        return self.path.name == "__init__.py"

    @property
    def package(self) -> str:
        """The package that holds the module; a package's `__init__` belongs to itself."""
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed source."""
        return ast.parse(self.source)

    @property
    def num_lines(self) -> int:
        """Lines of the file."""
        return self.source.count("\n")

    def long_functions(self) -> list[str]:
        """Functions whose body without its docstring is longer than allowed."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1 if ast.get_docstring(node) is not None else 0 :]
                lines = (node.end_lineno or 0) - first[0].lineno + 1 if first else 0
                if lines > _MAX_FUNCTION_LINES:
                    found.append(f"{node.name} has {lines} lines")
        return found


def read_tree(root: Path) -> dict[str, Module]:
    """All modules of a source tree by import name.

    Args:
        root: the folder that holds `metarl`, `envs`, `agents` and `scripts`.
    """
    modules = {}
    for folder, package in FOLDERS.items():
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root / folder).with_suffix("").parts
            name = ".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)])
            modules[name] = Module(name, path, path.read_text(encoding="utf-8"))
    return modules


def imports(tree: ast.Module, package: str) -> Iterator[tuple[str, int]]:
    """Every imported name as an absolute one, with the level of the import (0: absolute).

    Imports inside functions and under TYPE_CHECKING count. `from a import b` gives `a.b`, because
    b may be a module.

    Args:
        tree: a parsed module.
        package: the package that one leading dot stands for.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = [node.module] if node.module else []
            if node.level:
                parents = package.split(".")
                parts = parents[: len(parents) - node.level + 1] + parts
            yield from ((".".join([*parts, alias.name]), node.level) for alias in node.names)


def module_graph(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """The modules of the tree that each module imports."""
    return {
        name: {
            target
            for imported, _ in imports(module.tree, module.package)
            if (target := _resolved(imported, modules)) not in (None, name)
        }
        for name, module in modules.items()
    }


def package_graph(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """The packages that each package imports; `metarl` is the base level without its facade."""
    graph: dict[str, set[str]] = {module.package: set() for module in modules.values()}
    for name, targets in module_graph(modules).items():
        if name not in _FACADES:
            own = modules[name].package
            graph[own] |= {modules[target].package for target in targets - _FACADES} - {own}
    return graph


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach one another, each sorted by name."""
    reached = {node: _reached(graph, node) for node in graph}
    groups = {
        tuple(sorted({node} | {other for other in reached[node] if node in reached.get(other, ())}))
        for node in graph
        if node in reached[node]
    }
    return [list(group) for group in sorted(groups)]


def violations(modules: Mapping[str, Module]) -> list[str]:
    """One sentence for each rule of the architecture that the tree breaks."""
    graph, rank = module_graph(modules), {name: i for i, name in enumerate(ORDER)}
    found = [
        f"{module.package} is not listed in ORDER of scripts/publish/architecture.py"
        for module in modules.values()
        if module.is_package and module.package not in rank
    ]
    for name, targets in graph.items():
        own = modules[name].package
        for target in sorted(targets):
            other = modules[target].package
            if target in _FACADES and own != _EXAMPLES:
                found.append(
                    f"{name} imports the facade {target}; import the module that defines it"
                )
            elif not {name, target} & _FACADES and rank.get(other, -1) > rank.get(own, len(rank)):
                found.append(f"{name} imports {target}, which lies above it")
            elif _is_within(name, "metarl.agents") and _is_within(target, "metarl.envs"):
                found.append(
                    f"{name} imports {target}; agents know families by their interface only"
                )
    found += [f"files import each other: {' and '.join(group)}" for group in cycles(graph)]
    found += [
        f"packages import each other: {' and '.join(group)}"
        for group in cycles(package_graph(modules))
    ]
    sizes = Counter(module.package for module in modules.values() if not module.is_package)
    found += [
        f"{package} has {count} modules, at most {_MAX_FILES_PER_FOLDER}"
        for package, count in sizes.items()
        if count > _MAX_FILES_PER_FOLDER
    ]
    for module in modules.values():
        if module.num_lines > _MAX_FILE_LINES:
            found.append(f"{module.name} has {module.num_lines} lines, at most {_MAX_FILE_LINES}")
        found += [
            f"{module.name}: {function}, at most {_MAX_FUNCTION_LINES}"
            for function in module.long_functions()
        ]
    return found


def page_with_packages(page: str, modules: Mapping[str, Module]) -> str:
    """A Markdown page with the current table of packages between its two markers.

    Raises:
        ValueError: if the page lacks a marker.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"the page must hold the markers {_BEGIN} and {_END}, in this order")
    graph, rows = package_graph(modules), ["| package | purpose | imports |", "|---|---|---|"]
    for package in sorted(graph, key=ORDER.index):
        below = ", ".join(f"`{_short(name)}`" for name in sorted(graph[package], key=ORDER.index))
        rows.append(f"| `{package}` | {_purpose(modules[package])} | {below} |")
    return "\n".join([before + begin, *rows, end + after])


def _resolved(imported: str, modules: Mapping[str, Module]) -> str | None:
    """The module of the tree that an imported name is or lies in."""
    while imported not in modules and "." in imported:
        imported = imported.rpartition(".")[0]
    return imported if imported in modules else None


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += graph.get(node, ())
    return reached


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@dataclass(frozen=True)
class ArchitectureConfig:
    """Print the package graph and check it."""

    root: Path = Path()
    """Folder of the source tree."""
    dot: bool = False
    """Print the graph in Graphviz's language."""
    page: Path | None = None
    """Page of the documentation whose table of packages is replaced."""


def main(arguments: Sequence[str]) -> None:
    """The script's command line."""
    config = parse(ArchitectureConfig, arguments, program="python scripts/publish/architecture.py")
    modules = read_tree(config.root)
    graph = package_graph(modules)
    print("\n".join(_dot(graph) if config.dot else _table(modules, graph)))
    if config.page is not None:
        text = page_with_packages(config.page.read_text(encoding="utf-8"), modules)
        write_output(config.page, text.encode())
    broken = violations(modules)
    if broken:
        raise ValueError("; ".join(broken))
    if not config.dot:
        print("No cycle, no import that points upward, no file or function over its limit.")


def _table(modules: Mapping[str, Module], graph: Mapping[str, set[str]]) -> list[str]:
    rows = []
    for package in sorted(graph, key=ORDER.index):
        files = [module for module in modules.values() if module.package == package]
        lines = sum(module.num_lines for module in files)
        below = ", ".join(_short(name) for name in sorted(graph[package], key=ORDER.index))
        rows += [
            f"{package:27} {len(files):3} files {lines:6,} lines  {_purpose(modules[package])}",
            *([f"{'':27} imports {below}"] if below else []),
        ]
    total = sum(module.num_lines for module in modules.values())
    return [*rows, f"{'all':27} {len(modules):3} files {total:6,} lines"]


def _dot(graph: Mapping[str, set[str]]) -> list[str]:
    arrows = [
        f'  "{_short(package)}" -> "{_short(target)}"'
        for package in sorted(graph, key=ORDER.index)
        for target in sorted(graph[package], key=ORDER.index)
    ]
    return ["digraph metarl {", "  rankdir=BT", *arrows, "}"]


def _purpose(package: Module) -> str:
    """The first sentence of a package's docstring."""
    return (ast.get_docstring(package.tree) or "").partition("\n")[0]


def _short(package: str) -> str:
    return "base" if package == "metarl" else package.removeprefix("metarl.")


if __name__ == "__main__":
    run(main)
