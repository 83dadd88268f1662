"""Tables of an evaluation: every number in its place, and what the intervals are over."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from metarl.evaluation.fewshot_results import tasks_in_words
from metarl.evaluation.measured import Measured
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.evaluation.results import Evaluation, episode_name
from metarl.report.numbers import interval_text
from metarl.report.terminal import print_evaluation

PROTOCOL = EvaluationProtocol(
    num_tasks=3, exploration_episodes=2, evaluation_episodes=2, adaptation_steps=2
)


def made(num_runs: int, *, success: bool = False, others: Iterable[tuple[str, int]] = ()):
    """Random numbers of a kind."""
    rng = np.random.default_rng(0)

    def sampled(*shape: int) -> Measured:
        reached = rng.integers(2, size=shape).astype(float) if success else None
        return Measured(rng.normal(-50, 20, shape), reached)

    references = {"random": sampled(1, 3, 2), "oracle": sampled(1, 3, 2)}
    references |= {name: sampled(count, 3, 2) for name, count in others}
    return Evaluation(
        environment="Slope:one",
        agent="slider",
        protocol=PROTOCOL,
        tasks=np.arange(3.0).reshape(1, 3, 1),
        runs=tuple(f"run {r}" for r in range(num_runs)),
        stages=("before", "after 1 step", "after 2 steps"),
        measured=sampled(num_runs, 3, 3, 2),
        references=references,
    )


def printed(evaluation: Evaluation) -> list[str]:
    """The lines that are not empty."""
    console = Console(file=io.StringIO(), width=100)
    print_evaluation(console, evaluation)
    text = console.file.getvalue().replace("−", "-")
    return [line.strip() for line in text.splitlines() if line.strip()]


def numbers(row: str, name: str) -> list[str]:
    """The numbers of a table's row, except a share in percent."""
    assert row.startswith(f"{name} ")
    return re.findall(r"(?<=\s)-?[\d.]+(?=\s|$)", row.removeprefix(name))


def assert_shows(shown: list[str], values: Iterable[float]) -> None:
    """The numbers are these, rounded."""
    for text, value in zip(shown, values, strict=True):
        decimals = len(text.partition(".")[2])
        assert float(text) == pytest.approx(value, abs=0.501 * 10**-decimals)


def test_a_table_shows_every_stage_with_random_and_oracle():
    got = made(1)
    *lines, meaning, finding = printed(got)
    title, rows = " ".join(lines[:2]), lines[-5:]
    assert title == f"Slope:one, slider: {PROTOCOL.describe()}"
    for row, name in ((rows[0], "random"), (rows[4], "oracle")):
        scores = got.reference(name)
        assert_shows(
            numbers(row, name),
            (*got.reference_estimate(name)[:3], got.interquartile_estimate(scores).value),
        )
    for k, row in enumerate(rows[1:4]):
        scores = got.scores(k)
        values = [*got.estimate(scores)[:3], got.interquartile_estimate(scores).value]
        values += got.gain(k)[:3] if k else []
        assert_shows(numbers(row, got.stages[k]), values)
    assert rows[4].endswith(" 100%")
    assert meaning.startswith("95 % intervals over the 3 tasks of one run (Student's t). IQM: ")
    assert finding.startswith("After 2 adaptation steps on 2 episodes each, the return on 3 test ")


def of_trials(got: Evaluation, **settings: object) -> Evaluation:
    """The same numbers as three episodes of a trial."""
    protocol = {"exploration_episodes": 1, "evaluation_episodes": 1, "deterministic": "never"}
    return replace(
        got,
        protocol=replace(got.protocol, **{**protocol, **settings}),
        stages=tuple(episode_name(k) for k in range(3)),
        measured=Measured(got.measured.returns[..., :1]),
        references={k: Measured(other.returns[..., :1]) for k, other in got.references.items()},
    )


def test_the_return_of_each_run_is_shown():
    got = made(3)
    label, numbers_shown = printed(got)[-3].rsplit(": ", 1)
    assert label == f"return of each run, {got.stages[-1]}"
    assert_shows(numbers_shown.replace("−", "-").split(", "), got.scores(2).mean(-1))
    together = of_trials(got)
    assert together.trial_returns is not None
    label, numbers_shown = printed(together)[-3].rsplit(": ", 1)
    assert label == "return of each run, all episodes"
    means = together.trial_returns.mean(-1)
    assert_shows(numbers_shown.replace("−", "-").split(", "), means)
    assert not any("each run" in line for line in printed(made(1)))


@pytest.mark.parametrize("num_runs", [1, 3])
def test_the_episodes_of_a_trial_are_also_added_up(num_runs):
    got = of_trials(made(num_runs))
    total = got.measured.returns.sum((1, 3))
    row = printed(got)[-4 if num_runs == 1 else -5]
    assert_shows(numbers(row, "all episodes")[:1], [total.mean()])
    assert got.to_json()["statistics"]["return"]["all_episodes"]["mean"] == pytest.approx(
        got.estimate(total)._asdict()
    )


def test_episodes_of_references_are_also_added_up():
    got = of_trials(made(1))
    got = replace(got, totals={"slider": got.measured.returns.sum((1, 3)) - 1000})
    row = printed(got)[-4]
    assert_shows(numbers(row, "slider, all episodes")[:1], [got.totals["slider"].mean()])
    again = Evaluation.from_json(got.to_json())
    np.testing.assert_array_equal(again.totals["slider"], got.totals["slider"])


