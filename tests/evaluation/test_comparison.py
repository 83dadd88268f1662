"""Comparisons of evaluations: their rows, their designs, and what cannot be compared."""

import itertools
import math

import numpy as np
import pytest
from compared_evaluations import agent, learner

from metarl.evaluation.comparable import as_comparable, shared_design
from metarl.evaluation.comparison import compare_all, compare_pair, comparisons_of
from metarl.statistics.bootstrap import stratified_bootstrap
from metarl.statistics.comparison import improvement_interval, mean_difference
from metarl.statistics.intervals import mean_interval
from metarl.statistics.scores import probability_of_improvement
from metarl.statistics.unpaired import unpaired_difference, unpaired_improvement

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(3, 2, 8)), RNG.normal(size=(3, 2, 8)) - 1  # [runs, stages, tasks]


def side(evaluation, name=None):
    kind = evaluation.agent if hasattr(evaluation, "agent") else evaluation.first.learner
    return as_comparable(name or kind, evaluation)


def compared(a, b, metric=None):
    return compare_all([side(a)], [side(b)], metric)


def test_paired_rows_have_the_means_and_their_crossed_comparison():
    (found,) = compared(agent(A), agent(B[:2], "second"))
    assert (found.design, found.metric) == ("paired", "return")
    assert [row.name for row in found.rows] == ["before", "after 1 step", "gain"]
    assert found.rows[found.headline].name == "after 1 step"
    for stage, row in enumerate(found.rows[:2]):
        a, b = A[:, stage], B[:2, stage]
        assert row.a == mean_interval(a, same_tasks=True)
        assert row.b == mean_interval(b, same_tasks=True)
        assert row.difference == mean_difference(a, b, same_tasks=True)
        assert row.improvement == improvement_interval(a, b, same_tasks=True)
        assert row.rliable == stratified_bootstrap(probability_of_improvement, a, b)
    gains = A[:, 1] - A[:, 0], B[:2, 1] - B[:2, 0]
    assert found.rows[2].difference == mean_difference(*gains, same_tasks=True)


def test_runs_with_their_own_tasks_are_paired_by_run():
    (found,) = compared(agent(A, own_tasks=True), agent(B, "second", own_tasks=True))
    assert found.design == "paired by run"
    row = found.rows[0]
    assert row.difference == mean_difference(A[:, 0], B[:, 0], same_tasks=False)
    assert row.improvement == improvement_interval(A[:, 0], B[:, 0], same_tasks=False)
    assert row.rliable is None


@pytest.mark.parametrize(
    ("b", "same_tasks"),
    [
        (agent(B, seed=1), True),
        (agent(B[..., :5]), True),
        (agent(B, list_tasks=False, seed=1), True),
        (agent(B, own_tasks=True), False),
    ],
    ids=["seed", "number", "seed of unlisted tasks", "own tasks"],
)
def test_other_tasks_are_not_paired(b, same_tasks):
    (found,) = compared(agent(A), b)
    assert found.design == "unpaired"
    scores = A[:, 1], b.scores(1)
    designs = (True, same_tasks)
    assert found.rows[1].difference == unpaired_difference(*scores, same_tasks=designs)
    assert found.rows[1].improvement == unpaired_improvement(*scores, same_tasks=designs)
    assert found.rows[1].rliable is None


def test_different_numbers_of_runs_with_their_own_tasks_are_not_paired():
    a, b = side(agent(A, own_tasks=True)), side(agent(B[:2], own_tasks=True))
    assert shared_design(a, b) == "unpaired"


def test_tasks_that_a_file_does_not_list_are_equal_if_their_seeds_are():
    assert shared_design(side(agent(A)), side(agent(B, list_tasks=False))) == "paired"


