"""Published folders are runs: they can be measured, shown and reported, but not trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from evaluate_command import metarl, read

from metarl.report.build import ReportConfig, report
from metarl.runs.directory import RunDirectory

RESULTS = Path(__file__).parents[2] / "results"
AGENT = RESULTS / "Bandit-n10-k5" / "rl2"
LEARNER = RESULTS / "fewshot" / "sinusoid" / "maml-10shot"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*")}


@pytest.fixture(params=[AGENT, LEARNER], ids=["agent", "learner"])
def published(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a published folder."""
    shutil.copytree(request.param, tmp_path / "published")
    return tmp_path / "published"


def test_every_folder_under_results_is_a_run_with_a_checkpoint():
    folders = [file.parent for file in RESULTS.rglob("config.json")]
    assert len(folders) > 50
    for folder in folders:
        directory = RunDirectory.open(folder)
        assert directory.is_published
        assert directory.newest_checkpoint() == folder / "checkpoint.safetensors"


def test_evaluating_a_published_folder_leaves_it_as_it_is(published):
    before = content(published)
    metarl("evaluate OUT --num-tasks 3 --device cpu", published)
    assert content(published) == before


def test_results_of_a_published_agent_need_a_file_option(tmp_path, capsys):
    metarl("evaluate OUT --num-tasks 3 --device cpu", AGENT)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        f"{AGENT} is a published run, so its evaluation.json was not changed; "
        "--json FILE writes these results"
    )
    file = tmp_path / "a.json"
    metarl("evaluate OUT --num-tasks 3 --device cpu --json OUT", AGENT, file)
    metarl("evaluate OUT --num-tasks 3 --device cpu --json OUT",
           AGENT / "checkpoint.safetensors", tmp_path / "b.json")  # fmt: skip
    (measured, alone) = read(file), read(tmp_path / "b.json")
    assert measured.runs == ("rl2",)
    assert measured.measured.returns.tolist() == alone.measured.returns.tolist()


def test_a_published_folder_is_reported_with_its_published_results(published, tmp_path):
    before = content(published)
    page = report(ReportConfig((published,), out=tmp_path / "a.html", behavior=False))
    assert "as metarl evaluate does by itself" not in page
    assert content(published) == before


def test_published_agents_and_learners_share_a_page(tmp_path):
    page = report(ReportConfig((AGENT, LEARNER), out=tmp_path / "a.html", behavior=False))
    assert "rl2 on Bandit:n10-k5; maml on sinusoid" in page
    assert "as metarl evaluate does by itself" not in page


@pytest.mark.parametrize("line", ["train rl2", "fewshot maml"])
def test_a_published_run_is_not_resumed(line, tmp_path):
    folder = tmp_path / "published"
    shutil.copytree(AGENT if line.startswith("train") else LEARNER, folder)
    before = content(folder)
    message = "was published: it can be evaluated but not trained further; start a new run"
    with pytest.raises(ValueError, match=message):
        metarl(f"{line} --resume --iterations 100000 --out OUT", folder)
    assert content(folder) == before


def test_the_checkpoint_of_another_run_is_rejected(tmp_path):
    shutil.copytree(AGENT, tmp_path / "run")
    other = RESULTS / "Bandit-n10-k10" / "rl2" / "checkpoint.safetensors"
    shutil.copy(other, tmp_path / "run" / "checkpoint.safetensors")
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is of another run: its environ"):
        metarl("evaluate OUT --num-tasks 3 --device cpu", tmp_path / "run")
