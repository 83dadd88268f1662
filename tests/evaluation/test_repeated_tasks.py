"""Tasks that were sampled several times count once, unless they are the training tasks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from metarl.envs import make_family
from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.overlap import overlap_of, read_overlap, registered_overlap
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.evaluation.repeated_tasks import counted_once, distinct_tasks, task_groups
from metarl.evaluation.results import Evaluation
from metarl.report import words
from metarl.rl.players import as_agent
from metarl.statistics.intervals import mean_interval

ROWS = np.array([[2.0, 0.0], [1.0, 5.0], [2.0, 0.0], [3.0, 1.0], [1.0, 5.0], [2.0, 0.0]])


def test_rows_are_numbered_in_the_order_of_their_tasks():
    assert task_groups(ROWS[None]).tolist() == [[0, 1, 0, 2, 1, 0]]
    assert distinct_tasks(ROWS[None], task_groups(ROWS[None])).tolist() == [
        ROWS[[0, 1, 3]].tolist()
    ]


@pytest.mark.parametrize(
    "tasks",
    [ROWS[None, [0, 1, 3]], ROWS[None, :, :0], np.stack([ROWS[[0, 0, 1]], ROWS[[0, 1, 3]]])],
    ids=["all differ", "no parameters", "different numbers"],
)
def test_rows_stay_as_they_are_if_tasks_cannot_be_joined(tasks):
    assert task_groups(tasks) is None


def test_scores_of_a_task_are_averaged():
    tasks, scores = ROWS[None], np.array([[1.0, 2, 3, 4, 5, 6], [0, 0, 0, 1, 1, 3]])
    expected = [[10 / 3, 3.5, 4], [1, 0.5, 1]]
    np.testing.assert_allclose(counted_once(scores, tasks, task_groups(tasks)), expected)


def test_runs_with_their_own_tasks_are_averaged_run_by_run_and_references_over_all():
    tasks = np.array([[[1.0], [2], [1]], [[3], [3], [1]]])
    groups = task_groups(tasks)
    found = counted_once(np.array([[1.0, 2, 3], [4, 6, 7]]), tasks, groups)
    np.testing.assert_allclose(found, [[2, 2], [5, 7]])
    of_all = counted_once(np.array([[1.0, 2, 3, 4, 6, 7]]), tasks, groups)
    np.testing.assert_allclose(of_all, [[11 / 3, 2, 5]])


def measured(environment: str, num_tasks: int, *, split: str = "test", runs: int = 1) -> Evaluation:
    """Agents that act differently, without adaptation."""
    family = make_family(environment)
    agents = {}
    for run in range(runs):
        chosen = np.random.default_rng(run).uniform(-0.1, 0.1, 2)
        agents[f"run {run}"] = as_agent(lambda *_, chosen=chosen: Still(chosen))
    protocol = EvaluationProtocol(
        num_tasks=num_tasks,
        split=split,
        exploration_episodes=1,
        adaptation_steps=1,
        evaluation_episodes=1,
    )
    return evaluate(agents, family, protocol)


class Still:
    def __init__(self, action: np.ndarray) -> None:
        self.action = action

    def act(self, observations):
        return observations.new_tensor(self.action).expand(*observations.shape[:2], 2)

    def adapt(self, episodes):
        pass


@pytest.mark.parametrize("runs", [1, 2])
def test_a_list_of_20_tasks_is_counted_as_20(runs):
    evaluation = measured("SparsePointRobot:pearl", 30, runs=runs)
    assert evaluation.measured.returns.shape == (runs, 2, 30, 1)
    assert evaluation.scores(0).shape == (runs, 20)
    assert evaluation.num_tasks == 20
    assert evaluation.reference("random").shape == (1, 20)
    assert evaluation.task_parameters.shape == (20 * runs, 1)
    rows, scores = evaluation.tasks[0], evaluation.measured.returns[0, 0, :, 0]
    expected = [scores[(rows == task).all(1)].mean() for task in evaluation.task_parameters[:20]]
    np.testing.assert_allclose(evaluation.scores(0)[0], expected)
    if runs == 1:
        assert evaluation.estimate(evaluation.scores(0)) == mean_interval(
            np.array([expected]), same_tasks=True
        )
    text = evaluation.tasks_in_words
    assert text == "20 test tasks (30 were sampled, and repetitions count once)"
    assert text in words.finding(evaluation)


def test_as_many_tasks_as_there_are_stay_as_they_are():
    evaluation = measured("SparsePointRobot:pearl", 20)
    np.testing.assert_array_equal(evaluation.scores(0), evaluation.measured.returns[:, 0].mean(-1))
    assert evaluation.tasks_in_words == "20 test tasks"


def test_draws_of_the_training_tasks_all_count_and_the_table_says_so():
    evaluation = measured("CornerPoint:promp", 9)
    assert evaluation.scores(0).shape == (1, 9)
    assert evaluation.tasks_in_words == "9 test tasks (the same tasks as in training)"
    assert "9 test tasks (the same tasks as in training)" in words.finding(evaluation)
    assert "9 test tasks (the same tasks as in training)" in repr(evaluation)
    assert measured("CornerPoint:promp", 9, split="train").tasks_in_words == "9 train tasks"


@pytest.mark.parametrize(
    ("environment", "overlap"),
    [("AntDir:ldm", "some"), ("GridNavigation:varibad", "all"), ("Navigation2D:maml17", "none")],
)
def test_files_of_earlier_versions_take_the_declaration_of_the_family(environment, overlap):
    family = make_family(environment)
    assert overlap_of(family, "test") == registered_overlap(environment, "test") == overlap
    assert overlap_of(family, "train") == registered_overlap(environment, "train") == "all"
    evaluation = replace(
        measured("Navigation2D:maml17", 2), environment=environment, stored_overlap=None
    )
    assert evaluation.overlap == overlap
    assert ("training" in evaluation.tasks_in_words) == (overlap != "none")


def test_the_overlap_is_stored():
    evaluation = replace(measured("Navigation2D:maml17", 2), stored_overlap="some")
    content = evaluation.to_json()
    assert content["shared_tasks"] == "some"
    assert Evaluation.from_json(content).overlap == "some"
    with pytest.raises(ValueError, match="shared_tasks must be none, some or all, got 'few'"):
        Evaluation.from_json({**content, "shared_tasks": "few"})
    assert read_overlap(None) is None
    assert registered_overlap("NoSuchFamily:v0", "test") == "none"
