"""Numbers and sentences of a report that describe its figures."""

from dataclasses import replace

import numpy as np
import pytest
from shown_evaluations import RETURNS, evaluation

from metarl.evaluation.behavior import Choices, Paths, Videos
from metarl.report import words


def test_a_task_is_described_by_its_first_numbers():
    assert words.task_text([-0.5, 2.0]) == "(−0.5, 2)"
    assert words.task_text(np.arange(9.0)) == "(0, 1, 2, 3, …)"


def test_the_finding_states_returns_before_and_after_and_the_closed_gap():
    text = words.finding(evaluation(returns=[[-4.5] * 3, [-2.5] * 3], oracle=-0.5))
    assert text == (
        "After 1 adaptation step on 2 episodes, the return on 3 test tasks rises from −4.50 to "
        "−2.50, 50% of the way to the oracle."
    )


@pytest.mark.parametrize(
    ("stage", "beginning"),
    [
        ("no adaptation", "Without adaptation"),
        ("before", "Before adaptation"),
        ("episode 1", "In the first episode, during which the agent learns"),
    ],
)
def test_the_finding_about_one_stage_states_whether_the_agent_learns_in_it(stage, beginning):
    text = words.finding(replace(evaluation(returns=[[-4.5] * 3]), stages=(stage,)))
    assert text == f"{beginning}, the return on 3 test tasks is −4.50."


def test_the_adaptation_text_has_every_number_of_the_figure():
    flat = evaluation(returns=[[-4.0] * 3, [-1.0] * 3], success=True)
    text = words.adaptation_text([flat], "return")
    assert "slider: before −4.00; after 1 step −1.00." in text
    assert "random: −15.0 (−27.4 to −2.6)." in text
    assert "oracle: −0.50" in text
    text = words.adaptation_text([flat], "success")
    assert text.startswith("Line chart of the share of successes")
    assert "oracle: 1.00" in text


def test_the_learning_text_has_both_ends_of_curves():
    first, second = (
        [
            {"time/env_steps": t, "rollout/support_return": b, "rollout/query_return": a}
            for t, b, a in ((10, -9.0 - k, -8.0 - k), (1000 + k, -3.0 - k, -1.0 - k))
        ]
        for k in (0, 1)
    )
    assert words.learning_text({"slider": [first, second]}).endswith(
        "slider, 2 runs, 1,000 steps: before adaptation from −9.50 to −3.50 and "
        "after adaptation from −8.50 to −1.50."
    )


def test_the_learning_text_ends_with_the_shortest_run():
    long, short = (
        [
            {"time/env_steps": t, "rollout/support_return": t, "rollout/query_return": t}
            for t in range(n)
        ]
        for n in (11, 3)
    )
    assert "2 steps: before adaptation from 0.00 to 2.00" in words.learning_text(
        {"a": [long, short]}
    )


def test_the_text_of_tasks_counts_improved_tasks():
    text = words.tasks_text(evaluation(returns=[[-4.0, -2.0, -3.0], [-1.0, -2.5, 0.0]]))
    assert "before: from −4.00 to −2.00. after 1 step: from −2.50 to 0.00" in text
    assert text.endswith("higher on 2 of 3 tasks.")
    assert words.tasks_text(evaluation(returns=RETURNS[:1])).endswith("from −11.0 to −4.00.")


def test_the_text_of_a_profile_has_quartiles():
    text = words.profile_text({"slider": np.arange(5.0)[None]})
    assert text.endswith("half of all returns above 2.00, 1.00 to 3.00 the middle half.")


def test_the_text_of_paths_has_the_returns_of_each_task():
    paths = Paths(
        np.array([[0.25, -1.0]]),
        ("before", "after 1 step"),
        np.zeros((2, 1, 2, 3, 2)),
        np.array([[[-5.0, -3.0]], [[-1.0, -2.0]]]),
        None,
        False,
    )
    assert words.paths_text(paths).endswith(
        "Task 1 (0.25, −1): return −4.00 before adaptation, −1.50 after 1 step."
    )


def test_the_text_of_choices_has_the_first_and_last_agreement():
    chosen = np.array([[[[0, 1, 1], [0, 1, -1]]], [[[1, 1, 1], [0, 1, -1]]]])
    choices = Choices(
        np.zeros((1, 1)),
        ("episode 1", "episode 2"),
        chosen,
        np.ones((2, 1, 2)),
        np.where(chosen < 0, -1, 1),
        3,
    )
    assert words.choices_text(choices) == (
        "Share of choices that agree with the oracle. episode 1: 0% at the first step, 100% at "
        "the last; episode 2: 50% at the first step, 100% at the last."
    )
    assert words.choices_text(choices._replace(best=None)) == (
        "Frequencies of 3 actions. Task 1 (0): return 1.00 in episode 1, 1.00 in episode 2."
    )


def test_the_text_of_a_video_states_task_and_returns():
    videos = Videos(
        np.array([[1.5]]), ("before", "after 1 step"), [], np.array([[-9.0], [-2.0]]), 4
    )
    assert words.video_text(videos, 0) == (
        "Video of task 1 (1.5): before, return −9.00; after 1 step, return −2.00."
    )
