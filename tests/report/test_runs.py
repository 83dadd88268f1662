"""Which runs a report is of, and which of them are one agent."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reported_runs import train
from shown_evaluations import evaluation

from metarl.evaluation.files import read_evaluations, write_evaluations
from metarl.report.runs import group_runs, pool_runs, read_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run, another seed of it, one with another setting, and one directory of two seeds."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "one": train(folder / "one"),
        "two": train(folder / "two", options="--seed 4"),
        "other": train(folder / "other", options="--gamma 0.5"),
        "seeds": train(folder / "seeds", options="--seeds 2"),
    }


def read(*paths: Path):
    return group_runs(read_runs(paths, device="cpu"))


def test_runs_that_differ_in_the_seed_only_are_one_agent(runs):
    groups = read(runs["one"], runs["two"])
    ((agent,),) = groups.values()
    assert list(groups) == ["PointRobot:pearl"]
    assert agent.name == "maml-trpo"
    assert [run.config["seed"] for run in agent.runs] == [3, 4]
    (pooled,) = agent.evaluations
    assert pooled.runs == ("one", "two")
    assert pooled.measured.returns.shape == (2, 2, 3, 2)
    assert agent.measured_now == ()


def test_a_directory_of_several_seeds_stands_for_all_of_them(runs):
    ((agent,),) = read(runs["seeds"]).values()
    assert [run.directory.path.name for run in agent.runs] == ["seed_3", "seed_4"]
    (measured,) = agent.evaluations
    assert measured.runs == ("seed_3", "seed_4")


def test_agents_of_one_name_are_told_apart_by_their_settings(runs):
    ((first, second),) = read(runs["one"], runs["other"]).values()
    assert (first.name, second.name) == ("maml-trpo (gamma 0.99)", "maml-trpo (gamma 0.5)")
    assert [e.agent for e in second.evaluations] == ["maml-trpo (gamma 0.5)"]


def test_a_run_that_is_not_measured_is_measured_as_the_command_evaluate_does(runs, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(runs["one"], bare)
    (bare / "evaluation.json").write_text(json.dumps({"steps": []}))  # of an earlier version
    ((agent,),) = read(bare).values()
    assert agent.measured_now == (str(bare),)
    (measured,) = agent.evaluations
    assert measured.protocol.num_tasks == 40
    assert measured.stages[-1] == "after 3 steps"


def test_a_damaged_evaluation_is_refused(runs, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(runs["one"], broken)
    (broken / "evaluation.json").write_text('{"evaluations": [{"format": 2}]}')
    with pytest.raises(ValueError, match=r"evaluation\.json"):
        read(broken)


def test_no_run_and_the_same_run_twice_are_refused(runs):
    with pytest.raises(ValueError, match="run must be given: the directory of one, or of several"):
        read()
    with pytest.raises(ValueError, match="run must not be given twice"):
        read(runs["one"], runs["one"])
    with pytest.raises(ValueError, match="run must not be given twice"):
        read(runs["seeds"], runs["seeds"] / "seed_3")


def test_a_run_of_no_agent_is_refused(runs, tmp_path):
    strange = tmp_path / "strange"
    shutil.copytree(runs["one"], strange)
    config = json.loads((strange / "config.json").read_text())
    (strange / "config.json").write_text(json.dumps({**config, "agent": "fewshot-maml"}))
    with pytest.raises(ValueError, match=r"one of the agents maml-trpo, .* is of 'fewshot-maml'"):
        read(strange)


def test_runs_are_pooled_where_tasks_and_protocol_are_the_same():
    first, second = evaluation(runs=("a",), success=True), evaluation(runs=("b",), success=True)
    (pooled,) = pool_runs([first, second])
    assert pooled.runs == ("a", "b")
    np.testing.assert_array_equal(pooled.scores(1), np.repeat(first.scores(1), 2, axis=0))
    assert pooled.scores(1, "success").shape == (2, 3)
    assert set(pooled.references) == {"random", "oracle"}


@pytest.mark.parametrize(
    "other",
    [
        evaluation(split="far"),
        evaluation(agent="jumper"),
        evaluation(remembers=True),
        evaluation(tasks=[[0.0], [0.5], [2.0]]),
        evaluation(success=True),
    ],
    ids=["split", "agent", "stages", "tasks", "success"],
)
def test_what_was_measured_otherwise_stays_apart(other):
    assert len(pool_runs([evaluation(), other])) == 2


def test_each_split_is_pooled_for_itself(runs, tmp_path):
    paths = []
    for name in ("one", "two"):
        path = tmp_path / name
        shutil.copytree(runs[name], path)
        made = replace(evaluation(runs=(name,)), environment="PointRobot:pearl")
        far = replace(evaluation(runs=(name,), split="far"), environment="PointRobot:pearl")
        write_evaluations(path / "evaluation.json", [made, far])
        paths.append(path)
    ((agent,),) = read(*paths).values()
    assert [(e.protocol.split, e.runs) for e in agent.evaluations] == [
        ("test", ("one", "two")),
        ("far", ("one", "two")),
    ]


def test_an_evaluation_of_another_environment_or_time_is_not_the_run_s(runs, tmp_path):
    def measured_anew(change) -> bool:
        stale = tmp_path / "stale"
        shutil.copytree(runs["one"], stale, dirs_exist_ok=True)
        (stored,) = read_evaluations(stale / "evaluation.json")
        write_evaluations(stale / "evaluation.json", [replace(stored, **change)])
        ((agent,),) = read(stale).values()
        return agent.measured_now == (str(stale),)

    assert not measured_anew({})
    assert not measured_anew({"iterations": ()})  # of a version that did not say
    assert measured_anew({"iterations": (1000,)})
    assert measured_anew({"environment": "PointRobot:promp"})


def test_a_seed_that_comes_twice_or_was_trained_longer_is_no_other_seed(runs, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(runs["one"], again)
    ((first, second),) = read(runs["one"], again).values()
    assert [len(agent.runs) for agent in (first, second)] == [1, 1]
    longer = train(tmp_path / "longer", options="--seed 4 --iterations 3")
    assert len(next(iter(read(runs["one"], longer).values()))) == 2
