"""Links of Markdown pages, so that one text works in the repository and on the site.

Pages link to files of the repository by relative paths. On the site, such a link
leads to the page of a file outside docs/ if there is one, for example the changelog, and otherwise
to a copy of the file.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

__all__ = ["COPIES", "PAGES", "PAGES_OF_FILES", "folder_page", "linked_files", "site_links"]

COPIES = "files"
"""Folder of the site that holds copies of linked files."""
PAGES = "docs"
"""Folder of the repository that holds the pages."""
PAGES_OF_FILES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "results/README.md": "results/index.md",
}
"""Files outside docs/, and the pages that show them."""

_FENCED = re.compile(r"^(`{3,}|~{3,}).*?^\1`*[ ]*$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()([^)#\s]+)")


def _relative_links(markdown: str, source: str) -> Iterator[tuple[re.Match[str], str]]:
    """Links of a page that must be replaced, each with its path in the repository.

    Links between files in docs/ are the same on the site.

    Args:
        markdown: text of the page.
        source: path of the page in the repository, for example "docs/guides/train.md".
    """
    fenced = [match.span() for match in _FENCED.finditer(markdown)]
    for match in _LINK.finditer(markdown):
        target = match[1]
        if "://" in target or target.startswith(("mailto:", "/")):
            continue
        if any(start <= match.start() < end for start, end in fenced):
            continue
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        is_within_docs = source.startswith(f"{PAGES}/") and path.startswith(f"{PAGES}/")
        if not is_within_docs and not path.startswith(".."):
            yield match, path


def linked_files(markdown: str, source: str, shown: Mapping[str, str], root: Path) -> set[str]:
    """Files and folders of the repository that the site must hold for a page's links.

    Args:
        markdown: text of the page.
        source: path of the page in the repository.
        shown: the page of the site for each file or folder that has one.
        root: the repository.
    """
    paths = {path for _, path in _relative_links(markdown, source)}
    return {
        path
        for path in paths
        if path not in shown and not path.startswith(f"{PAGES}/") and (root / path).exists()
    }


def folder_page(folder: str, files: Iterable[str]) -> str:
    """A page that lists copied files of a folder.

    Args:
        folder: path in the repository.
        files: names of the files.
    """
    return "\n".join([f"# {folder}", "", *(f"- [`{name}`]({name})" for name in sorted(files)), ""])


def site_links(markdown: str, source: str, page: str, shown: Mapping[str, str], root: Path) -> str:
    """Replace links that cross the border of docs/ by links within the site.

    A link to something that does not exist is left as it is, so that a strict build rejects it.

    Args:
        markdown: text of the page.
        source: path of the page in the repository.
        page: path of the page on the site, for example "guides/train.md".
        shown: the page of the site for each file or folder that has one.
        root: the repository.
    """
    parts, end = [], 0
    for match, path in _relative_links(markdown, source):
        target = shown.get(path)
        if path.startswith(f"{PAGES}/"):
            target = path.removeprefix(f"{PAGES}/")
        if target is None and (root / path).exists():
            target = f"{COPIES}/{path}" + ("/index.md" if (root / path).is_dir() else "")
        if target is not None:
            file, hash_mark, section = target.partition("#")
            relative = posixpath.relpath(file, posixpath.dirname(page) or ".")
            parts += [markdown[end : match.start()], relative, hash_mark, section]
            end = match.end()
    return "".join([*parts, markdown[end:]])
