"""Sides of a comparison: evaluation files, folders of runs, lists of runs, and evaluations."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from compared_evaluations import agent, learner
from reported_runs import train

import metarl
from metarl.evaluation.files import write_evaluations
from metarl.report.compare import compare
from metarl.scripts.cli import dispatch

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 2, 8)) + 2, RNG.normal(size=(2, 2, 8))  # [runs, stages, tasks]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run, another seed, one with another setting, and two seeds, also measured one by one."""
    folder = tmp_path_factory.mktemp("runs")
    made = {
        "one": train(folder / "one"),
        "two": train(folder / "two", options="--seed 4"),
        "other": train(folder / "other", options="--gamma 0.5"),
        "seeds": train(folder / "seeds", options="--seeds 2"),
    }
    apart = folder / "apart"
    shutil.copytree(made["seeds"], apart)
    (apart / "evaluation.json").unlink()
    for seed in sorted(apart.glob("seed_*")):
        shutil.copy(made["one"] / "evaluation.json", seed)
    return {**made, "apart": apart}


def test_folders_lists_files_and_evaluations_are_sides(runs, tmp_path):
    both = [str(runs["one"]), runs["two"]]
    (found,) = compare(both, runs["other"])
    assert found.design == "paired"
    assert found.a.runs == ("one", "two")
    assert found.a.name == f"maml-trpo ({runs['one']} {runs['two']})"
    (same,) = compare(both, runs["other"] / "evaluation.json")
    assert same.rows == found.rows
    counts = {"exploration_episodes": 2, "evaluation_episodes": 2, "adaptation_steps": 1}
    file = tmp_path / "other.json"
    measured = metarl.evaluate(runs["other"], num_tasks=3, **counts, json=file, progress=False)
    (again,) = metarl.compare(metarl.Run(runs["one"]), measured)
    assert again.rows == compare(runs["one"], runs["other"])[0].rows


def test_seeds_that_were_measured_together_or_one_by_one_are_read(runs):
    (together,) = compare(runs["seeds"], runs["one"])
    assert together.a.runs == ("seed_3", "seed_4")
    (apart,) = compare(runs["apart"], runs["other"])
    assert len(apart.a.runs) == 2
    assert apart.design == "paired"


def test_equal_names_are_followed_by_their_side():
    (found,) = compare(agent(A), agent(B))
    assert (found.a.name, found.b.name) == ("first (A)", "first (B)")
    (found,) = compare(agent(A), agent(B, "second"))
    assert (found.a.name, found.b.name) == ("first", "second")


def test_few_shot_learners_are_compared(tmp_path):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, scores, name in zip(files, (A, B), ("maml", "anil"), strict=True):
        write_evaluations(file, [learner(np.abs(scores) / 10, name)])
    (found,) = compare(*files, json=tmp_path / "c.json")
    assert (found.metric, found.a.name, found.b.name) == ("accuracy", "maml", "anil")
    (stored,) = json.loads((tmp_path / "c.json").read_text())["comparisons"]
    assert stored == found.to_json()


def test_the_command_prints_tables_and_writes_a_file(tmp_path, capsys):
    for name, scores in (("first", A), ("second", B)):
        write_evaluations(tmp_path / f"{name}.json", [agent(scores, name, success=scores > 0)])
    words = ["compare", str(tmp_path / "first.json"), str(tmp_path / "second.json")]
    dispatch([*words, "--metric", "return", "--json", str(tmp_path / "out.json")])
    text = capsys.readouterr().out
    assert text.count("95 % intervals over runs and tasks") == 1
    assert "A is first (2 runs), B is second (2 runs)" in text
    assert text.endswith(f"wrote {tmp_path / 'out.json'}\n")
    dispatch(words)
    assert capsys.readouterr().out.count("95 % intervals over runs and tasks") == 2


def test_the_command_takes_several_runs_of_a_side(runs, capsys):
    dispatch(["compare", str(runs["one"]), str(runs["two"]), "vs", str(runs["other"])])
    assert "(2 runs), B is maml-trpo" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["", "a", "a b c", "a vs", "vs b", "a vs b vs c"])
def test_the_command_needs_two_sides(line):
    with pytest.raises(ValueError, match="metarl compare needs two sides, A B, or A"):
        dispatch(["compare", *line.split()])


def rejected(message, a, b, **options):
    with pytest.raises(ValueError, match=message) as error:
        compare(a, b, **options)
    assert "\n" not in str(error.value)


def test_mistakes(runs, tmp_path):
    one, two, other = runs["one"], runs["two"], runs["other"]
    rejected("A and B must differ, got .*one for both", one, one)
    rejected("A must have at least one run or evaluation, got none", [], one)
    rejected("A must not name a run twice", [one, one], other)
    rejected(
        "B must be the folder of a run or .*, got nowhere, which does not exist", one, "nowhere"
    )
    rejected(r"B must be the folder of a run or an evaluation file NAME\.json", one, one / "x.zip")
    rejected("A must be runs of one experiment, .* have different settings", [one, other], two)
    rejected("A must have runs with different seeds, got seeds 3, 3", [one, runs["apart"]], other)
    rejected(
        "metric must be one of .*, got 'retrun'; did you mean 'return'", one, two, metric="retrun"
    )
    rejected("json must be", one, two, json=tmp_path)
    rejected(
        "A must be runs of one agent or learner, got x and y", [agent(A, "x"), agent(A, "y")], one
    )
    own = [agent(A, own_tasks=True), agent(B, own_tasks=True)]
    rejected(
        "runs of A must have been measured on the same tasks to be averaged", own, agent(B, "b")
    )
    with pytest.raises(TypeError, match=r"A must be a path or an evaluation, .*, got type int"):
        compare(3, one)  # type: ignore[arg-type]


def test_a_run_without_a_current_evaluation_is_rejected(runs, tmp_path):
    new = tmp_path / "new"
    shutil.copytree(runs["one"], new)
    (new / "evaluation.json").unlink()
    rejected(
        "B must have a current evaluation, .*new has none; run metarl evaluate", runs["two"], new
    )


@pytest.mark.parametrize("content", ["[1", "[1, 2]", '{"evaluations": []}'])
def test_a_file_that_is_no_comparison_is_not_replaced(runs, tmp_path, content):
    file = tmp_path / "mine.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="json must be a new file or an earlier comparison"):
        compare(runs["one"], runs["other"], json=file)
    assert file.read_text(encoding="utf-8") == content


def test_the_evaluation_of_a_side_is_not_replaced_and_an_earlier_comparison_is(runs, tmp_path):
    own = runs["one"] / "evaluation.json"
    before = own.read_bytes()
    with pytest.raises(ValueError, match="json must be a new file or an earlier comparison"):
        compare(runs["one"], runs["other"], json=own)
    assert own.read_bytes() == before
    file = tmp_path / "comparison.json"
    compare(runs["one"], runs["other"], json=file)
    first = file.read_bytes()
    compare(runs["other"], runs["one"], json=file)
    assert file.read_bytes() != first


def test_evaluations_and_comparisons_can_be_hashed_and_compared(runs):
    (found,) = compare(runs["one"], runs["other"])
    (again,) = compare(runs["one"], runs["other"])
    assert found != again
    assert len({found, again, found.a, found.b}) == 4
