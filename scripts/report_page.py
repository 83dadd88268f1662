"""Pieces of a self-contained web page: tables, figures, films, and the page around them.

Whatever is text is escaped here; what these functions return is HTML and is not escaped again.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from metarl.scripts.report_style import STYLE

__all__ = [
    "Column",
    "Part",
    "Row",
    "code",
    "figure",
    "figures",
    "film",
    "heading",
    "page",
    "paragraph",
    "slug",
    "table",
    "value_with_interval",
]

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    kind: Literal["text", "number", "words", "long"] = "text"
    """Numbers stand to the right; some words, and long text such as a command, are given room."""


@dataclass(frozen=True)
class Row:
    """A row of a table: what it is of, and HTML for each further column."""

    name: str
    cells: Sequence[str]
    detail: str = ""
    """Text below the name."""
    begins_group: bool = False


@dataclass(frozen=True)
class Part:
    """What a page tells of one kind of runs."""

    title: str
    lead: str
    links: Sequence[tuple[str, str]]
    """To its sections, each an id and a name."""
    body: str
    """HTML of the sections."""


def page(title: str, *, lead: str, links: Sequence[tuple[str, str]], body: str, end: str) -> str:
    """A whole page; nothing in it comes from elsewhere, and it runs no script.

    Args:
        title: of the page.
        lead: what it shows, a sentence or two of text.
        links: to its sections, each an id and a name.
        body: HTML of the sections.
        end: text below.
    """
    items = "".join(f'<li><a href="#{escape(at)}">{escape(name)}</a></li>' for at, name in links)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the results</a>
<header>
<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
<nav aria-label="Sections"><ul>{items}</ul></nav>
</header>
<main id="content">
{body}
</main>
<footer><p>{escape(end)}</p></footer>
</body>
</html>
"""


def heading(level: int, text: str, *, at: str | None = None) -> str:
    """A heading, with an id to link to if `at` is given."""
    named = "" if at is None else f' id="{escape(at)}"'
    return f"<h{level}{named}>{escape(text)}</h{level}>\n"


def paragraph(text: str, *, is_note: bool = False) -> str:
    """A paragraph of text."""
    kind = ' class="note"' if is_note else ""
    return f"<p{kind}>{escape(text)}</p>\n"


def code(text: str) -> str:
    """A command or a name of the code."""
    return f"<code>{escape(text)}</code>"


def value_with_interval(value: str, interval: str) -> str:
    """A number and, fainter, its interval."""
    return f'{escape(value)} <span class="interval">{escape(interval)}</span>'


def table(caption: str, columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """A table that scrolls in its own box where the page is narrow.

    Args:
        caption: text.
        columns: the first is that of the rows' names.
        rows: each with a cell for every further column.

    Raises:
        ValueError: if a row has more or fewer cells.
    """
    for row in rows:
        if len(row.cells) != len(columns) - 1:
            raise ValueError(
                f"row {row.name!r} must have {len(columns) - 1} cells, got {len(row.cells)}"
            )
    head = "".join(
        f'<th scope="col"{_class(column)}>{escape(column.name)}</th>' for column in columns
    )
    body = "\n".join(_table_row(row, columns) for row in rows)
    label = escape(caption, quote=True)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">\n'
        f"<table><caption>{escape(caption)}</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>\n</div>\n"
    )


def figures(parts: Sequence[str]) -> str:
    """Figures beside each other where there is room."""
    return f'<div class="figures">\n{"".join(parts)}</div>\n'


def figure(svg: str, *, alt: str, caption: str) -> str:
    """A figure.

    Args:
        svg: the drawing.
        alt: what it shows, with the numbers, for who does not see it.
        caption: below it.
    """
    source = _data_uri(svg.encode(), "image/svg+xml")
    return (
        f'<figure><img src="{source}" alt="{escape(alt, quote=True)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
    )


def film(moving: bytes, still: bytes, *, alt: str, caption: str) -> str:
    """A film that can be folded away, and stands still for who asked for less motion.

    Args:
        moving: an animated WebP.
        still: a WebP of some of its frames.
        alt: what it shows.
        caption: below it.
    """
    calm = "(prefers-reduced-motion: reduce)"
    return (
        '<figure class="moving"><details open><summary>Video; close it to stop it</summary>'
        f'<picture><source media="{calm}" srcset="{_data_uri(still, "image/webp")}">'
        f'<img src="{_data_uri(moving, "image/webp")}" alt="{escape(alt, quote=True)}"></picture>'
        f"</details><figcaption>{escape(caption)}</figcaption></figure>\n"
    )


def slug(text: str) -> str:
    """A name for links, of letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _class(column: Column) -> str:
    return "" if column.kind == "text" else f' class="{column.kind}"'


def _table_row(row: Row, columns: Sequence[Column]) -> str:
    cells = "".join(
        f"<td{_class(column)}>{cell}</td>"
        for column, cell in zip(columns[1:], row.cells, strict=True)
    )
    group = ' class="group"' if row.begins_group else ""
    detail = f'<span class="small">{escape(row.detail)}</span>' if row.detail else ""
    return f'<tr{group}><th scope="row">{escape(row.name)}{detail}</th>{cells}</tr>'


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
