"""The documentation site builds strictly, and every page is sound in a browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from page_blocks import ROOT

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

WIDTHS = (1280, 400)
LOOK = """async () => {
  const images = [...document.images];
  images.forEach(image => { image.loading = 'eager'; });
  await Promise.all(images.map(image => image.decode().catch(() => {})));
  return {
    width: document.documentElement.scrollWidth,
    broken: images.filter(image => !image.naturalWidth).map(image => image.src),
    silent: images.filter(image => !image.alt).map(image => image.src),
  };
}"""


def build(folder: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a folder as `make docs` does."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=folder,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site, which all processes of a test run share."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with FileLock(folder / "site.lock"):
        if not (folder / "site").exists():
            done = build(ROOT, folder / "new_site")
            assert done.returncode == 0, done.stdout + done.stderr
            (folder / "new_site").rename(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


def faults(browser: Any, pages: list[Path], width: int) -> list[str]:
    """What is wrong with pages at a width of the window, one line each."""
    found: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.on("console", lambda message: found.append(f"{page.url}: {message.text}"))
    page.on("pageerror", lambda error: found.append(f"{page.url}: {error}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "data:", "blob:"))
            else found.append(f"{page.url} requests {request.url}")
        ),
    )
    for path in pages:
        page.goto(path.as_uri())
        seen = page.evaluate(LOOK)
        if seen["width"] > width:
            found.append(f"{path.name} is {seen['width']} pixels wide at {width}")
        found += [f"{path.name}: broken image {image}" for image in seen["broken"]]
        found += [f"{path.name}: image without a text {image}" for image in seen["silent"]]
    context.close()
    return found


@needs_chromium
def test_every_page_fits_loads_its_images_and_requests_nothing_else(site, browser):
    pages = sorted(page for page in site.rglob("*.html") if page.name != "404.html")  # of servers
    assert len(pages) > 40
    assert [fault for width in WIDTHS for fault in faults(browser, pages, width)] == []


@needs_chromium
def test_faults_of_a_page_are_found(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<body><img src='missing.png'><div style='width: 900px'>wide</div>"
        "<script src='https://example.invalid/x.js'></script><script>missing()</script></body>"
    )
    found = " ".join(faults(browser, [page], 400))
    for part in ("pixels wide", "broken image", "without a text", "requests https", "not defined"):
        assert part in found


@needs_chromium
def test_the_search_works_without_a_server(site, browser):
    page = browser.new_page()
    page.goto((site / "index.html").as_uri())
    page.locator("input.md-search__input").fill("generalized_advantages")
    first = page.locator("li.md-search-result__item").first
    first.wait_for(timeout=120_000)
    assert "generalized_advantages" in first.inner_text()
    page.close()


def test_the_site_holds_generated_pages_and_the_files_that_they_link_to(site):
    for page in ("gallery/omniglot", "results/speed", "api/bilevel", "changelog", "architecture"):
        assert (site / f"{page}.html").is_file()
    assert "package-graph" in (site / "architecture.html").read_text(encoding="utf-8")
    assert (site / "files/results/Navigation2D-maml17/maml-trpo/checkpoint.safetensors").is_file()
    assert "metarl.bilevel.adapt" in (site / "api/bilevel.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "named"),
    [("[dead](nowhere.md)", "nowhere.md"), ("[dead](#nowhere)", "nowhere"), ("[x][]", "x")],
)
def test_a_dead_link_stops_the_build(text, named, tmp_path):
    whole = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    settings = whole[: whole.index("\nnav:")].replace("- scripts/website/hooks.py", "[]")
    settings = settings.replace("hooks:\n  []", "hooks: []")
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Page\n\n{text}\n", encoding="utf-8")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert named in done.stderr


def test_make_docs_shows_warnings_because_they_count_only_then():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "mkdocs build --strict\n" in text
