"""The blocks of a report page, and the page itself.

Blocks are plain data. The Jinja templates next to this module render them and escape all text, so
no other module of the package writes HTML.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from metarl.printable import printable

__all__ = [
    "Block",
    "Cell",
    "Code",
    "Column",
    "Figure",
    "Figures",
    "Heading",
    "Measurement",
    "Paragraph",
    "Part",
    "Row",
    "Section",
    "Table",
    "Video",
    "render_page",
    "slug",
]


@dataclass(frozen=True)
class Heading:
    """A heading."""

    level: int
    """From 2; the page's title has level 1."""
    text: str
    id: str | None = None
    """Anchor for links."""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of text."""

    text: str
    is_note: bool = False
    """Notes are smaller and fainter."""


@dataclass(frozen=True)
class Code:
    """A command or an identifier in a table cell."""

    text: str


@dataclass(frozen=True)
class Measurement:
    """A number in a table cell, followed by its fainter interval."""

    value: str
    interval: str


Cell: TypeAlias = str | Code | Measurement


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    kind: Literal["text", "number", "words", "long"] = "text"
    """Numbers are aligned to the right; words and long text, such as a command, get more room."""


@dataclass(frozen=True)
class Row:
    """A row of a table: its name, and a cell for each further column."""

    name: str
    cells: Sequence[Cell]
    detail: str = ""
    """Text below the name."""
    begins_group: bool = False


@dataclass(frozen=True)
class Table:
    """A table; it scrolls in its own box if the page is narrow.

    Raises:
        ValueError: if a row has more or fewer cells than there are columns after the first.
    """

    caption: str
    columns: Sequence[Column]
    """The first column holds the names of the rows."""
    rows: Sequence[Row]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns) - 1:
                raise ValueError(
                    f"row {row.name!r} must have {len(self.columns) - 1} cells, "
                    f"got {len(row.cells)}"
                )


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption."""

    svg: str
    alt: str
    """A description with the numbers, for screen readers."""
    caption: str


@dataclass(frozen=True)
class Video:
    """A video that can be closed, and that does not move if the reader prefers less motion."""

    moving: bytes
    """An animated WebP."""
    still: bytes
    """A WebP of some of its frames."""
    alt: str
    caption: str


@dataclass(frozen=True)
class Figures:
    """Figures next to each other if there is room."""

    figures: Sequence[Figure | Video]


@dataclass(frozen=True)
class Section:
    """Blocks under a heading with the section's id."""

    id: str
    blocks: Sequence[Block]


Block: TypeAlias = "Section | Heading | Paragraph | Table | Figures | Figure | Video"


@dataclass(frozen=True)
class Part:
    """The part of a page about one kind of runs."""

    title: str
    lead: str
    """One or two sentences about the content."""
    links: Sequence[tuple[str, str]]
    """An id and a name for each section."""
    blocks: Sequence[Block]


def render_page(parts: Sequence[Part], *, footer: str) -> str:
    """A complete, self-contained HTML page; it loads nothing and runs no script."""
    template = _environment().get_template("page.html.jinja")
    return template.render(
        title="; ".join(part.title for part in parts),
        lead=" ".join(part.lead for part in parts),
        links=[link for part in parts for link in part.links],
        blocks=[block for part in parts for block in part.blocks],
        footer=footer,
    )


def slug(text: str) -> str:
    """An anchor made of letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("metarl.report"),
        autoescape=lambda name: name is not None and name.endswith(".html.jinja"),
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    return environment


def _shown(value: object) -> object:
    """A text with its control characters and undecodable bytes escaped."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
