"""Few-shot runs from the command line: train on images, resume, measure, list, mistakes."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from metarl.evaluation.files import write_evaluations
from metarl.experiments.evaluate_learners import EvaluateLearnersConfig, evaluate_learners
from metarl.experiments.evaluation import evaluate
from metarl.experiments.run import train
from metarl.fewshot import (
    FewShotEvaluation,
    FewShotTraining,
    MeasuredRuns,
    evaluate_fewshot,
    make_tasks,
    recipe,
)
from metarl.fewshot.datasets.own import tensor_tasks
from metarl.fewshot.evaluation import require_testable
from metarl.fewshot.learners.catalog import LEARNERS
from metarl.report.terminal import print_table
from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import read_metrics
from metarl.scripts.cli import dispatch
from metarl.scripts.evaluate import main as evaluate_command
from metarl.scripts.faults.kills import fingerprint

PROTONET = (
    "fewshot protonet --dataset glyphs --ways 3 --train-ways 4 --filters 2 2 --queries 2 --seed 2 "
    "--device cpu --tracker none --checkpoint-every 50"
)

SINUSOID = "fewshot maml --hidden-sizes 4 --iterations 2 --device cpu --tracker none"


def metarl(line: str, out: Path) -> None:
    dispatch([*line.split(), "--out", str(out)])


@pytest.fixture(scope="module")
def protonet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 100 iterations. Tests read it only."""
    out = tmp_path_factory.mktemp("protonet") / "run"
    metarl(f"{PROTONET} --iterations 100", out)
    return out


def test_a_run_prints_accuracy_during_training_and_the_full_protocol(protonet):
    rows = read_metrics(RunDirectory.open(protonet))
    assert [row["iteration"] for row in rows] == [50, 100]
    assert all(0 < row["validation/accuracy"] < 1 for row in rows)
    config = RunDirectory.open(protonet).config()
    assert (config["agent"], config["environment"]) == ("fewshot-protonet", "glyphs")
    assert config["agent_config"]["train_ways"] == 4
    assert config["agent_config"]["batch_norm"] == "running"  # of the recipe
    assert config["protocol"]["transductive"] is False
    written = json.loads((protonet / "evaluation.json").read_text(encoding="utf-8"))
    assert [row["step"] for row in written["steps"]] == [1]
    assert written["protocol"]["num_tasks"] == 600


