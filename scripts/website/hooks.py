"""Hooks of the documentation site, which mkdocs.yml names; `make docs` builds the site.

Pages that show generated content are written at build time, so that they cannot differ from the
code and from results/.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from metarl.scripts.publish.architecture import package_graph, read_tree
from metarl.scripts.website.api import link_sources, reference_pages
from metarl.scripts.website.gallery import gallery_pages, run_links
from metarl.scripts.website.graph import graph_svg
from metarl.scripts.website.links import (
    COPIES,
    PAGES,
    PAGES_OF_FILES,
    folder_page,
    linked_files,
    site_links,
)
from metarl.scripts.website.speed import references_page, speed_page

__all__ = ["on_config", "on_files", "on_page_markdown", "on_post_build"]

_ROOT = Path(__file__).parents[2]
_FILES = {page: file for file, page in PAGES_OF_FILES.items()}
"""Pages that show a file outside docs/."""
_WIDE = ("results/index.md", "results/speed.md", "results/references.md")
"""Pages with wide tables, which are shown without a table of contents at the side."""
_GRAPH_MARKER = "<!-- packages: begin -->"


@event_priority(100)
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Link the sources under their import name, where mkdocstrings finds them."""
    folder = _sources()
    link_sources(_ROOT, folder)
    config.plugins["mkdocstrings"].config["handlers"]["python"]["paths"] = [str(folder)]
    return config


def on_post_build(config: MkDocsConfig) -> None:
    """Remove the links to the sources."""
    del config
    shutil.rmtree(_sources())


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add generated pages, and copies of the files that pages link to."""
    for page, text in _generated_pages().items():
        files.append(File.generated(config, page, content=text))
    linked: set[str] = set()
    copied: set[str] = set()
    for file in files.documentation_pages():
        linked |= linked_files(file.content_string, _source(file.src_uri), _shown(), _ROOT)
    for path in linked:
        if (_ROOT / path).is_dir():
            listed = [one for one in (_ROOT / path).iterdir() if one.is_file()]
            text = folder_page(path, [one.name for one in listed])
            files.append(File.generated(config, f"{COPIES}/{path}/index.md", content=text))
            copied |= {f"{path}/{one.name}" for one in listed}
    for path in sorted(copied | {path for path in linked if (_ROOT / path).is_file()}):
        copy = File.generated(config, f"{COPIES}/{path}", abs_src_path=str(_ROOT / path))
        files.append(copy)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Redirect links to files outside docs/ to pages or copies, and add the package graph."""
    del config, files
    source = page.file.src_uri
    if source in _WIDE:
        page.meta["hide"] = ["toc"]
    if _GRAPH_MARKER in markdown:
        graph = graph_svg(package_graph(read_tree(_ROOT)))
        markdown = markdown.replace(_GRAPH_MARKER, f'<div class="graph">{graph}</div>\n\n', 1)
    return site_links(markdown, _source(source), source, _shown(), _ROOT)


@cache
def _sources() -> Path:
    return Path(tempfile.mkdtemp(prefix="metarl-sources-"))


def _source(page: str) -> str:
    """The file of the repository that a page shows; its links are relative to this file."""
    return _FILES.get(page, f"{PAGES}/{page}")


@cache
def _shown() -> dict[str, str]:
    """The page, or the section of a page, for each file and folder that has one."""
    return PAGES_OF_FILES | run_links(_ROOT)


def _generated_pages() -> dict[str, str]:
    """Text of the pages that are not files in docs/."""
    results = _ROOT / "results"
    return {
        **{page: (_ROOT / file).read_text("utf-8") for page, file in _FILES.items()},
        "results/speed.md": speed_page(results),
        "results/references.md": references_page(results),
        **gallery_pages(_ROOT),
        **reference_pages(),
    }
