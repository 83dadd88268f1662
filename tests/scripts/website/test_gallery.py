"""The gallery shows every published run, and its numbers come from the stored evaluations."""

import re

import pytest
from page_blocks import ROOT

from metarl.evaluation.files import read_evaluations
from metarl.evaluation.results import Evaluation
from metarl.scripts.publish.agents import estimate_text
from metarl.scripts.website.behavior import published_runs
from metarl.scripts.website.gallery import gallery_pages, run_links, runs_of

RESULTS = ROOT / "results"
RUN = "results/Navigation2D-maml17/maml-trpo"
MAX_BYTES = 40_000_000


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return gallery_pages(ROOT)


def test_every_published_run_has_a_section_of_its_own(pages):
    links = run_links(ROOT)
    folders = [file.parent for file in RESULTS.rglob("config.json")]
    assert set(links) == {folder.relative_to(ROOT).as_posix() for folder in folders}
    assert len(set(links.values())) == len(links)
    for link in links.values():
        page, _, section = link.partition("#")
        assert f"{{ #{section} }}" in pages[page]
        assert f"({page.removeprefix('gallery/')}#{section})" in pages["gallery/index.md"]


def test_a_section_shows_images_command_files_and_results(pages):
    text = pages["gallery/navigation.md"].partition("## GridNavigation")[0]
    for name in ("curve.png", "behavior.png", "checkpoint.safetensors", "evaluation.json"):
        assert f"(../../{RUN}/{name})" in text
    assert f'metarl.load("{RUN}")' in text
    assert "metarl train maml-trpo --env Navigation2D:maml17" in text
    (evaluation,) = read_evaluations(ROOT / RUN / "evaluation.json", Evaluation)
    for stage, name in enumerate(evaluation.stages):
        shown = estimate_text(evaluation.estimate(evaluation.scores(stage)))
        assert f"| {name} | {shown} |" in text
    assert re.search(r"\| random \|.*\| before \|.*\| oracle \|", text, flags=re.DOTALL)


def test_results_of_learners_are_those_of_the_table(pages):
    table = (RESULTS / "README.md").read_text(encoding="utf-8")
    row = next(line for line in table.splitlines() if "fewshot/sinusoid/maml-10shot)" in line)
    assert row.split(" | ")[5] in pages["gallery/sinusoids.md"]


def test_a_run_without_an_image_or_a_page_names_the_remedy(tmp_path):
    run = runs_of(RESULTS)[0]._replace(folder=tmp_path)
    with pytest.raises(ValueError, match=r"python scripts/website/behavior.py"):
        _ = run.image
    with pytest.raises(ValueError, match=r"Unknown must be listed in scripts/website/gallery.py"):
        _ = run._replace(config={**run.config, "environment": "Unknown:a"}).page


def test_results_stay_small():
    size = sum(file.stat().st_size for file in RESULTS.rglob("*") if file.is_file())
    assert size < MAX_BYTES
    assert len(published_runs(RESULTS)) > 50
