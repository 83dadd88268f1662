"""A report in a real browser: it loads, fits the window, and works with the keyboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reported_runs import Reported

from metarl.evaluation.video import image_bytes, side_by_side, still_image, video_bytes
from metarl.report.page import Part, Video, render_page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

WIDTHS = [1280, 400]


@dataclass
class Visit:
    """A page that is open, and its console messages and requests while it loaded."""

    page: Any
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def report(reported: Reported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two runs, with a video added."""
    frames = [np.full((240, 320, 3), 40 * k, np.uint8) for k in range(5)]
    frames = side_by_side([frames, frames], ["before", "after"])
    moving = video_bytes(frames, suffix=".webp", frames_per_second=10)
    video = Video(moving, image_bytes(still_image(frames)), alt="Video", caption="A video.")
    rendered = render_page([Part("", "", [], [video])], footer="")
    shown = rendered.partition('<main id="content">')[2].partition("</main>")[0]
    out = tmp_path_factory.mktemp("report") / "report.html"
    out.write_text(reported.page.read_text().replace("</main>", f"{shown}</main>"))
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


def visit(browser: Any, report: Path, width: int = 1280, **preferences: Any) -> Visit:
    context = browser.new_context(viewport={"width": width, "height": 900}, **preferences)
    opened = Visit(context.new_page())
    opened.page.on("console", lambda message: opened.messages.append(message.text))
    opened.page.on("pageerror", lambda error: opened.messages.append(str(error)))
    opened.page.on("request", lambda request: opened.requests.append(request.url))
    opened.page.goto(report.as_uri())
    return opened


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_loads_without_errors_and_other_requests(browser, report, width):
    opened = visit(browser, report, width)
    assert opened.messages == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [report.as_uri()]


@pytest.mark.parametrize("width", WIDTHS)
def test_every_image_is_loaded_and_within_the_page(browser, report, width):
    page = visit(browser, report, width).page
    images = page.evaluate(
        "[...document.images].map(i => [i.naturalWidth, i.clientWidth, i.alt.length, "
        "i.getBoundingClientRect().right])"
    )
    assert len(images) == 12
    for natural, shown, alternative, right in images:
        assert natural > 0
        assert shown > 250  # readable
        assert alternative > 0
        assert right <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_does_not_scroll_sideways(browser, report, width):
    page = visit(browser, report, width).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_wide_tables_scroll_in_separate_boxes(browser, report):
    page = visit(browser, report, 400).page
    boxes = page.evaluate(
        "[...document.querySelectorAll('.scroll')].map(b => [b.scrollWidth, b.clientWidth])"
    )
    assert any(inner > outer for inner, outer in boxes)


@pytest.mark.parametrize("width", WIDTHS)
def test_text_is_large_enough_to_read(browser, report, width):
    page = visit(browser, report, width).page
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('main *')].map("
        "e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert smallest >= 12


def test_the_keyboard_reaches_the_skip_link_first_then_links_tables_and_the_video(browser, report):
    page = visit(browser, report).page
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.className || document.activeElement.tagName")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        if name == "BODY":
            break
        assert outline != "none"
        reached.append(name)
    assert reached[0] == "skip"
    assert reached[1:4] == ["A", "A", "A"]
    assert reached.count("scroll") == page.locator(".scroll").count()
    assert reached[-1] == "SUMMARY"


def test_the_video_stands_still_for_users_who_prefer_reduced_motion(browser, report):
    calm = visit(browser, report, reduced_motion="reduce").page
    moving = visit(browser, report, reduced_motion="no-preference").page
    shown = "document.querySelector('.moving img').currentSrc"
    still = calm.evaluate("document.querySelector('.moving source').srcset")
    assert calm.evaluate(shown) == still
    assert moving.evaluate(shown) != still


def test_closing_the_video_hides_it(browser, report):
    page = visit(browser, report).page
    image = page.locator(".moving img")
    assert image.is_visible()
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    assert not image.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark_mode(browser, report, scheme):
    page = visit(browser, report, color_scheme=scheme).page
    for selector in ("p.note", "figcaption", "td", "a:not(.skip)", ".interval"):
        color, paper = page.evaluate(
            "s => { const e = document.querySelector(s); let p = e; "
            "const back = x => getComputedStyle(x).backgroundColor; "
            "while (p.parentElement && back(p) === 'rgba(0, 0, 0, 0)') p = p.parentElement; "
            "return [getComputedStyle(e).color, back(p)] }",
            selector,
        )
        assert contrast(color, paper) >= 4.5, selector


def contrast(one: str, other: str) -> float:
    """Contrast of two colors "rgb(…)" by WCAG 2."""
    low, high = sorted(luminance(color) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


def luminance(color: str) -> float:
    parts = [int(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
