"""The command `metarl report`: a page with the content of the runs' files."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from html_reader import Reader
from reported_runs import Reported

from metarl.agents import MAMLTRPO
from metarl.envs.navigation import goals as navigation
from metarl.evaluation.files import read_evaluations, write_evaluations
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.evaluation.results import Evaluation
from metarl.report.agent_tables import PROTOCOL_FIELDS
from metarl.report.numbers import interval_text
from metarl.scripts.cli import dispatch


@pytest.fixture
def runs(reported: Reported) -> tuple[Path, Path]:
    """A run on a point robot and a run on a bandit."""
    return reported.robot, reported.bandit


def report(*paths: Path, out: Path, options: str = "") -> str:
    dispatch(["report", *map(str, paths), "--out", str(out), "--device", "cpu", *options.split()])
    return out.read_text(encoding="utf-8")


@pytest.fixture
def content(reported: Reported) -> str:
    """The page about both."""
    return reported.page.read_text(encoding="utf-8")


def text_of(content: str) -> str:
    return " ".join(" ".join(Reader(content).text).split())


def measured(path: Path) -> Evaluation:
    (found,) = read_evaluations(path / "evaluation.json")
    return found


def test_statistics_are_those_of_the_evaluation(runs, content):
    text = text_of(content)
    for path in runs:
        shown = measured(path)
        for stage, name in enumerate(shown.stages):
            scores = shown.scores(stage)
            for estimate in (shown.estimate(scores), shown.interquartile_estimate(scores)):
                assert " ".join(interval_text(estimate)) in text
            assert f"maml-trpo, {name}" in text
        assert " ".join(interval_text(shown.gain(1), signed=True)) in text
        assert " ".join(interval_text(shown.estimate(shown.reference("random")))) in text
        probability = shown.improvement(1)
        assert f"{probability.value:.0%} {probability.low:.0%} … {probability.high:.0%}" in text


def test_runs_commands_and_the_whole_protocol_are_shown(runs, content):
    text = text_of(content)
    for path in runs:
        assert str(path) in text
        program, *arguments = json.loads((path / "config.json").read_text())["command"]
        assert " ".join([program, *map(shlex.quote, arguments)]) in text
    for field in dataclasses.fields(EvaluationProtocol):
        assert field.name in text
        assert PROTOCOL_FIELDS[field.name] in text
    assert set(PROTOCOL_FIELDS) == {f.name for f in dataclasses.fields(EvaluationProtocol)}
    assert (
        "shares_episodes whether the next adaptation step uses the measured episodes True" in text
    )


def test_headings_are_in_order(content):
    levels = [int(tag[1]) for tag, _ in Reader(content).tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_image_is_in_the_page_and_describes_its_numbers(content):
    images = Reader(content).all("img")
    assert len(images) == 11  # four of each environment, one of paths, and two of choices
    for image in images:
        assert str(image["src"]).startswith("data:image/svg+xml;base64,")
        assert re.search(r"\d", str(image["alt"]))
    links = {link["href"] for link in Reader(content).all("a")}
    names = {tag["id"] for kind in ("h2", "main") for tag in Reader(content).all(kind)}
    assert links == {f"#{name}" for name in names}


def test_behavior_can_be_left_out_and_the_page_is_the_same_each_time(runs, tmp_path):
    short = report(runs[0], out=tmp_path / "report.html", options="--no-behavior")
    assert len(Reader(short).all("img")) == 4
    assert "Behavior" not in text_of(short)
    for option in ("--no-behavior", "--no-behavior"):
        assert report(runs[0], out=tmp_path / "report.html", options=option) == short


def test_a_family_with_images_is_shown_in_videos(runs, tmp_path, monkeypatch):
    def set_video_spaces(family, max_displacement):
        original(family, max_displacement)
        family.behavior = "video"

    original = navigation.set_plane_spaces
    monkeypatch.setattr(navigation, "set_plane_spaces", set_video_spaces)
    read = Reader(report(runs[0], out=tmp_path / "report.html"))
    videos = [image for image in read.all("img") if "image/webp" in str(image["src"])]
    assert len(videos) == len(read.all("details")) == 2
    assert re.match(r"Video of task 1 \(.*\): before, return −", str(videos[0]["alt"]))


def test_the_page_states_why_behavior_is_not_shown(runs, tmp_path, monkeypatch):
    def load(*_, **__):
        raise RuntimeError("MuJoCo cannot render off screen here")

    monkeypatch.setattr(MAMLTRPO, "load", load)
    text = text_of(report(runs[0], out=tmp_path / "report.html"))
    assert "Behavior is not shown: MuJoCo cannot render off screen here." in text


def test_splits_outside_the_distribution_have_separate_tables(runs, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(runs[0], path)
    shown = measured(path)
    far = dataclasses.replace(shown, protocol=dataclasses.replace(shown.protocol, split="far"))
    write_evaluations(path / "evaluation.json", [shown, far])
    content = report(path, out=tmp_path / "report.html", options="--no-behavior")
    captions = [text for text in Reader(content).text if text.startswith("Returns on")]
    assert captions == [
        "Returns on test tasks, with 95 % intervals",
        "Returns on far tasks, with 95 % intervals",
    ]


def test_the_page_states_that_protocols_differ(runs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(runs[0], other)
    shown = measured(other)
    changed = dataclasses.replace(shown, protocol=dataclasses.replace(shown.protocol, seed=1))
    write_evaluations(other / "evaluation.json", [changed])
    warning = "Agents were evaluated by different protocols, see below."
    for paths, expected in ((runs[:1], False), ((runs[0], other), True)):
        content = report(*paths, out=tmp_path / "report.html", options="--no-behavior")
        assert (warning in text_of(content)) == expected


def test_two_agents_on_common_tasks_are_compared(runs, tmp_path):
    same = tmp_path / "same"
    shutil.copytree(runs[0], same)
    content = report(runs[0], same, out=tmp_path / "report.html", options="--no-behavior")
    caption = "Comparison on common tasks, return, with 95 % intervals over tasks only"
    assert caption in text_of(content)
    assert "The data do not decide" in text_of(content)


@pytest.mark.parametrize("command", ["report", "play"])
def test_the_command_has_help(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        dispatch([command, "--help"])
    assert f"usage: metarl {command}" in capsys.readouterr().out


MISTAKES = [
    ("report RUN --out MISSING/report.html", "out must be a file in a directory that exists, got"),
    ("report RUN --out RUN", "out must be a file in a directory that exists, got"),
    ("report MISSING --out OUT", "run must be a directory with a config.json, there is none in"),
    ("report --out OUT", "run must be given|RUN"),
    ("report RUN", "--out must be given"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(runs, tmp_path, line, message):
    names = {"RUN": runs[0], "MISSING": tmp_path / "missing", "OUT": tmp_path / "report.html"}
    for name, path in names.items():
        line = line.replace(name, str(path))
    with pytest.raises(ValueError, match=message) as caught:
        dispatch(line.split())
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
