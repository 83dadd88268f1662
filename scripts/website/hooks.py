"""Hooks of the documentation site, which mkdocs.yml names; `make docs` builds the site.

Pages that show generated content are written at build time, so that they cannot differ from the
code and from results/.
"""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from metarl.scripts.website.links import (
    COPIES,
    PAGES,
    PAGES_OF_FILES,
    folder_page,
    linked_files,
    site_links,
)

__all__ = ["on_files", "on_page_markdown"]

_ROOT = Path(__file__).parents[2]
_FILES = {page: file for file, page in PAGES_OF_FILES.items()}
"""Pages that show a file outside docs/."""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add generated pages, and copies of the files that pages link to."""
    for page, text in _generated_pages().items():
        files.append(File.generated(config, page, content=text))
    linked: set[str] = set()
    copied: set[str] = set()
    for file in files.documentation_pages():
        linked |= linked_files(file.content_string, _source(file.src_uri), _ROOT)
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
    """Let links to files outside docs/ lead to pages and copies on the site."""
    del config, files
    source = page.file.src_uri
    return site_links(markdown, _source(source), source, _ROOT)


def _source(page: str) -> str:
    """The file of the repository that a page shows; its links are relative to this file."""
    return _FILES[page] if page in _generated_pages() else f"{PAGES}/{page}"


def _generated_pages() -> dict[str, str]:
    """Text of the pages that are not files in docs/."""
    return {
        page: (_ROOT / file).read_text(encoding="utf-8")
        for file, page in PAGES_OF_FILES.items()
        if page != "index.md"
    }
