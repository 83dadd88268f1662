"""The runs of a report, and their groups."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reported_runs import train
from shown_evaluations import evaluation

from metarl.evaluation.files import read_evaluations, write_evaluations
from metarl.evaluation.results import Evaluation
from metarl.report.kinds import AGENT, pool_results
from metarl.report.runs import group_runs, read_runs


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
    return group_runs(read_runs(paths, device="cpu"), AGENT)


def of_robot(name: str, **changes: str) -> Evaluation:
    """An evaluation of a run in `runs`."""
    made = evaluation(agent="maml-trpo", runs=(name,), **changes)
    return replace(made, environment="PointRobot:pearl")


def test_runs_that_differ_in_the_seed_only_are_one_agent(runs):
    groups = read(runs["one"], runs["two"])
    ((agent,),) = groups.values()
    assert list(groups) == ["PointRobot:pearl"]
    assert agent.name == "maml-trpo"
    assert [run.config["seed"] for run in agent.runs] == [3, 4]
    (pooled,) = agent.results
    assert pooled.runs == ("one", "two")
    assert pooled.measured.returns.shape == (2, 2, 3, 2)
    assert agent.measured_now == ()


@pytest.mark.parametrize("row", ['{"iteration": 1}', '{"iteration": 1, "time/env_steps": NaN}'])
def test_damaged_metrics_are_named(runs, tmp_path, row):
    damaged = tmp_path / "damaged"
    shutil.copytree(runs["one"], damaged)
    (damaged / "metrics.jsonl").write_text(f"{row}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged in line 1: .*time/env_steps"):
        read(damaged)


def test_a_directory_of_several_seeds_stands_for_all_of_them(runs):
    ((agent,),) = read(runs["seeds"]).values()
    assert [run.directory.path.name for run in agent.runs] == ["seed_3", "seed_4"]
    (measured,) = agent.results
    assert measured.runs == ("seed_3", "seed_4")


def test_agents_of_one_name_are_distinguished_by_their_settings(runs):
    ((first, second),) = read(runs["one"], runs["other"]).values()
    assert (first.name, second.name) == ("maml-trpo (gamma 0.99)", "maml-trpo (gamma 0.5)")
    assert [e.agent for e in second.results] == ["maml-trpo (gamma 0.5)"]


def test_a_run_without_an_evaluation_is_measured_as_by_metarl_evaluate(runs, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(runs["one"], bare)
    (bare / "evaluation.json").write_text(json.dumps({"steps": []}))  # of an earlier version
    ((agent,),) = read(bare).values()
    assert agent.measured_now == (str(bare),)
    assert (bare / "evaluation.json").read_text() == '{"steps": []}'  # not written
    (measured,) = agent.results
    assert measured.protocol.num_tasks == 40
    assert measured.stages[-1] == "after 3 steps"


def test_a_damaged_evaluation_is_rejected(runs, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(runs["one"], broken)
    (broken / "evaluation.json").write_text('{"evaluations": [{"format": 2}]}')
    with pytest.raises(ValueError, match=r"evaluation\.json"):
        read(broken)


def test_no_run_and_the_same_run_twice_are_rejected(runs):
    with pytest.raises(ValueError, match="run must be given: the folder of one run, or of several"):
        read()
    with pytest.raises(ValueError, match="run must not be given twice"):
        read(runs["one"], runs["one"])
    with pytest.raises(ValueError, match="run must not be given twice"):
        read(runs["seeds"], runs["seeds"] / "seed_3")


def test_links_in_a_circle_are_rejected(runs, tmp_path):
    circle = tmp_path / "circle"
    circle.symlink_to("circle")
    with pytest.raises(ValueError, match=r"run must be a directory with a config\.json"):
        read(runs["one"], circle)


def test_a_run_of_an_unknown_agent_is_rejected(runs, tmp_path):
    strange = tmp_path / "strange"
    shutil.copytree(runs["one"], strange)
    config = json.loads((strange / "config.json").read_text())
    (strange / "config.json").write_text(json.dumps({**config, "agent": "maml-trop"}))
    with pytest.raises(
        ValueError, match=r"agent of run .*strange must be one of .* did you mean 'maml-trpo'"
    ):
        read(strange)


def test_runs_are_pooled_if_tasks_and_protocol_are_the_same():
    first, second = evaluation(runs=("a",), success=True), evaluation(runs=("b",), success=True)
    (pooled,) = pool_results(AGENT, [first, second])
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
def test_runs_measured_by_other_protocols_are_not_pooled(other):
    assert len(pool_results(AGENT, [evaluation(), other])) == 2


def test_each_split_is_pooled_separately(runs, tmp_path):
    paths = []
    for name in ("one", "two"):
        path = tmp_path / name
        shutil.copytree(runs[name], path)
        made = of_robot(name)
        far = of_robot(name, split="far")
        write_evaluations(path / "evaluation.json", [made, far])
        paths.append(path)
    ((agent,),) = read(*paths).values()
    assert [(e.protocol.split, e.runs) for e in agent.results] == [
        ("test", ("one", "two")),
        ("far", ("one", "two")),
    ]


def test_evaluations_of_another_environment_or_checkpoint_are_not_used(runs, tmp_path):
    def is_measured_again(change) -> bool:
        stale = tmp_path / "stale"
        shutil.copytree(runs["one"], stale, dirs_exist_ok=True)
        (stored,) = read_evaluations(stale / "evaluation.json")
        write_evaluations(stale / "evaluation.json", [replace(stored, **change)])
        ((agent,),) = read(stale).values()
        return agent.measured_now == (str(stale),)

    assert not is_measured_again({})
    assert not is_measured_again({"iterations": ()})  # of a version that did not store it
    assert is_measured_again({"iterations": (1000,)})
    assert is_measured_again({"environment": "PointRobot:promp"})
    assert is_measured_again({"agent": "rl2"})


def test_every_evaluation_file_of_a_folder_is_read_and_none_twice(runs, tmp_path):
    path = tmp_path / "one"
    shutil.copytree(runs["one"], path)
    shutil.copy(path / "evaluation.json", path / "evaluation-again.json")
    write_evaluations(path / "evaluation-far.json", [of_robot("one", split="far")])
    write_evaluations(path / "evaluation-z.json", [evaluation()])  # of another agent
    ((agent,),) = read(path).values()
    assert [result.protocol.split for result in agent.results] == ["test", "far"]
    assert agent.measured_now == ()


def test_agents_trained_for_different_lengths_are_named_by_them(runs, tmp_path):
    longer = train(tmp_path / "longer", options="--iterations 3")
    ((short, long),) = read(runs["one"], longer).values()
    assert (short.name, long.name) == ("maml-trpo (iterations 2)", "maml-trpo (iterations 3)")


def test_a_checkpoint_is_rejected(runs):
    file = next((runs["one"] / "checkpoints").iterdir())
    with pytest.raises(
        ValueError, match=r"run must be the folder of a run, got the file .*tensors"
    ):
        read(file)


def test_repeated_or_longer_trained_seeds_form_another_group(runs, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(runs["one"], again)
    ((first, second),) = read(runs["one"], again).values()
    assert [len(agent.runs) for agent in (first, second)] == [1, 1]
    longer = train(tmp_path / "longer", options="--seed 4 --iterations 3")
    assert len(next(iter(read(runs["one"], longer).values()))) == 2
