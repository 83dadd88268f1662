"""Tables and sentences about comparisons, on the terminal and on a page."""

import io

import numpy as np
import pytest
from compared_evaluations import agent, learner
from rich.console import Console

from metarl.evaluation.comparable import as_comparable
from metarl.evaluation.comparison import compare_all, comparisons_of
from metarl.report.comparison import (
    comparison_blocks,
    decision,
    heading,
    meaning,
    print_comparison,
)
from metarl.report.page import Heading, Paragraph, Table

A = np.array([[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 9.0]]])  # [runs, stages, tasks]
B = A - np.array([[[0.5, -0.5, 1.0, -1.0], [3.0, 3.5, 2.5, 3.0]]])


def compared(a, b, names=("first", "second"), metric=None):
    sides = [[as_comparable(name, one)] for name, one in zip(names, (a, b), strict=True)]
    return compare_all(*sides, metric)


def printed(comparison) -> str:
    stream = io.StringIO()
    print_comparison(Console(file=stream, width=80), comparison)
    return stream.getvalue()


def test_the_better_side_is_named_with_its_interval():
    (found,) = compared(agent(A), agent(B))
    sentence = (
        "first is better than second: its return (after 1 step) is higher by 3.00 [2.35, 3.65], "
        "and the probability that it is better on a task is 100% [40%, 100%], for these trained "
        "runs."
    )
    assert decision(found) == sentence
    (back,) = compared(agent(B), agent(A), ("second", "first"))
    assert decision(back) == sentence


def test_lower_errors_are_better():
    (found,) = compared(learner(A, metric="mse"), learner(B, metric="mse"))
    assert decision(found).startswith(
        "second is better than first: its mean squared error (after 1 step) is lower by 3.00 ["
    )
    assert "P(A < B)" in printed(found)


def test_an_interval_that_contains_0_does_not_decide():
    (found,) = compared(agent(A), agent(B[:, ::-1] + 4))
    assert decision(found).startswith(
        "The data do not decide between first and second: the interval of the difference in return "
        "(after 1 step), "
    )
    assert decision(found).endswith("], contains 0, for these trained runs.")


def test_differences_without_an_interval_do_not_decide():
    (found,) = compared(agent(A), agent(A - 2))
    assert decision(found) == (
        "The data do not decide: the return (after 1 step) differs by 2.00, without an interval."
    )


def test_diverged_adaptation_does_not_decide():
    lost = A.copy()
    lost[0, 1, 0] = np.inf
    (found,) = compared(learner(A, metric="mse"), learner(lost, metric="mse"))
    assert decision(found) == (
        "The data do not decide: adaptation of second diverged in the row after 1 step."
    )
    assert "diverged" in printed(found)
    _, table, *_ = comparison_blocks([found])
    assert "diverged" in table.rows[1].cells


def test_accuracies_are_percent():
    (found,) = compared(learner(A / 10), learner(B / 10))
    assert "is higher by 30.00 [23.50, 36.50] percentage points" in decision(found)
    (row,) = [line for line in printed(found).splitlines() if line.startswith(" after 1 step")]
    assert row.split()[3:6] == ["67.50", "37.50", "+30.00"]


@pytest.mark.parametrize(
    ("a", "b", "over", "words"),
    [
        (
            agent(A),
            agent(B),
            "tasks only",
            "Paired: 1 run of first and 1 run of second on the same",
        ),
        (
            agent(np.tile(A, (2, 1, 1)) + np.arange(2)[:, None, None]),
            agent(np.tile(B, (3, 1, 1)) + np.arange(3)[:, None, None]),
            "runs and tasks",
            "Paired: 2 runs of first and 3 runs of second on the same 4 tasks. Intervals are for "
            "new runs and new tasks; rliable's stratified bootstrap of P over runs for after 1 ",
        ),
        (
            agent(np.tile(A, (2, 1, 1)), own_tasks=True),
            agent(np.tile(B, (2, 1, 1)), own_tasks=True),
            "runs and tasks",
            "Paired by run: 2 runs of first and 2 runs of second, run i of both on the same 4 tas",
        ),
        (
            agent(A),
            agent(B, seed=1),
            "tasks only",
            "Not paired: 1 run of first and 1 run of second on other tasks (4 tasks and 4), so P",
        ),
    ],
    ids=["single runs", "paired", "paired by run", "unpaired"],
)
def test_the_heading_and_the_note_state_what_the_intervals_are_over(a, b, over, words):
    (found,) = compared(a, b)
    assert heading(found).endswith(f"; 95 % intervals over {over}")
    assert meaning(found).startswith(words)
    assert ("for these trained runs" in meaning(found)) == (over == "tasks only")


def test_the_printed_table_has_both_means_the_difference_and_the_probability():
    (found,) = compared(agent(A), agent(B))
    lines = printed(found).splitlines()
    (row,) = [line for line in lines if line.startswith(" after 1 step")]
    assert row.split() == [
        "after", "1", "step", "6.75", "3.75", "+3.00", "2.35", "…", "3.65", "100%", "40%", "…",
        "100%",
    ]  # fmt: skip
    assert lines[-1] == decision(found)


def test_only_one_transductive_learner_is_mentioned():
    (found,) = compared(learner(A / 10, transductive=True), learner(B / 10))
    assert meaning(found).endswith(" Only first uses statistics of the query set.")
    (both,) = compared(learner(A / 10, transductive=True), learner(B / 10, transductive=True))
    assert "query set" not in meaning(both)


def test_a_page_shows_a_table_for_each_metric():
    found = compared(agent(A, success=A > 2), agent(B, success=B > 2))
    blocks = comparison_blocks(found)
    assert [type(block) for block in blocks] == [
        Heading, Table, Paragraph, Paragraph, Table, Paragraph, Paragraph,
    ]  # fmt: skip
    assert blocks[2].text == decision(found[0])
    assert blocks[3].text == meaning(found[0])
    first, second = (block for block in blocks if isinstance(block, Table))
    assert [row.name for row in first.rows] == [
        "first − second, before", "first − second, after 1 step", "first − second, gain",
    ]  # fmt: skip
    assert second.caption == (
        "Comparison on common tasks, success rate in %, with 95 % intervals over tasks only"
    )
    assert first.rows[1].cells[2].value == "+3.00"
    assert comparison_blocks([]) == []


def test_a_page_about_more_than_two_agents_has_one_table_and_one_note():
    sides = [as_comparable(f"agent {k}", agent(A + k * B)) for k in range(3)]
    _, table, note = comparison_blocks(comparisons_of(sides))
    assert [row.name for row in table.rows if row.begins_group] == [
        "agent 0 − agent 1, after 1 step",
        "agent 0 − agent 2, after 1 step",
        "agent 1 − agent 2, after 1 step",
    ]
    assert note.text.startswith("Each pair was measured on common tasks")
