"""The pieces of a report's page: what is text is escaped, and tables and figures can be read."""

import base64

import pytest
from html_reader import Reader

from metarl.report.page import (
    Column,
    Row,
    figure,
    film,
    heading,
    page,
    paragraph,
    slug,
    table,
    value_with_interval,
)

NASTY = "<b>& \"quoted\" 'text'"


def whole(**changes) -> str:
    parts = {"lead": "lead", "links": [("a", "A")], "body": heading(2, "A", at="a"), "end": "end"}
    return page("Title", **{**parts, **changes})


def test_text_is_escaped_everywhere():
    content = (
        whole(lead=NASTY, links=[(NASTY, NASTY)], end=NASTY)
        + heading(3, NASTY, at=NASTY)
        + paragraph(NASTY)
        + table(NASTY, [Column(NASTY), Column("x")], [Row(NASTY, ["1"], detail=NASTY)])
        + figure("<svg/>", alt=NASTY, caption=NASTY)
        + film(b"", b"", alt=NASTY, caption=NASTY)
        + value_with_interval(NASTY, NASTY)
    )
    read = Reader(content)
    assert not read.all("b")
    assert read.text.count(NASTY) >= 10
    assert [image["alt"] for image in read.all("img")] == [NASTY, NASTY]


def test_a_page_has_landmarks_a_language_and_a_way_past_the_links():
    read = Reader(whole())
    assert read.all("html") == [{"lang": "en"}]
    for landmark in ("header", "nav", "main", "footer"):
        assert len(read.all(landmark)) == 1
    (skip,) = (link for link in read.all("a") if link.get("class") == "skip")
    assert skip["href"] == "#content"
    assert read.all("main") == [{"id": "content"}]
    assert {"href": "#a"} in read.all("a")


def test_a_page_runs_no_script_and_asks_for_nothing():
    content = whole()
    read = Reader(content)
    assert not read.all("script")
    assert "http" not in content.replace("http-equiv", "")
    (policy,) = (meta["content"] for meta in read.all("meta") if "http-equiv" in meta)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_a_table_has_a_caption_scopes_and_a_box_that_the_keyboard_can_scroll():
    columns = [Column("name"), Column("value", "number"), Column("command", "long")]
    read = Reader(table("Numbers", columns, [Row("a", ["1", "x"]), Row("b", ["2", "y"])]))
    (box,) = read.all("div")
    assert box == {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": "Numbers"}
    assert len(read.all("caption")) == 1
    assert [th["scope"] for th in read.all("th")] == ["col"] * 3 + ["row"] * 2
    assert [td.get("class") for td in read.all("td")] == ["number", "long"] * 2


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="row 'a' must have 1 cells, got 2"):
        table("Numbers", [Column("name"), Column("value")], [Row("a", ["1", "2"])])


def test_a_figure_holds_its_drawing():
    read = Reader(figure("<svg>é</svg>", alt="alt", caption="caption"))
    (image,) = read.all("img")
    kind, _, content = str(image["src"]).partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(content).decode() == "<svg>é</svg>"
    assert read.text[0] == "caption"


def test_a_film_stands_still_for_who_wants_less_motion_and_can_be_closed():
    read = Reader(film(b"moving", b"still", alt="alt", caption="caption"))
    (source,), (image,) = read.all("source"), read.all("img")
    assert source["media"] == "(prefers-reduced-motion: reduce)"
    assert base64.b64decode(str(source["srcset"]).split(",")[1]) == b"still"
    assert base64.b64decode(str(image["src"]).split(",")[1]) == b"moving"
    assert read.all("details") == [{"open": None}]
    assert len(read.all("summary")) == 1


def test_links_are_made_of_letters_digits_and_hyphens():
    assert slug("HalfCheetahVel:pytorch-maml-rl+task") == "halfcheetahvel-pytorch-maml-rl-task"
