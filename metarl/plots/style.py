"""The style of all figures: size, palette, and SVG with a dark mode."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = [
    "INK",
    "MUTED",
    "PALETTE",
    "STYLES",
    "figure_png",
    "figure_svg",
    "legend_below",
    "new_figure",
    "format_number",
    "padded_range",
    "figure_style",
]

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#a87b00", "#5a7fd6")
"""Colors for readers with any color vision, on white and on black (after Okabe and Ito 2008)."""
STYLES = (("-", "o"), ("--", "s"), ("-.", "^"), (":", "D"), ((0, (5, 1, 1, 1)), "v"), ("-", "x"))
"""Line styles and markers of the colors, so that lines do not differ by color alone."""
INK, MUTED = "#1b1c1e", "#6b6f76"
_DARK_INK, _DARK_MUTED = "#e8e9eb", "#a2a7af"

_WIDTH_INCHES, _HEIGHT_INCHES = 4.8, 3.4
_STYLE: Any = {  # newer versions of matplotlib list the keys in a type, older ones do not
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.limits": (-4, 6),
    "axes.formatter.useoffset": False,
    "grid.color": MUTED,
    "grid.alpha": 0.2,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "metarl",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Apply the style settings, for creating and saving figures."""
    with mpl.rc_context(_STYLE):
        yield


def new_figure(*, rows: int = 1, columns: int = 1, height: float = _HEIGHT_INCHES) -> Figure:
    """An empty figure that is readable at a width of 360 pixels; call it within `figure_style`.

    Args:
        rows: rows of axes.
        columns: columns of axes; the total width is fixed.
        height: height of each row, in inches.
    """
    figure = Figure(figsize=(_WIDTH_INCHES, height * rows), layout="constrained")
    figure.subplots(rows, columns)
    return figure


def legend_below(figure: Figure, axes: Axes) -> None:
    """Put the legend of `axes` below the figure."""
    columns = 3 if all(len(label) < 16 for label in axes.get_legend_handles_labels()[1]) else 2
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)))


def figure_png(figure: Figure, *, dpi: int) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def figure_svg(figure: Figure) -> str:
    """The figure as SVG, with light text and lines in dark mode."""
    buffer = io.StringIO()
    with figure_style():
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for color, name in ((INK, "ink"), (MUTED, "muted")):
        svg = svg.replace(color, f"var(--{name})")
    style = (
        f"<style>svg{{--ink:{INK};--muted:{MUTED}}}@media(prefers-color-scheme:dark)"
        f"{{svg{{--ink:{_DARK_INK};--muted:{_DARK_MUTED}}}}}</style>"
    )
    return re.sub(r"(<svg\b[^>]*>)", lambda match: match.group(1) + style, svg, count=1)


def format_number(value: float) -> str:
    """A number with three significant digits and a true minus sign."""
    return f"{value:.3g}".replace("-", "−")


def padded_range(values: Sequence[float]) -> tuple[float, float]:
    """Minimum and maximum with a margin; the range is never empty."""
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin
