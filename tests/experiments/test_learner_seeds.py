"""Several seeds of one few-shot experiment: trained, resumed and measured as a whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from short_runs import metarl

from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import read_metrics
from metarl.scripts.cli import dispatch
from metarl.scripts.evaluate import main as evaluate_command
from metarl.scripts.faults.kills import fingerprint
from metarl.statistics.intervals import mean_interval

MAML = (
    "fewshot maml --meta-batch-size 2 --hidden-sizes 4 --shots 3 --test-steps 1 --device cpu "
    "--tracker none --checkpoint-every 100"
)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of 100 iterations. Tests read them only."""
    out = tmp_path_factory.mktemp("runs") / "seeds"
    metarl(f"{MAML} --iterations 100 --seed 2 --seeds 2", out)
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second of them, trained by itself. Tests read it only."""
    out = tmp_path_factory.mktemp("runs") / "alone"
    metarl(f"{MAML} --iterations 100 --seed 3", out)
    return out


def read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def test_several_seeds_are_trained_one_after_another_and_measured_together(seeds, alone):
    assert {path.name for path in seeds.iterdir()} == {
        ".lock", "seeds.json", "seed_2", "seed_3", "evaluation.json",
    }  # fmt: skip
    for part in ("last", "best", "metrics"):
        assert fingerprint(seeds / "seed_3")[part] == fingerprint(alone)[part]
    written = read(seeds / "evaluation.json")
    assert written["runs"] == ["seed_2", "seed_3"]
    assert written["protocol"]["seed"] == 2
    assert [row["step"] for row in written["steps"]] == [0, 1]
    for row in written["steps"]:
        scores = np.array([row["scores"]["seed_2"], row["scores"]["seed_3"]])
        assert scores.shape == (2, 600)
        expected = mean_interval(scores, same_tasks=True)[:3]
        assert list(row["mse"].values()) == pytest.approx(expected, abs=1e-4)  # scores are rounded


def test_a_directory_of_seeds_and_its_runs_by_name_are_one_evaluation(seeds, tmp_path, capsys):
    runs = [str(seeds / name) for name in ("seed_2", "seed_3")]
    options = ["--num-tasks", "20", "--steps", "1", "--device", "cpu", "--json"]
    for k, words in enumerate(([str(seeds)], runs)):
        dispatch(["evaluate", *words, *options, str(tmp_path / f"{k}.json")])
    assert (tmp_path / "0.json").read_bytes() == (tmp_path / "1.json").read_bytes()
    row = read(tmp_path / "0.json")["steps"][1]
    printed = capsys.readouterr().out
    assert "interval: 95 % over 2 runs, each with its own 20 tasks" in printed
    assert "20 test tasks × 2 runs" in printed
    means = [np.mean(scores) for scores in row["scores"].values()]
    assert f"{means[0]:.3f}  {means[1]:.3f}" in printed
    dispatch(["evaluate", runs[1], *options, str(tmp_path / "one.json")])
    dispatch(["evaluate", *runs, "--paired", *options, str(tmp_path / "paired.json")])
    paired = read(tmp_path / "paired.json")["steps"][1]["scores"]
    assert paired["seed_2"] == row["scores"]["seed_2"]
    assert read(tmp_path / "one.json")["steps"][1]["scores"] == paired["seed_3"]
    assert paired["seed_3"] != row["scores"]["seed_3"]
    assert "each run" not in capsys.readouterr().out.partition("\nwrote")[0]


def test_runs_of_two_experiments_or_named_twice_are_not_one_evaluation(seeds, tmp_path):
    other, one = tmp_path / "other", str(seeds / "seed_2")
    metarl(f"{MAML} --iterations 1", other)
    with pytest.raises(ValueError, match=r"iterations is \d+ in \S+seed_2 and 1 in \S+other;"):
        evaluate_command([one, str(other), "--num-tasks", "2"])
    metarl(f"{MAML} --iterations 1 --differentiation recurrence --seed 5", tmp_path / "first")
    with pytest.raises(ValueError, match=r"differentiation is 'unrolled' in .* and 'recurrence'"):
        evaluate_command([str(other), str(tmp_path / "first"), "--num-tasks", "2"])
    shutil.copytree(other, tmp_path / "copy")
    with pytest.raises(ValueError, match=r"targets must have different seeds, .* got seeds"):
        evaluate_command([str(other), str(tmp_path / "copy"), "--num-tasks", "2"])
    with pytest.raises(ValueError, match="runs must differ, got"):
        evaluate_command([one, one, "--num-tasks", "2"])


def test_several_seeds_are_resumed_as_a_whole(seeds, tmp_path):
    out = tmp_path / "seeds"
    shutil.copytree(seeds, out)
    shutil.rmtree(out / "seed_3")  # not started
    RunDirectory(out / "seed_2").checkpoint_path(100).unlink()  # not finished
    (out / "evaluation.json").unlink()
    metarl("fewshot maml --resume", out)
    for seed in ("seed_2", "seed_3"):
        assert fingerprint(out / seed)["last"] == fingerprint(seeds / seed)["last"]
    assert (out / "evaluation.json").read_bytes() == (seeds / "evaluation.json").read_bytes()


def test_options_of_a_resume_apply_to_all_seeds_and_are_stored(seeds, tmp_path):
    out = tmp_path / "seeds"
    shutil.copytree(seeds, out)
    metarl("fewshot maml --resume --iterations 110 --test-steps 2 --log-every 5", out)
    for seed in (2, 3):
        run = RunDirectory.open(out / f"seed_{seed}")
        assert run.newest_checkpoint() == run.checkpoint_path(110)
        assert (run.config()["iterations"], run.config()["test_steps"]) == (110, 2)
        assert [row["iteration"] for row in read_metrics(run)] == [100, 105, 110]
    described = read(out / "seeds.json")
    assert (described["seeds"], described["iterations"]) == (2, 110)
    assert len(read(out / "evaluation.json")["steps"]) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--seeds 4", "seeds of the run to resume is 2, got 4"),
        ("--seed 4", "seed of the run to resume is 2, got 4"),
        ("--shots 4", "shots of the run to resume is 3, got 4"),
    ],
)
def test_several_seeds_keep_their_settings(seeds, options, message):
    with pytest.raises(ValueError, match=message):
        metarl(f"fewshot maml --resume {options}", seeds)


def test_several_seeds_in_a_run_of_one_are_rejected(alone):
    with pytest.raises(ValueError, match=r"must have several seeds, but there is no .*seeds\.json"):
        metarl("fewshot maml --resume --seeds 2", alone)


def test_a_mistake_in_several_seeds_leaves_nothing_behind(tmp_path):
    with pytest.raises(
        ValueError, match="learner protonet needs a classification data set, got regression"
    ):
        metarl("fewshot protonet --dataset sinusoid --seeds 2", tmp_path / "out")
    with pytest.raises(ValueError, match="seeds must be 1 or more, got 0"):
        metarl("fewshot maml --seeds 0", tmp_path / "out")
    assert not (tmp_path / "out").exists()
