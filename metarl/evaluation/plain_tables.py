"""Short plain-text tables, which evaluations show when they are printed."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["plain_table"]


def plain_table(title: str, rows: Sequence[Sequence[str]]) -> str:
    """A title, and rows whose first column is left-aligned and whose others are right-aligned.

    Args:
        title: the first line.
        rows: the cells of each row, equally many.

    >>> print(plain_table("two rows", [["", "mean"], ["before", "1"]]))
    two rows
            mean
    before     1
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [title]
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)
