"""Statistics of known returns against hand-computed sums and plain NumPy; and JSON."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from metarl.evaluation.files import read_evaluations, write_evaluations
from metarl.evaluation.measured import Measured
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.evaluation.results import Evaluation
from metarl.statistics.intervals import mean_interval

PROTOCOL = EvaluationProtocol(
    num_tasks=3, exploration_episodes=2, adaptation_steps=2, evaluation_episodes=2, seed=7
)
TASKS = np.array([[[0.5], [0.25], [-1.0]]])
MEANS = np.array(  # of two runs at three stages on three tasks
    [
        [[-8.0, -10.0, -12.0], [-2.0, -4.0, -6.0], [-1.0, -5.0, 0.0]],
        [[-9.0, -10.0, -11.0], [-3.0, -4.0, -5.0], [-2.0, -4.0, 0.0]],
    ]
)
APART = np.array([-1.0, 1.0])  # of the two episodes from their mean


def by_hand(
    *,
    num_runs: int = 2,
    oracle: list[float] | None = None,
    success: bool = False,
    task_score: Any = "mean",
) -> Evaluation:
    """Three tasks, two steps: means −10, −4 and −2."""
    returns = MEANS[:num_runs, ..., None] + APART
    reached = (returns > -4).astype(np.float64) if success else None
    references = {"random": Measured(np.array([[-20.0, -30.0, -40.0]])[..., None] + APART)}
    if oracle is not None:
        references["oracle"] = Measured(np.array([oracle])[..., None] + APART)
    return Evaluation(
        environment="Slope:one",
        agent="slider",
        protocol=EvaluationProtocol(**{**vars(PROTOCOL), "task_score": task_score}),
        tasks=TASKS,
        runs=("a", "b")[:num_runs],
        stages=("before", "after 1 step", "after 2 steps"),
        measured=Measured(returns, reached),
        references=references,
    )


def with_runs(returns: np.ndarray, *, same_tasks: bool = True) -> Evaluation:
    """An evaluation of returns [R, 3, 3, M]."""
    runs = tuple(f"run {r}" for r in range(len(returns)))
    return replace(
        by_hand(num_runs=1), runs=runs, measured=Measured(returns), same_tasks=same_tasks
    )


def stratified_ends(scores: np.ndarray, statistic: Any, *, runs: bool) -> np.ndarray:
    """Ends of the bootstrap interval from its definition, one resample after another."""
    rng, draws = np.random.default_rng(123), []
    num_runs, num_tasks = scores.shape
    for _ in range(4000):
        if runs:  # each task resamples its runs
            columns = [rng.choice(scores[:, m], num_runs) for m in range(num_tasks)]
            sample = np.stack(columns, axis=1)
        else:  # whole tasks are sampled
            sample = scores[:, rng.choice(num_tasks, num_tasks)]
        draws.append(statistic(sample))
    return np.quantile(draws, [0.025, 0.975])


def middle_half(scores: np.ndarray) -> float:
    ordered = np.sort(scores, axis=None)
    cut = ordered.size // 4
    return float(ordered[cut : ordered.size - cut].mean())


# What counts of the episodes.


def test_the_reported_number_is_the_mean_of_the_episodes_or_the_last():
    made, last = by_hand(), by_hand(task_score="last")
    for k in range(3):
        np.testing.assert_array_equal(made.scores(k), MEANS[:, k])
        np.testing.assert_array_equal(last.scores(k), MEANS[:, k] + 1)
    np.testing.assert_array_equal(made.reference("random"), [[-20, -30, -40]])
    np.testing.assert_array_equal(last.reference("random"), [[-19, -29, -39]])


def test_success_is_reported_like_returns():
    made = by_hand(success=True)
    assert made.metrics == ("return", "success")
    expected = (MEANS[:, 2, :, None] + APART > -4).mean(-1)
    np.testing.assert_array_equal(made.scores(2, "success"), expected)
    assert expected.tolist() == [[1, 0, 1], [1, 0.5, 1]]


def test_a_family_without_success_has_the_return_only():
    assert by_hand().metrics == ("return",)
    with pytest.raises(ValueError, match="metric must be 'return', since this family"):
        by_hand().scores(0, "success")


# Statistics.


def test_means_are_over_all_runs_and_tasks():
    made = by_hand()
    assert [made.estimate(made.scores(k)).value for k in range(3)] == pytest.approx([-10, -4, -2])
    # the middle 4 of 6: of −6 −5 −4 −4 −3 −2 and of −5 −4 −2 −1 0 0
    assert made.interquartile_estimate(made.scores(1)).value == pytest.approx(-4)
    assert made.interquartile_estimate(made.scores(2)).value == pytest.approx((-4 - 2 - 1 + 0) / 4)


@pytest.mark.parametrize("num_runs", [1, 6])
@pytest.mark.parametrize("same_tasks", [True, False])
def test_means_have_intervals_over_runs_and_tasks(num_runs, same_tasks):
    returns = np.random.default_rng(0).normal(size=(num_runs, 3, 3, 2))
    made = with_runs(returns, same_tasks=same_tasks)
    for k, scores in enumerate(returns.mean(-1).swapaxes(0, 1)):
        expected = mean_interval(scores, same_tasks=same_tasks)
        got = made.estimate(made.scores(k))
        assert got[:3] == pytest.approx(expected[:3])
        assert got.over == expected.over == ("runs and tasks" if num_runs > 1 else "tasks")
    gains = (returns[:, 2] - returns[:, 0]).mean(-1)
    expected = mean_interval(gains, same_tasks=same_tasks)
    assert made.gain(2)[:3] == pytest.approx(expected[:3])


@pytest.mark.parametrize("num_runs", [1, 6])
def test_the_interquartile_mean_has_the_bootstrap_of_rliable_written_from_its_definition(num_runs):
    returns = np.random.default_rng(0).normal(size=(num_runs, 3, 3, 2)) * [[1.0], [2.0], [3.0]]
    made = with_runs(returns)
    for k, scores in enumerate(returns.mean(-1).swapaxes(0, 1)):
        got = made.interquartile_estimate(made.scores(k))
        ends = stratified_ends(scores, middle_half, runs=num_runs > 1)
        assert got.value == pytest.approx(middle_half(scores))
        assert got.over == ("runs" if num_runs > 1 else "tasks")
        width = ends[1] - ends[0]
        assert width > 0.3
        np.testing.assert_allclose([got.low, got.high], ends, atol=0.12 * width)


def test_the_gain_is_taken_run_by_run_and_task_by_task():
    made = by_hand()
    assert made.gain(1).value == 6
    assert not made.gain(1).has_interval  # the same for all runs and tasks
    assert made.gain(2).value == pytest.approx(((7 + 5 + 12) + (7 + 6 + 11)) / 6)


def test_the_probability_of_improvement_counts_runs_and_tasks_with_a_higher_score():
    made = by_hand()
    assert made.improvement(1)[:3] == pytest.approx((1, 0.025 ** (1 / 3), 1))
    assert made.improvement(0).value == pytest.approx(0.5)
    mixed = by_hand()
    mixed.measured.returns[:, 1, 0] = [[-8.5, -8.5], [-10, -10]]  # before: −8, −9
    assert mixed.improvement(1).value == pytest.approx(4 / 6)


def test_success_rates_have_intervals_between_0_and_1():
    made = by_hand(success=True)
    never = made.estimate(made.scores(0, "success"), "success")
    assert never[:3] == pytest.approx((0, 0, 1 - 0.025 ** (1 / 3)))
    after = made.estimate(made.scores(2, "success"), "success")
    assert 0 <= after.low < after.value < after.high <= 1


def test_the_gap_closed_is_a_fraction_of_the_gap_to_the_oracle():
    made = by_hand(oracle=[0.0, -1.0, 1.0])
    assert [made.gap_closed(k) for k in range(3)] == pytest.approx([0, 0.6, 0.8])
    assert by_hand(oracle=[5.0, 5.0, 5.0]).gap_closed(1) == pytest.approx(6 / 15)


@pytest.mark.parametrize("oracle", [None, [-10.0, -10.0, -10.0], [-11.0, -12.0, -13.0]])
def test_there_is_no_gap_to_close_without_a_better_oracle(oracle):
    assert by_hand(oracle=oracle).gap_closed(1) is None


# JSON.


def test_json_holds_every_number_and_comes_back_as_it_was():
    made = by_hand(oracle=[0.0, -1.0, 1.0], success=True)
    text = json.dumps(made.to_json(), allow_nan=False)
    again = Evaluation.from_json(json.loads(text))
    assert again.to_json() == made.to_json()
    np.testing.assert_array_equal(again.measured.returns, made.measured.returns)
    np.testing.assert_array_equal(again.measured.success, made.measured.success)
    np.testing.assert_array_equal(again.tasks, TASKS)
    assert again.references["oracle"].success is None
    for name in ("environment", "agent", "protocol", "runs", "stages"):
        assert getattr(again, name) == getattr(made, name)


def test_runs_with_their_own_tasks_come_back_from_json():
    rng = np.random.default_rng(0)
    random = Measured(rng.normal(size=(1, 6, 2)))  # on the tasks of both runs
    made = replace(
        by_hand(),
        tasks=rng.normal(size=(2, 3, 1)),
        same_tasks=False,
        references={"random": random},
    )
    again = Evaluation.from_json(json.loads(json.dumps(made.to_json())))
    assert again.to_json() == made.to_json()
    assert not again.same_tasks
    assert again.reference("random").shape == (1, 6)
    np.testing.assert_array_equal(again.task_parameters, made.tasks.reshape(6, 1))
    np.testing.assert_array_equal(again.task_scores(1), made.scores(1).ravel())


def test_evaluations_of_version_0_1_have_the_same_tasks_in_all_runs():
    content = by_hand().to_json()
    content["format"], content["tasks"] = 2, content["tasks"][0]
    del content["same_tasks"], content["protocol"]["paired"]
    for stored, deterministic in (
        (False, "never"), (True, "evaluation"), ("measured", "evaluation"),
    ):  # fmt: skip
        content["protocol"]["deterministic"] = stored
        again = Evaluation.from_json(content)
        assert again.same_tasks
        assert again.protocol == replace(PROTOCOL, paired=True, deterministic=deterministic)
        np.testing.assert_array_equal(again.tasks, TASKS)


def test_tasks_may_be_left_out():
    made = replace(by_hand(), tasks=TASKS[..., :0])
    assert Evaluation.from_json(made.to_json()).tasks.shape == (1, 3, 0)


def test_json_names_what_was_measured_and_how():
    content = by_hand().to_json()
    assert content["format"] == 3
    assert content["environment"] == "Slope:one"
    assert content["agent"] == "slider"
    assert content["protocol"] == vars(PROTOCOL)
    assert content["shares_episodes"] is True
    assert content["measured"]["returns"][1][0] == [[-10, -8], [-11, -9], [-12, -10]]
    assert content["measured"]["success"] is None
    assert content["references"]["random"]["returns"] == [[[-21, -19], [-31, -29], [-41, -39]]]


def test_the_statistics_in_json_follow_from_the_returns_in_it():
    content = by_hand(oracle=[0.0, -1.0, 1.0], success=True).to_json()
    made = Evaluation.from_json(content)
    for metric in ("return", "success"):
        stored = content["statistics"][metric]
        key = "returns" if metric == "return" else "success"
        raw = np.array(content["measured"][key]).mean(-1)
        for k, stage in enumerate(stored["stages"]):
            scores = raw[:, k]
            assert stage["stage"] == made.stages[k]
            assert stage["episodes_before"] == 2 * k
            assert stage["mean"]["value"] == pytest.approx(scores.mean())
            assert stage["mean"]["over"] == "runs and tasks"
            assert stage["interquartile_mean"]["value"] == pytest.approx(middle_half(scores))
            assert stage["gain"]["value"] == pytest.approx((scores - raw[:, 0]).mean())
            better = (scores > raw[:, 0]).mean()
            equal = (scores == raw[:, 0]).mean()
            improved = stage["probability_of_improvement"]["value"]
            assert improved == pytest.approx(better + equal / 2)
            assert (stage["gap_closed"] is None) == (metric == "success")
    assert [s["gap_closed"] for s in content["statistics"]["return"]["stages"]] == pytest.approx(
        [0, 0.6, 0.8]
    )
    others = content["statistics"]["return"]["references"]
    assert {name: other["value"] for name, other in others.items()} == {"random": -30, "oracle": 0}
    assert content["statistics"]["success"]["references"] == {}


def without(key: str) -> Any:
    return lambda content: content.pop(key)


def put(value: object, *keys: Any) -> Any:
    """A change of JSON: a value at a place."""

    def change(content: dict[str, Any]) -> None:
        *path, last = keys
        for key in path:
            content = content[key]
        content[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("tasks"), "here is damaged: KeyError: 'tasks'"),
        (without("runs"), "here is damaged: KeyError: 'runs'"),
        (without("protocol"), "here must be a JSON object, got None"),
        (
            put("many", "protocol", "num_tasks"),
            "here: num_tasks must be a whole number, 1 or more, got 'many",
        ),
        (put(0, "protocol", "num_tasks"), "here: num_tasks must be 1 or more, got 0"),
        (put("a", "runs"), "here is damaged: TypeError: a list of names was expected, got 'a'"),
        (
            put(["a"], "runs"),
            r"returns of measured must have shape \(1, 3, 3, 2\), got \(2, ",
        ),
        (put(["a"], "stages"), "here is damaged: ValueError: stages must be 3, got 1"),
        (put(4, "protocol", "adaptation_steps"), "stages must be 5, got 3"),
        (put([[[1.0]]], "tasks"), r"tasks must have shape \(1, 3, 1\), got \(1, 1, 1\)"),
        (put([1.0, 2.0, 3.0], "tasks"), r"tasks must have shape \(1, 3\), got \(3,\)"),
        (put(1.0, "tasks"), "here is damaged"),
        (put([[1], [2, 3]], "measured", "returns"), "here is damaged: ValueError: setting an arr"),
        (put(None, "measured"), "here is damaged: TypeError: 'NoneType' object is not subscript"),
        (put([1.0], "measured", "success"), r"success of measured must have shape \(2, 3, 3, 2\)"),
        (put([], "references"), "here is damaged: AttributeError: 'list' object has no attribute"),
        (
            put(3.0, "references", "random", "returns"),
            r"returns of random must have shape \(0, 3, 2\)",
        ),
        (
            put(float("nan"), "measured", "returns", 0, 0, 0, 0),
            "here is damaged: ValueError: returns of measured must be finite",
        ),
        (
            put(1, "format"),
            "here must have format 3, got 1; measure again with metarl evaluate RUN --json FILE",
        ),
        (without("format"), "here must have format 3, got None"),
    ],
)
def test_damaged_json_is_rejected_in_one_sentence(change, message):
    content = copy.deepcopy(by_hand().to_json())
    change(content)
    with pytest.raises(ValueError, match=message):
        Evaluation.from_json(content, source="here")


# Files.


def test_evaluations_are_kept_in_a_file(tmp_path):
    made = [by_hand(), by_hand(num_runs=1, oracle=[0.0, 1.0, 2.0])]
    write_evaluations(tmp_path / "a.json", made)
    again = read_evaluations(tmp_path / "a.json")
    assert [one.to_json() for one in again] == [one.to_json() for one in made]


def test_files_that_hold_no_evaluations_are_rejected(tmp_path):
    file = tmp_path / "a.json"
    with pytest.raises(ValueError, match=r"evaluation must be a file, there is none at .*a\.json"):
        read_evaluations(file)
    for content in ("{}", '{"steps": []}', '{"evaluations": [3]}'):
        file.write_text(content, encoding="utf-8")
        message = r"a\.json must hold evaluations of format 3, it is damaged or older; measure ag"
        with pytest.raises(ValueError, match=message):
            read_evaluations(file)
    for content in ("[]", "{", ""):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=r"a\.json is damaged"):
            read_evaluations(file)
    file.write_text('{"evaluations": [{"format": 3}]}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.json must be a JSON object, got None"):
        read_evaluations(file)


def test_several_runs_of_a_reference_share_tasks_if_the_agents_runs_do():
    scores = np.array([[1.0, 2.0, 6.0], [3.0, 4.0, 5.0]])
    made = replace(by_hand(), references={"policy": Measured(scores[..., None])})
    assert made.reference_estimate("policy") == mean_interval(scores, same_tasks=True)
    one = replace(by_hand(num_runs=1), references=made.references)  # its runs may have other tasks
    assert one.reference_estimate("policy") == mean_interval(scores, same_tasks=False)
