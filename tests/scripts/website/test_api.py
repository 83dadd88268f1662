"""The API reference names existing modules, and leaves out no public package."""

from importlib import import_module

import pytest
from page_blocks import ROOT

import metarl
from metarl.scripts.website.api import PAGES, link_sources, reference_pages

NAMES = [name for page in PAGES for name in page.names]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_reference_is_a_module_with_public_names(name):
    module = import_module(name)
    assert getattr(module, "__all__", None) or callable(module)


def test_no_module_is_shown_twice():
    assert len(set(NAMES)) == len(NAMES)


def test_packages_that_list_public_names_are_shown():
    facades = ["metarl.bilevel", "metarl.fewshot", "metarl.tasks", "metarl.envs", "metarl.agents"]
    assert {metarl.__name__, "metarl.report", *facades} <= set(NAMES)


def test_all_pages_are_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [file for file in reference_pages() if file not in text] == []


def test_sources_lie_under_their_import_names(tmp_path):
    target = tmp_path / "sources"
    for _ in range(2):  # an earlier folder is replaced
        link_sources(ROOT, target)
        (target / "metarl" / "stale.py").touch()
    link_sources(ROOT, target)
    for name in ("__init__", "rl/agent", "envs/catalog", "agents/catalog"):
        assert (target / "metarl" / f"{name}.py").is_file()
    assert not (target / "metarl" / "stale.py").exists()