@pytest.mark.parametrize(
    "got",
    [
        made(1),
        of_trials(made(1), deterministic="evaluation"),
        of_trials(made(1), exploration_episodes=2),
    ],
    ids=["steps", "measured apart", "more data than is measured"],
)
def test_separate_episodes_are_not_added_up(got):
    assert got.trial_returns is None
    assert not any(line.startswith("all episodes") for line in printed(got))
    assert "all_episodes" not in got.to_json()["statistics"]["return"]


def test_the_closed_gap_is_shown_if_there_is_a_gap():
    got = made(1)
    got.references["oracle"].returns[:] = 0
    rows = printed(got)[-6:-2]
    assert rows[2].split()[-1] == f"{got.gap_closed(2):.0%}"
    got.references["oracle"].returns[:] = -1000
    assert not printed(got)[-4].endswith("%")


def test_success_has_a_separate_table_in_percent():
    got = made(1, success=True)
    lines = printed(got)
    assert sum("success %" in line for line in lines) == 1
    row = lines[-4]
    mean, gain = got.estimate(got.scores(2, "success"), "success"), got.gain(2, "success")
    middle = got.interquartile_estimate(got.scores(2, "success"))
    values = [100 * x for x in (*mean[:3], middle.value, *gain[:3])]
    assert_shows(numbers(row, "after 2 steps"), values)


def test_a_reference_without_success_is_in_the_first_table_only():
    got = made(1, success=True)
    got.references["oracle"] = Measured(got.references["oracle"].returns)
    assert sum(line.startswith("oracle") for line in printed(got)) == 1


@pytest.mark.parametrize(
    ("num_runs", "same_tasks", "meaning"),
    [
        (1, True, "95 % intervals over the 3 tasks of one run (Student's t)."),
        (
            2,
            True,
            "95 % intervals for new runs and new tasks, from 2 runs on the same 3 tasks (two-way "
            "random effects).",
        ),
        (
            2,
            False,
            "95 % intervals for new runs and new tasks, from 2 runs with their own 3 tasks each "
            "(Student's t of the runs' means).",
        ),
    ],
)
def test_the_meaning_of_intervals_is_printed(num_runs, same_tasks, meaning):
    got = replace(made(num_runs, others=[("multi-task", 3)]), same_tasks=same_tasks)
    *lines, printed_meaning, finding = printed(got)
    middle = got.interquartile_estimate(got.scores(2))
    value, interval = interval_text(middle)
    unit = "runs" if num_runs > 1 else "tasks"
    assert printed_meaning == (
        f"{meaning} IQM: mean of the middle half of runs and tasks; rliable's stratified bootstrap "
        f"over {unit} for after 2 steps: {value} [{interval}].".replace("−", "-")
    )
    assert finding.endswith(meaning) is (num_runs > 1)
    assert any(line.startswith("multi-task ") for line in lines)


def test_the_finding_states_data_change_and_share_of_the_gap():
    got = made(1)
    before, after = (" ".join(interval_text(got.estimate(got.scores(k)))) for k in (0, 2))
    finding = printed(got)[-1]
    assert finding.startswith("After 2 adaptation steps on 2 episodes each, the return on 3 test")
    gain = " ".join(interval_text(got.gain(2), signed=True))
    assert f"is {words(after)} instead of {words(before)}; the interval of the change" in finding
    assert f"the change, {words(gain)}, contains 0." in finding
    returns = got.measured.returns.copy()
    returns[:, 2] = returns[:, 0] + [[[9.0], [10.0], [11.0]]]
    clear = replace(got, measured=Measured(returns))
    closed = f"{clear.gap_closed(2):.0%}"
    low, high = (" ".join(interval_text(clear.estimate(clear.scores(k)))) for k in (0, 2))
    assert f"rises from {words(low)} to {words(high)}, {closed} of the way" in printed(clear)[-1]
    same = replace(got, measured=Measured(got.measured.returns[:, [0, 0, 0]]))
    assert printed(same)[-1].endswith(f"the return on 3 test tasks is {words(before)} as before.")
    trials = printed(of_trials(got))[-1]
    assert trials.startswith("After 2 episodes of exploration, the return on 3 test tasks ")
    zero = replace(
        got,
        protocol=replace(PROTOCOL, adaptation_steps=0),
        stages=("before",),
        measured=Measured(got.measured.returns[:, :1]),
    )
    assert printed(zero)[-1] == f"Before adaptation, the return on 3 test tasks is {words(before)}."


def words(shown: str) -> str:
    """A value and an interval, as in a sentence."""
    value, interval = shown.split(" ", 1)
    return f"{value} ({interval.replace(' … ', ' to ')})".replace("−", "-")


def test_several_runs_are_counted_in_the_title():
    assert printed(made(3))[0].startswith("Slope:one, 3 runs of slider: 3 test tasks")


def test_columns_without_numbers_are_left_out():
    got = made(1)
    single = replace(
        got,
        protocol=replace(got.protocol, adaptation_steps=0),
        stages=("no adaptation",),
        measured=Measured(got.measured.returns[:, :1]),
    )
    text = "\n".join(printed(single))
    assert "no adaptation" in text
    assert "gain" not in text
    assert "gap closed" not in text
    assert "gain" in "\n".join(printed(got))


def test_regression_is_named_by_its_points():
    assert tasks_in_words("mse", {"ways": 1, "shots": 10}) == "10 points"
    assert tasks_in_words("accuracy", {"ways": 5, "shots": 1}) == "5-way 1-shot"
