"""Figures of learning and adaptation show the numbers they are given; no pixels are compared."""

import struct
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from shown_evaluations import RETURNS, evaluation

from metarl.plots.adaptation import (
    adaptation_figure,
    agent_labels,
    learning_curves_figure,
    learning_figure,
)


def rows(steps, before, after):
    return [
        {"time/env_steps": t, "rollout/support_return": b, "rollout/query_return": a}
        for t, b, a in zip(steps, before, after, strict=True)
    ]


METRICS = rows([400, 700], [-9.0, -7.0], [-8.0, -3.5])


def axes_of(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def labels(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def line(figure: Figure, label: str):
    (found,) = (one for one in axes_of(figure).lines if one.get_label() == label)
    return found


def band(figure: Figure, index: int, at: float) -> tuple[float, float]:
    """Lowest and highest point of a filled band at one place."""
    bands = [part for part in axes_of(figure).collections if hasattr(part, "get_paths")]
    bands = [part for part in bands if part.get_facecolor().size and part.get_alpha() == 0.2]
    corners = bands[index].get_paths()[0].vertices
    heights = corners[np.isclose(corners[:, 0], at), 1]
    return heights.min(), heights.max()


def test_the_mean_of_each_stage_is_plotted_with_its_interval():
    shown = evaluation()
    figure = adaptation_figure([shown])
    assert line(figure, "slider").get_xydata() == pytest.approx(
        np.array([[0, -7], [1, -3], [2, -1]])
    )
    for k in range(3):
        interval = shown.estimate(shown.scores(k))
        assert band(figure, 0, k) == pytest.approx((interval.low, interval.high))
        assert interval.low < interval.high


def test_random_and_oracle_are_horizontal_lines_at_their_means():
    figure = adaptation_figure([evaluation(oracle=-0.5)])
    for name, level in (("random", -15), ("oracle", -0.5)):
        assert line(figure, name).get_ydata() == pytest.approx([level, level])
    assert labels(figure) == ["random", "oracle", "slider"]


def test_without_an_oracle_no_oracle_is_plotted():
    assert labels(adaptation_figure([evaluation(oracle=None)])) == ["random", "slider"]


def test_several_agents_have_a_line_each_and_share_the_references():
    better = evaluation(agent="jumper", returns=RETURNS + 1)
    figure = adaptation_figure([evaluation(), better])
    assert labels(figure) == ["random", "oracle", "slider", "jumper"]
    assert line(figure, "jumper").get_ydata() == pytest.approx([-6, -2, 0])
    slider, jumper = line(figure, "slider"), line(figure, "jumper")
    assert slider.get_color() != jumper.get_color()
    assert slider.get_linestyle() != jumper.get_linestyle()
    assert slider.get_marker() != jumper.get_marker()


def test_the_adaptation_figure_names_what_it_shows():
    axes = axes_of(adaptation_figure([evaluation()]))
    assert axes.get_title() == "Slope:one, test tasks"
    assert axes.get_ylabel() == "return of an episode"
    assert [text.get_text() for text in axes.get_xticklabels()] == [
        "before",
        "after 1 step",
        "after 2 steps",
    ]


def test_steps_and_episodes_are_compared_by_the_episodes_seen_before():
    memory = evaluation(agent="memory", remembers=True)
    figure = adaptation_figure([evaluation(), memory])
    assert axes_of(figure).get_xlabel() == "earlier episodes of the task"
    for name in ("slider", "memory"):
        assert line(figure, name).get_xdata().tolist() == [0, 2, 4]


def test_success_has_a_separate_figure():
    figure = adaptation_figure([evaluation(success=True)], "success")
    assert axes_of(figure).get_ylabel() == "share of successes"
    assert line(figure, "slider").get_ydata() == pytest.approx([1 / 3, 2 / 3, 1])
    with pytest.raises(ValueError, match="since this family does not define success"):
        adaptation_figure([evaluation()], "success")


def test_an_evaluation_without_steps_is_one_point():
    figure = adaptation_figure([evaluation(returns=RETURNS[:1])])
    assert line(figure, "slider").get_xydata() == pytest.approx(np.array([[0, -7]]))


def test_evaluations_of_no_or_several_environments_are_rejected():
    from dataclasses import replace

    other = replace(evaluation(), environment="Hill:two")
    with pytest.raises(ValueError, match=r"the same environment, got Slope:one, Hill:two"):
        adaptation_figure([evaluation(), other])
    with pytest.raises(ValueError, match="the same environment, got none"):
        adaptation_figure([])


def test_labels_distinguish_evaluations():
    one = evaluation()
    assert list(agent_labels([one])) == ["slider"]
    assert list(agent_labels([one, evaluation(split="far")])) == [
        "slider, test tasks",
        "slider, far tasks",
    ]
    assert list(agent_labels([one, evaluation(runs=("b", "c", "d"))])) == [
        "slider, test tasks, a",
        "slider, test tasks, b and c",
    ]
    assert list(agent_labels([one, one])) == [
        "slider, test tasks, a (1)",
        "slider, test tasks, a (2)",
    ]


def test_the_learning_figure_plots_both_returns_against_environment_steps():
    figure = learning_figure(METRICS, "MAML-TRPO")
    assert line(figure, "before adaptation").get_xydata().tolist() == [[400, -9], [700, -7]]
    assert line(figure, "after adaptation").get_xydata().tolist() == [[400, -8], [700, -3.5]]
    assert labels(figure) == ["before adaptation", "after adaptation"]
    axes = axes_of(figure)
    assert axes.get_title() == "MAML-TRPO"
    assert axes.get_xlabel() == "environment steps of training, all tasks"


@pytest.mark.parametrize(
    ("trial", "expected"),
    [(-16, ["first episode", "last episode"]), (-8, ["the episode"])],
    ids=["several episodes", "one"],
)
def test_with_a_memory_episodes_are_plotted(trial, expected):
    remembering = [
        {**row, "rollout/trial_return": trial} for row in rows([1, 2], [-9, -9], [-8, -8])
    ]
    assert labels(learning_figure(remembering, "RL²")) == expected


def test_seeds_are_one_curve_up_to_the_shortest_with_a_band_over_them():
    short = rows([0, 100, 200], [0, 0, 0], [1.0, 2.0, 3.0])
    long = rows([0, 200, 400], [0, 0, 0], [3.0, 7.0, 9.0])
    figure = learning_curves_figure({"slider": [short, long]})
    after = line(figure, "after adaptation")
    assert after.get_xdata().tolist() == [0, 100, 200]
    assert after.get_ydata() == pytest.approx([2, 3.5, 5])  # the long one is 5 at 100
    half = 12.7062 * 2  # Student's interval of the seeds' values 3 and 7
    assert band(figure, 1, 200) == pytest.approx((5 - half, 5 + half))


def test_of_several_agents_only_the_return_after_adaptation_is_plotted():
    figure = learning_curves_figure({"slider": [METRICS], "jumper": [METRICS, METRICS]})
    assert labels(figure) == ["slider", "jumper"]
    assert line(figure, "slider").get_ydata().tolist() == [-8, -3.5]
    assert axes_of(figure).get_ylabel() == "return after adaptation"


def test_long_runs_are_thinned_but_keep_their_ends():
    steps = list(range(1, 1002))
    figure = learning_figure(rows(steps, steps, steps), "")
    sampled = line(figure, "after adaptation").get_xdata()
    assert len(sampled) <= 201
    assert (sampled[0], sampled[-1]) == (1, 1001)


@pytest.mark.parametrize("agents", [{}, {"slider": []}, {"slider": [[]]}])
def test_empty_curves_are_rejected(agents):
    with pytest.raises(
        ValueError, match="each agent must have at least one run, and each run metrics"
    ):
        learning_curves_figure(agents)


@pytest.mark.parametrize("kind", ["adaptation", "learning"])
def test_a_figure_can_be_saved_without_a_display(kind, tmp_path: Path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    adaptation = kind == "adaptation"
    figure = adaptation_figure([evaluation()]) if adaptation else learning_figure(METRICS, "title")
    figure.savefig(tmp_path / "figure.png", dpi=50)
    content = (tmp_path / "figure.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert struct.unpack(">II", content[16:24]) == (240, 170)


def test_a_run_of_one_iteration_is_a_visible_point():
    (axes,) = learning_figure(METRICS[:1], "one").axes
    assert {line.get_marker() for line in axes.lines} == {"o"}
    (axes,) = learning_figure(METRICS, "many").axes
    assert "o" not in {line.get_marker() for line in axes.lines}
