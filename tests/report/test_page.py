"""The blocks of a report page: text is escaped, tables and figures are accessible."""

import base64

import pytest
from html_reader import Reader

from metarl.report.page import (
    Code,
    Column,
    Figure,
    Figures,
    Heading,
    Measurement,
    Paragraph,
    Part,
    Row,
    Section,
    Table,
    Video,
    render_page,
    slug,
)

NASTY = "<b>& \"quoted\" 'text' {{ 1 + 1 }}"


def render(*blocks, title="Title", lead="lead", links=(("a", "A"),), footer="end") -> str:
    return render_page([Part(title, lead, links, blocks)], footer=footer)


def test_text_is_escaped_everywhere():
    content = render(
        Section(NASTY, [Heading(3, NASTY, id=NASTY), Paragraph(NASTY)]),
        Table(
            NASTY,
            [Column(NASTY), Column("x"), Column("y"), Column("z")],
            [Row(NASTY, [NASTY, Code(NASTY), Measurement(NASTY, NASTY)], detail=NASTY)],
        ),
        Figures([Figure("<svg/>", alt=NASTY, caption=NASTY)]),
        Video(b"", b"", alt=NASTY, caption=NASTY),
        title=NASTY,
        lead=NASTY,
        links=[(NASTY, NASTY)],
        footer=NASTY,
    )
    read = Reader(content)
    assert not read.all("b")
    assert sum(text.count(NASTY) for text in read.text) == 17
    assert [image["alt"] for image in read.all("img")] == [NASTY, NASTY]
    assert read.all("section") == [{"aria-labelledby": NASTY}]


def test_parts_follow_one_another_on_one_page():
    parts = [Part(name, f"About {name}.", [(name, name)], [Heading(2, name)]) for name in "ab"]
    read = Reader(render_page(parts, footer="end"))
    assert read.text.count("a; b") == 2
    assert "About a. About b." in read.text
    assert len(read.all("h2")) == 2


def test_a_page_has_landmarks_a_language_and_a_way_past_the_links():
    read = Reader(render())
    assert read.all("html") == [{"lang": "en"}]
    for landmark in ("header", "nav", "main", "footer"):
        assert len(read.all(landmark)) == 1
    (skip,) = (link for link in read.all("a") if link.get("class") == "skip")
    assert skip["href"] == "#content"
    assert read.all("main") == [{"id": "content"}]
    assert {"href": "#a"} in read.all("a")


def test_a_page_has_no_script_and_loads_nothing():
    content = render()
    read = Reader(content)
    assert not read.all("script")
    assert "http" not in content.replace("http-equiv", "")
    (policy,) = (meta["content"] for meta in read.all("meta") if "http-equiv" in meta)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_a_table_has_a_caption_scopes_and_a_box_that_the_keyboard_can_scroll():
    columns = [Column("name"), Column("value", "number"), Column("command", "long")]
    read = Reader(render(Table("Numbers", columns, [Row("a", ["1", "x"]), Row("b", ["2", "y"])])))
    (box,) = read.all("div")
    assert box == {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": "Numbers"}
    assert len(read.all("caption")) == 1
    assert [th["scope"] for th in read.all("th")] == ["col"] * 3 + ["row"] * 2
    assert [td.get("class") for td in read.all("td")] == ["number", "long"] * 2


def test_a_row_of_another_length_is_rejected():
    with pytest.raises(ValueError, match="row 'a' must have 1 cells, got 2"):
        Table("Numbers", [Column("name"), Column("value")], [Row("a", ["1", "2"])])


def test_a_figure_holds_its_drawing():
    read = Reader(render(Figure("<svg>é</svg>", alt="alt", caption="caption")))
    (image,) = read.all("img")
    kind, _, content = str(image["src"]).partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(content).decode() == "<svg>é</svg>"
    assert "caption" in read.text


def test_a_video_can_be_closed_and_respects_reduced_motion():
    read = Reader(render(Video(b"moving", b"still", alt="alt", caption="caption")))
    (source,), (image,) = read.all("source"), read.all("img")
    assert source["media"] == "(prefers-reduced-motion: reduce)"
    assert base64.b64decode(str(source["srcset"]).split(",")[1]) == b"still"
    assert base64.b64decode(str(image["src"]).split(",")[1]) == b"moving"
    assert read.all("details") == [{"open": None}]
    assert len(read.all("summary")) == 1


def test_links_are_made_of_letters_digits_and_hyphens():
    assert slug("HalfCheetahVel:pytorch-maml-rl+task") == "halfcheetahvel-pytorch-maml-rl-task"