def test_a_run_on_images_resumes_to_the_same_bytes(protonet, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(protonet, half)
    RunDirectory(half).checkpoint_path(100).unlink()
    (half / "evaluation.json").unlink()
    metarl("fewshot protonet --resume", half)
    assert fingerprint(half)["last"] == fingerprint(protonet)["last"]
    assert fingerprint(half)["metrics"] == fingerprint(protonet)["metrics"]
    written = [json.loads((run / "evaluation.json").read_bytes()) for run in (half, protonet)]
    assert [one.pop("runs") for one in written] == [["half"], ["run"]]
    assert written[0] == written[1]


def test_measuring_a_run_prints_and_writes_the_results_of_the_function(protonet, tmp_path, capsys):
    file = tmp_path / "found.json"
    options = f"--num-tasks 20 --queries 3 --seed 7 --device cpu --json {file}"
    evaluate_command([str(protonet), *options.split()])
    checkpoint = RunDirectory.open(protonet).newest_checkpoint()
    training = FewShotTraining.load(checkpoint, "protonet", make_tasks("glyphs"))
    expected = evaluate_fewshot(training, num_tasks=20, queries=3, seed=7)
    written = json.loads(file.read_text(encoding="utf-8"))
    assert written == json.loads(
        json.dumps({**expected.to_json(), "runs": ["run"], "same_tasks": True})
    )
    (row,) = written["steps"]
    np.testing.assert_allclose(row["scores"], expected.scores[0], rtol=0, atol=5.1e-5)
    printed = capsys.readouterr().out
    mean, _, high, _ = expected.intervals()[0]
    numbers = re.findall(r"^\s+1\s+([\d.]+)\s+([\d.]+)", printed, re.MULTILINE)
    assert numbers == [(f"{100 * mean:.2f}", f"{100 * (high - mean):.2f}")]
    assert "transductive: False" in printed
    assert "batch_norm: running" in printed


def test_steps_that_diverged_are_printed_as_such(capsys):
    scores = np.array([[3.0, 5.0, 4.0], [1.0, math.inf, math.nan], [1e20, 2e20, 3e20]])
    protocol = {"ways": 1, "shots": 10, "num_tasks": 3, "split": "test"}
    found = FewShotEvaluation("maml", "sinusoid", "mse", (0, 1, 2), scores, protocol)
    print_table(Console(width=90), MeasuredRuns({"a": found}))
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["0", "4.000", "2.484"] in printed
    assert ["1", "diverged", "2", "of", "3", "tasks"] in printed
    assert ["2", "2.0e+20", "2.5e+20"] in printed


def test_a_schedule_runs_over_the_iterations_of_the_run(tmp_path):
    metarl(f"{PROTONET} --schedule linear --decay-iterations None --iterations 2", tmp_path / "run")
    config = RunDirectory.open(tmp_path / "run").config()
    assert config["agent_config"]["decay_iterations"] == 2


def test_learners_and_data_sets_are_listed(capsys):
    dispatch(["fewshot", "--list"])
    lines = capsys.readouterr().out.splitlines()
    for entry in LEARNERS:
        assert any(line.split()[:1] == [entry.name] for line in lines)
    assert any(line.split()[:1] == ["glyphs"] for line in lines)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fewshot protonet --dataset glyhps", "dataset must be one of .*; did you mean 'glyphs'"),
        (
            "fewshot protonet --dataset sinusoid",
            "learner protonet needs a classification data set, got regression",
        ),
        ("fewshot maml --dataset glyphs --train-ways 9", "train_ways must equal ways"),
        (
            "fewshot maml --dataset glyphs --batch-norm bach",
            "--batch-norm must be one of .*, got 'bach'",
        ),
        ("fewshot protonet --margin 2", "there is no option --margin"),
        ("fewshot protonet --dataset-options side", "must read name=value, got 'side'"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(tmp_path, line, message):
    with pytest.raises(ValueError, match=message) as caught:
        metarl(line, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--num-tasks 0", "num_tasks must be 1 or more, got 0"),
        ("--steps -1", "steps must be 0 or more, got -1"),
        ("--queries 0", "queries must be 1 or more, got 0"),
        ("--ways 0", "ways must be 1 or more, got 0"),
        ("--json /no/such/folder/x.json", "json must be a file in a directory that exists"),
        ("--split tets", "did you mean 'test'"),
    ],
)
def test_measuring_with_impossible_settings_is_rejected(protonet, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_command([str(protonet), *options.split()])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "fewshot maml --iterations 1 --dataset-options amplitude_range=5",
            r"option amplitude_range of sinusoid must be a list, got 5",
        ),
        (
            "fewshot maml --iterations 1 --dataset-options amplitude_range=[5,1]",
            "amplitude_range must be two numbers, the lower first",
        ),
        (
            "fewshot maml --iterations 1 --filters 8 8",
            r"filters must be left out with backbone mlp, which does not use it, got \(8, 8\)",
        ),
        (
            "fewshot maml --iterations 1 --dataset-options device=cuda",
            "dataset_options must not hold device, use --device instead",
        ),
        (
            "fewshot protonet --dataset glyphs --dataset-options shake=abc",
            "option shake of glyphs must be a number, got 'abc'",
        ),
        (
            "fewshot protonet --dataset glyphs --ways 500",
            "ways must be 100 or less: split 'validation' of glyphs",
        ),
        (
            "fewshot protonet --dataset glyphs --ways 5 --train-split train+valid",
            "--train-split must be one of train, train\\+validation, got 'train\\+valid'",
        ),
    ],
)
def test_unavailable_data_are_rejected_before_training(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        metarl(f"{line} --device cpu --tracker none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_data_set_options_at_a_resume_are_rejected(protonet):
    with pytest.raises(ValueError, match="dataset_options of the run to resume"):
        metarl("fewshot protonet --resume --dataset-options shake=0.1", protonet)


def test_a_test_that_cannot_be_sampled_is_rejected_before_training():
    """The classes of a test have fewer points than an episode needs."""
    points = torch.rand(6 * 8, 4)
    tasks = tensor_tasks(points, torch.arange(6).repeat_interleave(8), validation=1 / 3, test=1 / 3)
    config = recipe("protonet", "own", ways=2, shots=1, queries=2)
    training = FewShotTraining("protonet", tasks, config)
    with pytest.raises(ValueError, match=r"of split 'test' .* has 8 points and an episode needs"):
        require_testable(training)
    require_testable(training, 7)


def test_reptile_is_measured_with_the_number_of_test_steps_in_its_settings():
    training = FewShotTraining(
        "reptile",
        make_tasks("sinusoid"),
        recipe("reptile", "sinusoid", hidden_sizes=(4,), num_test_steps=3, decay_iterations=1),
    )
    assert evaluate_fewshot(training, num_tasks=2).steps == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "tets"}, "split must be one of .*; did you mean 'test'"),
        ({"queries": 7}, "queries of the test must be left out for sinusoid, measured on 100 even"),
        ({"queries": 0}, "queries must be 1 or more, got 0"),
        ({"shots": 0}, "shots must be 1 or more, got 0"),
        ({"ways": 5}, "ways must be left out for sinusoid, which is regression"),
    ],
)
def test_options_that_do_not_apply_to_curves_are_rejected(settings, message):
    config = recipe("maml", "sinusoid", hidden_sizes=(4,))
    training = FewShotTraining("maml", make_tasks("sinusoid"), config)
    with pytest.raises(ValueError, match=message):
        evaluate_fewshot(training, num_tasks=2, **settings)


