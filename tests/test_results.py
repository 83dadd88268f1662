"""Publishing runs: what is copied, what is refused, and the table."""

import json
from pathlib import Path

import pytest

from metarl.scripts.cli import dispatch
from metarl.scripts.results import publish, table

TRAIN = (
    "train maml-trpo --env Navigation2D:maml17 --meta-batch-size 2 --num-episodes 2 "
    "--hidden-sizes 4 --device cpu --iterations 2"
)
PUBLISHED = Path(__file__).parents[1] / "results"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two evaluated seeds of one experiment."""
    folder = tmp_path_factory.mktemp("runs")
    paths = []
    for seed in (0, 1):
        path = folder / str(seed)
        dispatch([*TRAIN.split(), "--seed", str(seed), "--out", str(path)])
        evaluate = f"evaluate {path} --num-tasks 3 --episodes 2 --seed {seed} --device cpu"
        dispatch([*evaluate.split(), "--json", str(path / "evaluation.json")])
        paths.append(path)
    return paths


def test_seeds_become_one_result_and_one_row(runs, tmp_path):
    target = publish(runs, tmp_path)
    assert target == tmp_path / "Navigation2D-maml17" / "maml-trpo"
    names = {path.name for path in target.iterdir()}
    assert names == {
        "README.md",
        "checkpoint.safetensors",
        "config.json",
        "curve.png",
        "evaluation.json",
        "metrics.jsonl",
    }
    assert [e["seed"] for e in json.loads((target / "evaluation.json").read_text())] == [0, 1]
    rows = [line for line in table(tmp_path).splitlines() if line.startswith("| Navigation2D")]
    assert len(rows) == 1
    assert "| 3 × 2 |" in rows[0]


def test_runs_of_different_experiments_are_refused(runs, tmp_path):
    other = tmp_path / "other"
    dispatch([*TRAIN.split(), "--gamma", "0.9", "--out", str(other)])
    with pytest.raises(ValueError, match="runs must be seeds of one agent"):
        publish([runs[0], other], tmp_path / "results")


def test_a_run_without_an_evaluation_is_refused(tmp_path):
    path = tmp_path / "run"
    dispatch([*TRAIN.split(), "--out", str(path)])
    with pytest.raises(ValueError, match=r"has no evaluation\.json; write it with metarl evaluate"):
        publish([path], tmp_path / "results")


def test_published_commands_name_no_folder_of_the_machine_they_ran_on():
    files = list(PUBLISHED.glob("*/*/config.json"))
    assert files
    for file in files:
        config = json.loads(file.read_text(encoding="utf-8"))
        for command in [config["command"], *(r["command"] for r in config.get("resumed", ()))]:
            assert command[0] == "metarl"
            assert not any(Path(word).is_absolute() for word in command)
