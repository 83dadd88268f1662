"""The command `metarl play`: one task as a video, and error messages if there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reported_runs import Reported

from metarl.envs import make_family
from metarl.envs.simulators.tensor import TensorBatch
from metarl.evaluation.evaluator import evaluation_tasks
from metarl.evaluation.protocol import preset
from metarl.scripts.cli import dispatch

SHORT = "--episodes 2 --frames 4 --device cpu"


def play(run: Path, out: Path, options: str = "") -> None:
    dispatch(["play", str(run), "--out", str(out), *SHORT.split(), *options.split()])


def test_a_task_is_shown_before_and_after_side_by_side(reported: Reported, tmp_path, capsys):
    out = tmp_path / "clip.gif"
    play(reported.robot, out)
    with Image.open(out) as image:
        assert image.n_frames == 5  # 20 steps, every fifth, and the start
        assert image.size == (240 + 8 + 240, 28 + 240)
    output = capsys.readouterr().out
    assert output.startswith(f"wrote {out}: task (")
    assert "; before: return −" in output
    assert "; after 3 steps: return −" in output


def test_the_images_of_the_stages_can_be_smaller(reported: Reported, tmp_path):
    play(reported.robot, tmp_path / "clip.gif", "--width 120")
    with Image.open(tmp_path / "clip.gif") as image:
        assert image.size == (120 + 8 + 120, 28 + 120)


def test_a_video_can_be_of_one_stage_and_of_a_given_task(reported: Reported, tmp_path, capsys):
    out = tmp_path / "clip.webp"
    play(reported.robot, out, "--stage 1 --task -0.5 0.25")
    with Image.open(out) as image:
        assert image.size == (240, 28 + 240)
        image.seek(0)
        red = (np.asarray(image.convert("RGB"), int) * [1, -1, 0]).sum(-1)[28:] > 120
    rows, columns = np.nonzero(red)  # the goal, in a square from −2 to 2
    assert columns.mean() == pytest.approx(240 * (-0.5 + 2) / 4, abs=2)
    assert rows.mean() == pytest.approx(240 * (2 - 0.25) / 4, abs=2)
    output = capsys.readouterr().out
    assert "task (−0.5, 0.25); after 1 step: return" in output


@pytest.mark.parametrize("index", [0, 2, 45])
def test_a_task_of_a_split_is_one_that_an_evaluation_measures_on(
    reported: Reported, tmp_path, capsys, index
):
    play(reported.robot, tmp_path / "clip.png", f"--split train --index {index} --stage 0")
    family, protocol = make_family("PointRobot:pearl"), preset("maml")
    many = type(protocol)(**{**vars(protocol), "split": "train", "num_tasks": 46})
    first, second = evaluation_tasks(family, many)[index]
    text = f"task ({first:.3g}, {second:.3g})".replace("-", "−")
    assert text in capsys.readouterr().out


def test_a_family_that_cannot_render_is_an_error(reported: Reported, tmp_path):
    with pytest.raises(ValueError, match="DependentBandit:easy cannot render images; use"):
        play(reported.bandit, tmp_path / "clip.gif")
    assert not list(tmp_path.iterdir())


def test_an_environment_that_cannot_be_rendered_is_an_error(
    reported: Reported, tmp_path, monkeypatch
):
    def render(*_: object) -> None:
        raise NotImplementedError("PointRobot:pearl cannot render images: pygame is not installed")

    monkeypatch.setattr(TensorBatch, "render", render)
    with pytest.raises(
        ValueError, match="PointRobot:pearl cannot render images: pygame is not installed"
    ):
        play(reported.robot, tmp_path / "clip.gif")
    assert not list(tmp_path.iterdir())


def test_an_old_video_is_kept_if_a_new_one_fails(reported: Reported, tmp_path, monkeypatch):
    out = tmp_path / "clip.gif"
    out.write_bytes(b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        play(reported.robot, out)
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    "line",
    ["play RUN --out RUN/best.safetensors", "report RUN --out RUN/best.safetensors",
     "evaluate RUN --json RUN/config.json", "evaluate RUN --plot RUN/checkpoints/a.png"],
)  # fmt: skip
def test_no_command_replaces_a_file_of_a_run(reported: Reported, line):
    name = line.split()[-2].removeprefix("--")
    with pytest.raises(ValueError, match=f"{name} must not replace a file that belongs to a run"):
        dispatch(line.replace("RUN", str(reported.robot)).split())


MISTAKES = [
    ("clip.avi", "", r"out must end in .gif, .webp, .png, .mp4, got"),
    ("none/clip.gif", "", "out must be a file in a directory that exists, got"),
    ("clip.gif", "--stage 4", "stage must be 0 to 3, got 4"),
    ("clip.gif", "--stage 2 --preset pearl", "stage must be 0 to 1 with preset pearl, got 2"),
    ("clip.gif", "--task 1", r"task must be 2 numbers \(one of 100 goals .*\), got 1"),
    ("clip.gif", "--task 5 5", r"tasks must lie in Box.*, got \[5.0, 5.0\]"),
    ("clip.gif", "--split tets", "split must be one of train, test, got 'tets'; did you mean"),
    ("clip.gif", "--index -1", "index must be 0 or more, got -1"),
    ("clip.gif", "--episodes 0", "episodes must be 1 or more, got 0"),
    ("clip.gif", "--frames 0", "frames must be 1 or more, got 0"),
    ("clip.gif", "--width 10", "width must be 32 or more, got 10"),
    ("clip.gif", "--frames-per-second 0", r"frames_per_second must lie in \(0, 1000\], got 0"),
    ("clip.gif", "--preset mamml", "preset must be one of .* did you mean 'maml'"),
]


@pytest.mark.parametrize(("name", "options", "message"), MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(
    reported: Reported, tmp_path, name, options, message
):
    with pytest.raises(ValueError, match=message) as caught:
        play(reported.robot, tmp_path / name, options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
