"""Figures as SVG with a dark mode, in distinguishable colors."""

from xml.etree import ElementTree

import pytest

from metarl.plots.style import (
    INK,
    MUTED,
    PALETTE,
    STYLES,
    figure_style,
    figure_svg,
    format_number,
    legend_below,
    new_figure,
    padded_range,
)


def sampled(label: str = "curve") -> str:
    with figure_style():
        figure = new_figure()
        (axes,) = figure.axes
        axes.plot([0, 1], [0, 1], color=PALETTE[0], label=label)
        legend_below(figure, axes)
    return figure_svg(figure)


def luminance(color: str) -> float:
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_svg_is_well_formed_and_the_same_each_time():
    root = ElementTree.fromstring(sampled())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert sampled() == sampled()


def test_text_and_lines_follow_the_dark_mode_and_data_keep_their_colors():
    svg = sampled()
    assert "prefers-color-scheme:dark" in svg
    style, rest = svg.split("</style>", 1)
    assert INK in style
    assert INK not in rest
    assert MUTED not in rest
    assert "var(--ink)" in rest
    assert PALETTE[0] in rest


@pytest.mark.parametrize("color", PALETTE)
@pytest.mark.parametrize("paper", ["#ffffff", "#f6f7f9", "#121316", "#1b1d21"])
def test_every_color_has_contrast_on_white_and_black(color, paper):
    assert contrast(color, paper) >= 3


def test_lines_differ_by_style_and_marker_as_well():
    assert len(set(STYLES)) == len(STYLES) >= len(set(PALETTE)) == len(PALETTE)


def test_numbers_have_a_true_minus_sign():
    assert [format_number(value) for value in (-0.12345, 1234.5, 0)] == ["−0.123", "1.23e+03", "0"]


def test_a_spread_is_never_empty():
    assert padded_range([2.0, 2.0]) == (1.5, 2.5)
    assert padded_range([0.0, 10.0]) == (-0.5, 10.5)
