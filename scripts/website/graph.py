"""The package graph as an inline SVG, whose colors follow the page's.

Each package lies above all packages that it imports. An edge is left out if a longer path connects
its ends, and the base level, which nearly all packages import, is left out.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from graphlib import TopologicalSorter

from metarl.scripts.publish.architecture import ORDER

__all__ = ["graph_svg", "layers", "without_implied_edges"]

_BASE = "metarl"
_ROW, _BOX_HEIGHT, _GAP, _MARGIN = 62, 26, 18, 8
_PIXELS_PER_LETTER = 7.2
_GROUPS = {
    "metarl.fewshot": "fewshot",
    "metarl.envs": "envs",
    "metarl.agents": "agents",
    "metarl.scripts": "scripts",
}
_SWEEPS = 8


def without_implied_edges(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The transitive reduction: edges to packages that are not also reached through others.

    Args:
        graph: the packages that each package imports, without cycles.
    """
    reached: dict[str, set[str]] = {}
    for node in TopologicalSorter(graph).static_order():
        below = graph.get(node, set())
        reached[node] = below.union(*(reached[other] for other in below))
    return {
        node: {one for one in below if not any(one in reached[other] for other in below - {one})}
        for node, below in graph.items()
    }


def layers(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Packages by the length of the longest path below them, ordered to keep edges short.

    Args:
        graph: the packages that each package imports, without cycles.
    """
    level: dict[str, int] = {}
    for node in TopologicalSorter(graph).static_order():
        level[node] = 1 + max((level[other] for other in graph[node]), default=-1)
    rows: list[list[str]] = [[] for _ in range(max(level.values()) + 1)]
    for node in sorted(graph, key=ORDER.index):
        rows[level[node]].append(node)
    neighbors: dict[str, set[str]] = {node: set(below) for node, below in graph.items()}
    for node, below in graph.items():
        for other in below:
            neighbors[other].add(node)
    place = {node: _spread(k, len(row)) for row in rows for k, node in enumerate(row)}
    for _ in range(_SWEEPS):
        for row in rows:
            mean = {
                node: sum(place[n] for n in neighbors[node]) / max(len(neighbors[node]), 1)
                for node in row
            }
            row.sort(key=lambda node: (mean[node], ORDER.index(node)))
            place |= {node: _spread(k, len(row)) for k, node in enumerate(row)}
    return rows


def _spread(index: int, count: int) -> float:
    """Horizontal place of one of `count` nodes in a row, in [0, 1]."""
    return (index + 0.5) / count


def graph_svg(graph: Mapping[str, set[str]]) -> str:
    """The package graph as SVG, the lowest packages at the bottom.

    Args:
        graph: the packages that each package imports, without cycles.
    """
    kept = {node: below - {_BASE} for node, below in graph.items() if node != _BASE}
    reduced = without_implied_edges(kept)
    rows = layers(reduced)
    width = max(sum(_width(node) + _GAP for node in row) for row in rows) + 2 * _MARGIN
    height = len(rows) * _ROW - (_ROW - _BOX_HEIGHT) + 2 * _MARGIN
    centers: dict[str, tuple[float, float]] = {}
    for level, row in enumerate(rows):
        space = (width - sum(map(_width, row))) / (len(row) + 1)
        x, y = space, height - _MARGIN - _BOX_HEIGHT / 2 - level * _ROW
        for node in row:
            centers[node] = (x + _width(node) / 2, y)
            x += _width(node) + space
    edges = [
        _edge(centers[node], centers[other])
        for node in sorted(reduced, key=ORDER.index)
        for other in sorted(reduced[node], key=ORDER.index)
    ]
    boxes = [_box(node, *centers[node]) for node in sorted(reduced, key=ORDER.index)]
    label = "Graph of the packages: each lies above the packages that it imports."
    return (
        f'<svg class="package-graph" role="img" aria-label="{label}" '
        f'viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}">'
        + "".join([*edges, *boxes])
        + "</svg>"
    )


def _width(node: str) -> float:
    return _PIXELS_PER_LETTER * len(_name(node)) + 16


def _name(node: str) -> str:
    return node.removeprefix(f"{_BASE}.")


def _edge(upper: tuple[float, float], lower: tuple[float, float]) -> str:
    (x, y), (to_x, to_y) = upper, lower
    y, to_y = y + _BOX_HEIGHT / 2, to_y - _BOX_HEIGHT / 2
    middle = (y + to_y) / 2
    curve = f"{x:.0f} {middle:.0f} {to_x:.0f} {middle:.0f} {to_x:.0f} {to_y:.0f}"
    return f'<path d="M{x:.0f} {y:.0f}C{curve}"/>'


def _box(node: str, x: float, y: float) -> str:
    group = next((g for prefix, g in _GROUPS.items() if node.startswith(prefix)), "core")
    width = _width(node)
    return (
        f'<g class="{group}"><rect x="{x - width / 2:.0f}" y="{y - _BOX_HEIGHT / 2:.0f}" '
        f'width="{width:.0f}" height="{_BOX_HEIGHT}" rx="4"/>'
        f'<text x="{x:.0f}" y="{y + 4.5:.0f}">{html.escape(_name(node))}</text></g>'
    )
