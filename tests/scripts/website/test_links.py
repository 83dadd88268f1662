"""Links between pages, and from pages to files of the repository."""

from pathlib import Path

import pytest

from metarl.scripts.website.links import folder_page, linked_files, site_links

SHOWN = {"CHANGELOG.md": "changelog.md", "results/a/b": "gallery/x.md#b"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("CHANGELOG.md", "scripts/run.py", "results/a/b/curve.png", "docs/glossary.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    return tmp_path


@pytest.mark.parametrize(
    ("link", "wanted"),
    [
        ("../../CHANGELOG.md", "../changelog.md"),
        ("../../CHANGELOG.md#added", "../changelog.md#added"),
        ("../../results/a/b", "../gallery/x.md#b"),
        ("../../results/a/b/curve.png", "../files/results/a/b/curve.png"),
        ("../../scripts/run.py", "../files/scripts/run.py"),
        ("../../scripts", "../files/scripts/index.md"),
        ("../glossary.md", "../glossary.md"),
        ("../../missing.py", "../../missing.py"),
        ("https://example.org/a", "https://example.org/a"),
        ("#section", "#section"),
    ],
)
def test_a_link_of_a_guide_leads_to_its_place_on_the_site(root, link, wanted):
    shown = site_links(f"See [it]({link}).", "docs/guides/a.md", "guides/a.md", SHOWN, root)
    assert shown == f"See [it]({wanted})."


def test_links_of_the_readme_lead_into_the_site(root):
    text = "[a](docs/glossary.md) [b](CHANGELOG.md) ![c](docs/images/c.png)"
    shown = site_links(text, "README.md", "index.md", SHOWN, root)
    assert shown == "[a](glossary.md) [b](changelog.md) ![c](images/c.png)"


def test_code_is_left_as_it_is(root):
    text = "```python\nf[x](../CHANGELOG.md)\n```\n"
    assert site_links(text, "docs/a.md", "a.md", SHOWN, root) == text


def test_files_without_a_page_are_copied(root):
    text = "[a](../scripts/run.py) [b](../CHANGELOG.md) [c](../none.py) [d](glossary.md)"
    assert linked_files(text, "docs/a.md", SHOWN, root) == {"scripts/run.py"}
    assert linked_files("[d](docs/glossary.md)", "README.md", SHOWN, root) == set()


def test_the_page_of_a_folder_lists_its_files():
    assert folder_page("scripts", ["b.py", "__init__.py"]).splitlines() == [
        "# scripts",
        "",
        "- [`__init__.py`](__init__.py)",
        "- [`b.py`](b.py)",
    ]
