"""Images of behavior, and figures of few-shot predictions."""

import shutil

import pytest
import torch
from fewshot_runs import on_glyphs
from page_blocks import ROOT
from PIL import Image

from metarl.fewshot import EpisodeShape, FewShotTraining, SinusoidTasks
from metarl.scripts.website.behavior import main, published_runs, write_image
from metarl.scripts.website.fewshot_figures import (
    curves_figure,
    images_figure,
    prediction_figure,
    probabilities_figure,
)
from metarl.seeding import torch_generator

RESULTS = ROOT / "results"


def opened(file):
    """The width of an image and its mode."""
    with Image.open(file) as image:
        return image.size[0], image.mode


@pytest.fixture
def published(tmp_path):
    """A copy of a published run without its image."""
    folder = tmp_path / "results" / "GridNavigation-varibad" / "rl2"
    shutil.copytree(RESULTS / "GridNavigation-varibad" / "rl2", folder)
    (folder / "behavior.png").unlink()
    (folder / "behavior.txt").unlink()
    return folder


def test_every_published_run_has_an_image_and_a_caption():
    for folder in published_runs(RESULTS):
        (file,) = [file for file in folder.glob("behavior.*") if file.suffix != ".txt"]
        assert opened(file)[0] >= 300
        assert (folder / "behavior.txt").read_text(encoding="utf-8").strip().endswith(".")


def test_the_image_of_an_agent_is_written_with_its_caption(published, monkeypatch, capsys):
    monkeypatch.chdir(published.parents[2])
    main([])
    assert "GridNavigation-varibad/rl2/behavior.png" in capsys.readouterr().out
    assert opened(published / "behavior.png") == (528, "P")
    caption = (published / "behavior.txt").read_text(encoding="utf-8")
    assert caption.startswith("Paths on the first 4 test tasks, episode 1 and episode 4")
    main([])  # nothing is left to do
    assert capsys.readouterr().out == ""


def test_the_image_of_a_learner_shows_curves(tmp_path):
    folder = tmp_path / "maml-10shot"
    shutil.copytree(RESULTS / "fewshot" / "sinusoid" / "maml-10shot", folder)
    stored = (folder / "behavior.txt").read_text(encoding="utf-8")
    assert write_image(folder, tmp_path) == folder / "behavior.png"
    assert (folder / "behavior.txt").read_text(encoding="utf-8") == stored


def test_images_of_free_data_sets_are_shown_with_predicted_classes():
    figure, caption = prediction_figure(on_glyphs("protonet", filters=(4, 4)))
    assert "support images" in caption
    assert len(figure.axes) % 5 == 0


def test_wrong_predictions_are_marked():
    shape = EpisodeShape(2, 1, 2)
    batch = on_glyphs("protonet", filters=(4, 4)).tasks.sample(
        1, shape, split="test", generator=torch_generator(0)
    )
    right = torch.eye(2)[batch.query.targets]
    wrong = right.flip(-1)

    def marks(logits: torch.Tensor) -> int:
        return sum(len(axes.artists) for axes in images_figure(batch, logits, shape).axes)

    assert marks(right) == 0
    assert marks(wrong) == 4


def test_curves_and_probabilities_show_what_they_are_given():
    tasks = SinusoidTasks()
    batch = tasks.sample_for_test(4, 5, torch_generator(0))
    figure = curves_figure(batch, batch.query.targets + 1)
    target, prediction, support = figure.axes[0].lines
    assert (prediction.get_ydata() - target.get_ydata()).tolist() == pytest.approx([1.0] * 100)
    assert len(support.get_xdata()) == 5
    shape = EpisodeShape(2, 1, 3)
    labeled = on_glyphs("protonet", filters=(4, 4)).tasks.sample(
        1, shape, split="test", generator=torch_generator(0)
    )
    logits = torch.tensor([[[0.0, 100.0]] * 6])
    (axes, _) = probabilities_figure(labeled, logits).axes
    assert axes.images[0].get_array().round(3).tolist() == [[0.0] * 6, [1.0] * 6]


def test_a_learner_of_curves_has_a_figure_of_four_tasks():
    figure, caption = prediction_figure(FewShotTraining("maml", SinusoidTasks()))
    assert len(figure.axes) == 4
    assert caption.startswith("4 test tasks")