def test_the_whole_trial_decides_if_the_stages_are_its_episodes():
    (found,) = compared(agent(A, remembers=True), agent(B, "second", remembers=True))
    assert [row.name for row in found.rows] == ["episode 1", "episode 2", "all episodes", "gain"]
    assert found.headline == 2
    total = mean_difference(A.sum(1), B.sum(1), same_tasks=True)
    assert found.rows[2].difference[:3] == pytest.approx(total[:3])
    (mixed,) = compared(agent(A), agent(B, "second", remembers=True))
    assert [row.name for row in mixed.rows] == [
        "before / episode 1", "after 1 step / episode 2", "gain",
    ]  # fmt: skip


@pytest.mark.parametrize("exchanged", [False, True])
def test_an_agent_without_adaptation_is_compared_with_every_stage(exchanged):
    fixed = agent(B[:, :1], "fixed", adapts=False, exploration_episodes=20)
    sides = (fixed, agent(A)) if exchanged else (agent(A), fixed)
    (found,) = compared(*sides)
    assert [row.name for row in found.rows] == ["before", "after 1 step"]
    for stage, row in enumerate(found.rows):
        pair = (B[:, 0], A[:, stage]) if exchanged else (A[:, stage], B[:, 0])
        assert row.difference == mean_difference(*pair, same_tasks=True)


def test_success_is_compared_as_a_share():
    success = (A > 0, B > 0)
    found = compared(agent(A, success=success[0]), agent(B, "second", success=success[1]))
    assert [one.metric for one in found] == ["return", "success"]
    expected = mean_difference(
        success[0][:, 1].astype(float), success[1][:, 1], same_tasks=True, bounds=(-1, 1)
    )
    assert found[1].rows[1].difference == expected
    (only,) = compared(agent(A, success=success[0]), agent(B, "second"))
    assert only.metric == "return"


def test_lower_errors_are_better():
    a, b = np.full((1, 2, 5), 2.0) + RNG.random((1, 2, 5)), RNG.random((1, 2, 5))
    (found,) = compared(learner(a, metric="mse"), learner(b, "other", metric="mse"))
    assert not found.higher_is_better
    assert found.sign == -1
    row = found.rows[found.headline]
    assert row.difference.value == pytest.approx((a - b)[0, 1].mean())
    assert row.improvement.value == 0


def test_a_learner_without_steps_is_compared_with_every_number_of_steps():
    a, b = RNG.random((2, 3, 6)), RNG.random((2, 1, 6))
    (found,) = compared(learner(a), learner(b, "protonet", steps=(1,)))
    assert [row.name for row in found.rows] == ["before", "after 1 step", "after 2 steps"]
    (shared,) = compared(learner(a), learner(a[:, :2] / 2, "anil"))
    assert [row.name for row in shared.rows] == ["before", "after 1 step", "gain"]
    (both,) = compared(learner(b, "relation", steps=(1,)), learner(b / 2, "protonet", steps=(1,)))
    assert [row.name for row in both.rows] == ["no adaptation"]


def test_a_row_in_which_adaptation_diverged_is_not_compared():
    lost = RNG.random((1, 2, 4))
    lost[0, 1, 2] = math.nan
    (found,) = compared(
        learner(lost, metric="mse"), learner(RNG.random((1, 2, 4)), "b", metric="mse")
    )
    assert found.rows[0].difference is not None
    assert found.rows[1].a is None
    assert found.rows[1].b is not None
    assert found.rows[1].difference is None
    assert found.sign == 0
    assert found.to_json()["rows"][1]["improvement"] is None


CASES = {
    "single tasks": (A[..., :1], B[..., :1]),
    "single runs": (A[:1], B[:1]),
    "single scores": (A[:1, :, :1], B[:1, :, :1]),
    "identical scores": (A, A),
    "identical single runs": (A[:1], A[:1]),
    "constant scores": (np.ones_like(A), np.zeros_like(B)),
    "a constant difference": (A[:1] + 1, A[:1]),
    "equal run means": (np.tile([[0.0, 2.0], [2.0, 0.0]], (2, 1, 1)).swapaxes(0, 1),) * 2,
}


