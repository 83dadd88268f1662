"""Figures show the numbers they are given; no pixels are compared."""

import struct
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metarl.evaluation import Evaluation
from metarl.plots import adaptation_figure, learning_figure

RETURNS = np.array([[-4.0, -6.0, -11.0], [-2.0, -5.0, -2.0], [-1.0, 0.0, -2.0]])
METRICS = [
    {"time/env_steps": 400, "rollout/support_return": -9.0, "rollout/query_return": -8.0},
    {"time/env_steps": 700, "rollout/support_return": -7.0, "rollout/query_return": -3.5},
]


def evaluation(*, num_steps: int = 2, oracle: list[float] | None = None) -> Evaluation:
    return Evaluation(
        environment="Fake:one",
        split="test",
        seed=0,
        num_episodes=5,
        tasks=np.zeros((3, 1)),
        returns=RETURNS[: num_steps + 1],
        random=np.array([-10.0, -20.0, -15.0]),
        oracle=None if oracle is None else np.array(oracle),
    )


def axes_of(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def labels(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def level(axes: Axes, label: str) -> float:
    """The height of the horizontal line of this label."""
    (line,) = (line for line in axes.lines if line.get_label() == label)
    low, high = line.get_ydata()
    assert low == high
    return low


def test_the_mean_of_each_step_is_drawn_with_the_ends_of_its_interval():
    shown = evaluation()
    (bars,) = axes_of(adaptation_figure(shown)).containers
    means, _, (ends,) = bars.lines
    assert means.get_xdata().tolist() == [0, 1, 2]
    assert means.get_ydata() == pytest.approx([-7, -3, -1])
    for k, segment in enumerate(ends.get_segments()):
        interval = shown.interval(RETURNS[k])
        assert segment[:, 0].tolist() == [k, k]
        assert segment[:, 1] == pytest.approx([interval.low, interval.high])
        assert interval.low < interval.high


def test_every_task_has_a_line_of_its_own():
    axes = axes_of(adaptation_figure(evaluation()))
    drawn = [list(line.get_ydata()) for line in axes.lines]
    for task in range(3):
        assert RETURNS[:, task].tolist() in drawn


def test_random_and_oracle_are_horizontal_lines_at_their_means():
    axes = axes_of(adaptation_figure(evaluation(oracle=[-0.5, 0.0, -1.0])))
    assert level(axes, "random") == pytest.approx(-15)
    assert level(axes, "oracle") == pytest.approx(-0.5)
    assert labels(axes) == ["random", "oracle", "mean of 3 tasks, 95 % interval"]


def test_without_an_oracle_no_oracle_is_drawn():
    axes = axes_of(adaptation_figure(evaluation()))
    assert labels(axes) == ["random", "mean of 3 tasks, 95 % interval"]


def test_the_adaptation_figure_names_what_it_shows():
    axes = axes_of(adaptation_figure(evaluation()))
    assert axes.get_title() == "Fake:one, test tasks"
    assert axes.get_xlabel() == "gradient steps on the task"
    assert axes.get_ylabel() == "return of an episode"
    assert axes.get_xticks().tolist() == [0, 1, 2]


def test_an_evaluation_without_steps_is_one_point():
    axes = axes_of(adaptation_figure(evaluation(num_steps=0)))
    (bars,) = axes.containers
    assert bars.lines[0].get_ydata() == pytest.approx([-7])
    assert axes.get_xticks().tolist() == [0]


def test_the_learning_figure_draws_both_returns_against_environment_steps():
    axes = axes_of(learning_figure(METRICS, "MAML-TRPO"))
    before, after = axes.lines
    assert before.get_xydata().tolist() == [[400, -9], [700, -7]]
    assert after.get_xydata().tolist() == [[400, -8], [700, -3.5]]
    assert labels(axes) == ["before adaptation", "after adaptation"]
    assert [line.get_label() for line in axes.lines] == labels(axes)


def test_the_learning_figure_names_what_it_shows():
    axes = axes_of(learning_figure(METRICS, "MAML-TRPO"))
    assert axes.get_title() == "MAML-TRPO"
    assert axes.get_xlabel() == "environment steps, all tasks"
    assert axes.get_ylabel() == "return of an episode"


@pytest.mark.parametrize("kind", ["adaptation", "learning"])
def test_a_figure_can_be_saved_without_a_display(kind, tmp_path: Path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    adaptation = kind == "adaptation"
    figure = adaptation_figure(evaluation()) if adaptation else learning_figure(METRICS, "title")
    figure.savefig(tmp_path / "figure.png", dpi=50)
    content = (tmp_path / "figure.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert struct.unpack(">II", content[16:24]) == (320, 210)