def test_only_few_shot_runs_are_measured(tmp_path, protonet):
    with pytest.raises(ValueError, match="there is nothing at"):
        evaluate_command([str(tmp_path / "none")])
    with pytest.raises(ValueError, match="run must be given"):
        evaluate_learners(EvaluateLearnersConfig(()))
    with pytest.raises(ValueError, match="agent of the run to resume is 'fewshot-protonet'"):
        metarl("fewshot siamese --resume", protonet)


# Other ways than those of the run.


@pytest.mark.parametrize(
    "name", ["protonet", "r2d2", "matching", "relation", "siamese", "transfer"]
)
def test_learners_without_a_head_are_measured_at_any_ways(name):
    settings = recipe(name, "glyphs", filters=(2, 2), ways=3, train_ways=None)
    training = FewShotTraining(name, make_tasks("glyphs"), settings)
    own, other = (
        evaluate_fewshot(training, num_tasks=30, queries=2, ways=ways) for ways in (None, 7)
    )
    assert (own.protocol["ways"], other.protocol["ways"]) == (3, 7)
    shares = other.scores * 7 * 2  # right answers of 14
    np.testing.assert_allclose(shares, shares.round(), atol=1e-4)
    assert other.scores.mean() < own.scores.mean()


def test_ways_of_the_command_reach_the_tasks(protonet, tmp_path, capsys):
    file = tmp_path / "seven.json"
    evaluate_command([str(protonet), "--ways", "7", "--num-tasks", "5", "--json", str(file)])
    assert json.loads(file.read_text(encoding="utf-8"))["protocol"]["ways"] == 7
    assert "glyphs, protonet, 7-way 1-shot, 5 test tasks" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["maml", "anil", "boil", "cavia", "imaml", "reptile", "maml++"])
def test_learners_with_a_head_reject_other_ways(name):
    settings = recipe(name, "glyphs", filters=(2, 2), ways=3)
    training = FewShotTraining(name, make_tasks("glyphs"), settings)
    message = re.escape(
        f"ways must be 3 for this {name}, whose head has one output per class, got 7"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        evaluate_fewshot(training, num_tasks=2, num_steps=1, ways=7)
    assert evaluate_fewshot(training, num_tasks=2, num_steps=1, ways=3).protocol["ways"] == 3


def test_regression_has_no_ways():
    settings = recipe("maml", "sinusoid", hidden_sizes=(4,))
    training = FewShotTraining("maml", make_tasks("sinusoid"), settings)
    with pytest.raises(ValueError, match="ways must be left out for sinusoid, which is regression"):
        evaluate_fewshot(training, num_tasks=2, ways=2)


def test_the_file_of_a_long_evaluation_stays_small(tmp_path):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 76, (11, 600)) / 75
    facts = {"num_tasks": 600, "interval": "mean ± 1.96 s/√n over tasks"}
    evaluation = FewShotEvaluation("maml", "glyphs", "accuracy", tuple(range(11)), scores, facts)
    write_evaluations(tmp_path / "all.json", [MeasuredRuns({"run": evaluation})])
    assert (tmp_path / "all.json").stat().st_size < 60_000
    steps = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))["steps"]
    np.testing.assert_allclose([row["scores"] for row in steps], scores, rtol=0, atol=5.1e-5)


def test_a_checkpoint_is_measured_on_the_data_of_its_run(tmp_path, capsys):
    run, lines = tmp_path / "run", []
    metarl(f"{SINUSOID} --dataset-options amplitude_range=[1.0,1.01]", run)
    checkpoint = RunDirectory.open(run).checkpoint_path(2)
    for path in (run, checkpoint):
        capsys.readouterr()
        dispatch(["evaluate", str(path), "--steps", "1", "--num-tasks", "20"])
        lines.append(capsys.readouterr().out.splitlines())
    assert "data_amplitude: uniform 1 … 1.01" in lines[0]
    assert lines[0] == lines[1]


def test_training_beyond_the_end_of_the_schedule_is_rejected(tmp_path):
    metarl(f"{SINUSOID} --schedule linear", tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"iterations must be at most 2, the end of the run's linear schedule"
    ):
        metarl("fewshot maml --resume --iterations 9", tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"iterations must be at most 1, the end of the run's cosine schedule"
    ):
        metarl(f"{SINUSOID} --schedule cosine --decay-iterations 1", tmp_path / "other")


def test_curves_have_no_ways(tmp_path):
    with pytest.raises(ValueError, match="ways must be left out for sinusoid, which is regression"):
        metarl(f"{SINUSOID} --ways 3", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_last_iteration_has_a_line_of_metrics_and_may_be_the_best(tmp_path):
    metarl(SINUSOID, tmp_path / "run")
    rows = read_metrics(RunDirectory.open(tmp_path / "run"))
    assert [row["iteration"] for row in rows] == [2]
    assert RunDirectory.open(tmp_path / "run").best_checkpoint.exists()


def test_steps_are_rejected_for_a_learner_without_steps(protonet):
    with pytest.raises(ValueError, match="steps must be left out for protonet, which has no"):
        evaluate(protonet, steps=3, progress=False)
    with pytest.raises(ValueError, match="test_steps must be left out for protonet, which has no"):
        train("protonet", dataset="glyphs", out=protonet.parent / "new", test_steps=3)