@pytest.mark.parametrize("own_tasks", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("case", CASES)
def test_no_interval_has_zero_width(case, seed, own_tasks):
    a, b = CASES[case]
    first = agent(a, success=a > 0, own_tasks=own_tasks)
    second = agent(b, "second", success=b > 0, own_tasks=own_tasks, seed=seed)
    for found in compared(first, second):
        for row in found.rows:
            for one in (row.a, row.b, row.difference, row.improvement, row.rliable):
                assert one is None or one.low < one.high
                assert one is None or one.low <= one.value <= one.high


def test_splits_are_compared_with_equal_splits():
    several = [agent(A, split=split) for split in ("test", "far")]
    others = [agent(B, "second", split=split) for split in ("far", "test", "near")]
    found = compare_all([side(one) for one in several], [side(one) for one in others])
    assert [(one.a.settings["split"], one.b.settings["split"]) for one in found] == [
        ("test", "test"), ("far", "far"),
    ]  # fmt: skip


def test_several_agents_are_compared_in_pairs_on_common_tasks():
    sides = [side(agent(A + k), f"agent {k}") for k in range(3)] + [side(agent(A, seed=1), "other")]
    found = comparisons_of(sides)
    assert [(one.a.name, one.b.name) for one in found] == [
        ("agent 0", "agent 1"), ("agent 0", "agent 2"), ("agent 1", "agent 2"),
    ]  # fmt: skip
    assert [row.name for row in found[0].rows] == ["after 1 step", "gain"]
    both = comparisons_of(sides[:2])
    assert [one.rows for one in both] == [compare_pair(*sides[:2], "return").rows]
    assert len(both[0].rows) == 3
    assert comparisons_of(sides[:1]) == comparisons_of(sides[2:]) == []


MISTAKES = [
    (agent(A), learner(A[..., :1]), "first is an agent and maml is a few-shot learner"),
    (agent(A), agent(B, "b", environment="Slope:two"), "got Slope:one for first and Slope:two for"),
    (
        learner(A),
        learner(A, "b", dataset="x"),
        "the same data set, got glyphs for maml and x for b",
    ),
    (learner(A), learner(A, "b", metric="mse"), r"accuracy \(higher is better\) for maml and mse "),
    (agent(A), agent(B, "b", exploration_episodes=2), "exploration_episodes is 1 for first and 2 "),
    (
        agent(A),
        agent(B, "b", deterministic="always"),
        "deterministic is never for first and always",
    ),
    (agent(A), agent(B, "b", task_score="last"), "task_score is mean for first and last for b"),
    (agent(A), agent(B, "b", split="far"), "split is test for first and far for b"),
    (agent(A), agent(B[:, :1], "b"), "adaptation_steps is 1 for first and 0 for b"),
    (learner(A), learner(A, "b", shots=5), "shots is 1 for maml and 5 for b"),
    (learner(A), learner(A, "b", data_rotations="drawn"), "data_rotations is classes for maml"),
]


@pytest.mark.parametrize(("a", "b", "message"), MISTAKES)
def test_evaluations_that_cannot_be_compared_are_rejected_in_one_sentence(a, b, message):
    with pytest.raises(ValueError, match=message):
        compared(a, b)


def test_the_closest_pair_explains_why_nothing_can_be_compared():
    several = [agent(A, split=split, exploration_episodes=2) for split in ("far", "test")]
    with pytest.raises(ValueError, match="exploration_episodes is 2 for first and 1 for second"):
        compare_all([side(one) for one in several], [side(agent(B, "second"))])


def test_a_metric_must_have_been_measured_for_both():
    with pytest.raises(ValueError, match="which is return for first and second, got success"):
        compared(agent(A, success=A > 0), agent(B, "second"), "success")


def test_the_stored_comparison_has_every_number():
    (found,) = compared(agent(A), agent(B[:1], "second"))
    stored = found.to_json()
    assert stored["a"]["runs"] == ["seed_0", "seed_1", "seed_2"]
    assert (stored["design"], stored["decides"]) == ("paired", "after 1 step")
    row = found.rows[1]
    for name, estimate in itertools.product(["a", "b", "difference", "improvement"], [row]):
        expected = getattr(estimate, name)
        assert stored["rows"][1][name] == expected._asdict()
