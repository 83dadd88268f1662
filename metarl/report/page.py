"""Pieces of a self-contained web page: tables, figures, films, and the page around them.

Whatever is text is escaped here; what these functions return is HTML and is not escaped again.

The style sheet of a report: light and dark, from a telephone's width to a desk's.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

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
    "STYLE",
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


STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --card: #f6f7f9; --ink: #1b1c1e; --muted: #5b6068; --line: #d9dce1;
  --link: #0059a8; --shade: #00000030;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #121316; --card: #1b1d21; --ink: #e8e9eb; --muted: #a2a7af; --line: #363a41;
    --link: #7cc0ff; --shade: #ffffff40;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
header, main, footer { max-width: 74rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; }
footer { padding-bottom: 2rem; color: var(--muted); font-size: .875rem; }
h1, h2, h3, h4 { line-height: 1.2; margin: 2rem 0 .5rem; overflow-wrap: anywhere; }
h1 { font-size: 1.75rem; margin-top: 0; }
h2 { font-size: 1.375rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.125rem; }
h4 { font-size: 1rem; }
p { max-width: 46rem; margin: .5rem 0; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 3px solid var(--link); outline-offset: 2px; border-radius: 2px;
}
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--paper); padding: .5rem 1rem; z-index: 1; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; list-style: none; }
.lead { font-size: 1.0625rem; }
.note { color: var(--muted); font-size: .875rem; }
.scroll {
  overflow-x: auto; max-width: 100%; margin: .75rem 0;
  background:
    linear-gradient(to right, var(--paper) 50%, transparent) left / 1.5rem 100% no-repeat local,
    linear-gradient(to left, var(--paper) 50%, transparent) right / 1.5rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / .75rem 100% no-repeat,
    linear-gradient(to left, var(--shade), transparent) right / .75rem 100% no-repeat;
}
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); padding-bottom: .375rem; }
th, td {
  text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0;
  border-bottom: 1px solid var(--line);
}
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
th.number, td.number { text-align: right; }
td.number, tbody th { white-space: nowrap; }
tbody th { font-weight: 600; }
td.long { min-width: 24rem; }
td.words { min-width: 9rem; }
tr.group th, tr.group td { border-top: 2px solid var(--line); }
.interval { color: var(--muted); }
code { font: .8125rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; white-space: nowrap; }
.long code, .words code { white-space: normal; overflow-wrap: anywhere; }
.small { display: block; font-weight: 400; color: var(--muted); white-space: normal; }
.figures {
  display: grid; gap: 1rem; margin: 1rem 0; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr));
}
figure {
  margin: 0; padding: .75rem; background: var(--card); border-radius: .5rem; min-width: 0;
}
figure img { display: block; width: 100%; max-width: 42rem; height: auto; margin: 0 auto; }
figure.moving img { max-width: 50rem; }
figcaption { color: var(--muted); font-size: .875rem; margin-top: .5rem; }
summary { cursor: pointer; padding: .25rem 0; }
@media (max-width: 44rem) {
  .interval { display: block; }
  th, td { padding-right: .75rem; }
  thead th { white-space: nowrap; }
}
@media print { figure { break-inside: avoid; } .skip, nav { display: none; } }
"""
