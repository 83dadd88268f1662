"""Publishing runs: copied files, errors, and the table."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from metarl.evaluation.files import read_evaluations, write_evaluations
from metarl.report.numbers import interval_text
from metarl.scripts.cli import dispatch
from metarl.scripts.publish.folder import _command
from metarl.scripts.publish.run import main, publish, table

TRAIN = (
    "train maml-trpo --env Navigation2D:maml17 --meta-batch-size 2 --num-episodes 2 "
    "--hidden-sizes 4 --device cpu --iterations 2 --tracker none"
)
PUBLISHED = Path(__file__).parents[3] / "results"


EVALUATE = "--num-tasks 3 --exploration-episodes 2 --evaluation-episodes 2 --device cpu"


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Two seeds of one experiment, measured together."""
    path = tmp_path_factory.mktemp("runs") / "seeds"
    dispatch([*TRAIN.split(), "--seeds", "2", "--out", str(path)])
    dispatch(["evaluate", str(path), *EVALUATE.split(), "--adaptation-steps", "2"])
    return path


def test_seeds_become_one_result_and_one_row(seeds, tmp_path):
    target = publish([seeds], [seeds / "evaluation.json"], tmp_path)
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
    (evaluation,) = read_evaluations(target / "evaluation.json")
    assert evaluation.runs == ("seed_0", "seed_1")
    (row,) = [line for line in table(tmp_path).splitlines() if line.startswith("| Navigation2D")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:3] == ["[maml-trpo](Navigation2D-maml17/maml-trpo)", "3 × 2"]
    stages = cells[4].split("<br>")
    assert len(stages) == 3
    for k, shown in enumerate(stages):
        value, interval = interval_text(evaluation.estimate(evaluation.scores(k)))
        assert shown == f"{evaluation.stages[k]} {value} [{interval}]"
    each = [float(mean.replace("−", "-")) for mean in cells[5].split(", ")]
    assert each == pytest.approx(evaluation.scores(2).mean(-1), abs=0.51)
    for cell, name in ((cells[3], "random"), (cells[6], "oracle")):
        mean = evaluation.reference(name).mean()
        assert float(cell.split()[0].replace("−", "-")) == pytest.approx(mean, abs=0.51)


def test_runs_given_one_by_one_need_the_file_of_their_evaluation(seeds, tmp_path):
    runs = [str(seeds / name) for name in ("seed_0", "seed_1")]
    file = tmp_path / "both.json"
    with pytest.raises(ValueError, match=r"the runs have no evaluation .*; write it with"):
        main([*runs, "--out", str(tmp_path)])
    dispatch(["evaluate", *runs, *EVALUATE.split(), "--json", str(file)])
    main([*runs, "--evaluation", str(file), "--out", str(tmp_path)])
    assert "| 3 × 2 |" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_an_evaluation_of_other_runs_is_rejected(seeds, tmp_path):
    message = "must be an evaluation of maml-trpo, runs seed_0, got maml-trpo, runs seed_0, seed_1"
    with pytest.raises(ValueError, match=message):
        publish([seeds / "seed_0"], [seeds / "evaluation.json"], tmp_path)


def test_other_splits_than_test_are_rows_of_their_own(seeds, tmp_path):
    target = publish([seeds], [seeds / "evaluation.json"], tmp_path)
    dispatch(["evaluate", str(seeds), *EVALUATE.split(), "--split", "train", "--json",
              str(target / "evaluation.json")])  # fmt: skip
    assert "| Navigation2D:maml17, train tasks |" in table(tmp_path)


def test_runs_of_different_experiments_are_rejected(seeds, tmp_path):
    other = tmp_path / "other"
    dispatch([*TRAIN.split(), "--gamma", "0.9", "--out", str(other)])
    with pytest.raises(ValueError, match="runs must be seeds of one agent"):
        publish([seeds, other], [], tmp_path / "results")


def test_a_run_that_was_not_measured_is_rejected(seeds, tmp_path):
    with pytest.raises(ValueError, match=r"seed_0/evaluation\.json; write it with metarl evaluate"):
        publish([seeds / "seed_0"], [], tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_result_can_have_a_custom_name(seeds, tmp_path):
    first = publish([seeds], [], tmp_path)
    other = publish([seeds], [], tmp_path, name="maml-trpo-again")
    assert (first.parent, other.name) == (other.parent, "maml-trpo-again")
    assert len([line for line in table(tmp_path).splitlines() if "| Navigation2D" in line]) == 2
    with pytest.raises(ValueError, match="name must be the name of one folder, got 'a/b'"):
        main([str(seeds), "--name", "a/b", "--out", str(tmp_path)])


def test_a_result_may_be_published_again_from_its_own_evaluation(seeds, tmp_path):
    target = publish([seeds], [], tmp_path)
    written = (target / "evaluation.json").read_bytes()
    assert publish([seeds], [target / "evaluation.json"], tmp_path) == target
    assert (target / "evaluation.json").read_bytes() == written


def test_agents_have_one_evaluation(seeds, tmp_path):
    file = seeds / "evaluation.json"
    with pytest.raises(ValueError, match="evaluation must be one file for agents, got 2"):
        publish([seeds], [file, file], tmp_path)


def test_the_published_table_equals_the_scripts_output():
    assert (PUBLISHED / "README.md").read_text(encoding="utf-8") == table(PUBLISHED)


def test_bandits_with_published_regrets_show_the_regret():
    (row,) = [line for line in table(PUBLISHED).splitlines() if "DependentBandit:hard" in line]
    (stored,) = read_evaluations(PUBLISHED / "DependentBandit-hard" / "rl2" / "evaluation.json")
    regret = float(stored.references["oracle"].returns.mean() - stored.measured.returns.mean())
    assert f"<br>regret {regret:.2f} [" in row
    assert "regret" not in table(PUBLISHED).splitlines()[20]  # another family


def test_the_command_of_a_published_run_names_options_as_this_version_does(seeds, tmp_path):
    target = publish([seeds], [seeds / "evaluation.json"], tmp_path)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    config["command"] = [*config["command"], "--action-scale", "2"]
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    main(["--out", str(tmp_path)])
    text = (target / "README.md").read_text(encoding="utf-8")
    assert "--action-divisor 2`" in text
    assert "--action-scale" not in text
    assert "minutes of wall time for one seed" in text


def test_the_command_of_a_run_with_an_inner_objective_names_its_estimator():
    words = ["x", "train", "maml-trpo", "--inner-objective", "likelihood_ratio", "--seed", "1"]
    config = {"agent": "maml-trpo", "command": words}
    assert _command(config) == "metarl train maml-trpo --estimator lvc --seed 1"


def test_published_commands_do_not_name_local_folders():
    files = [*PUBLISHED.glob("*/*/config.json"), *PUBLISHED.glob("fewshot/*/*/config.json")]
    assert files
    for file in files:
        config = json.loads(file.read_text(encoding="utf-8"))
        for command in [config["command"], *(r["command"] for r in config.get("resumed", ()))]:
            assert command[0] == "metarl"
            assert not any(Path(word).is_absolute() for word in command)
        assert config.get("data_dir") is None


def test_outdated_evaluations_and_other_environments_are_rejected(seeds, tmp_path):
    (stored,) = read_evaluations(seeds / "evaluation.json")
    file = tmp_path / "stale.json"
    for change, message in (
        ({"iterations": (1, 1)}, "must be an evaluation after 2 iterations, got 1, 1"),
        (
            {"environment": "PointRobot:pearl"},
            "must be an evaluation in Navigation2D:maml17, got PointR",
        ),
    ):
        write_evaluations(file, [replace(stored, **change)])
        with pytest.raises(ValueError, match=message):
            publish([seeds], [file], tmp_path / "results")


def test_the_same_seed_twice_is_rejected(seeds, tmp_path):
    shutil.copytree(seeds / "seed_0", tmp_path / "again")
    with pytest.raises(ValueError, match="runs must have distinct seeds, got 0, 0"):
        publish([seeds / "seed_0", tmp_path / "again"], [], tmp_path / "results")


def test_a_result_is_kept_if_the_new_one_fails(seeds, tmp_path):
    target = publish([seeds], [], tmp_path / "results")
    before = sorted(path.name for path in target.iterdir())
    broken = tmp_path / "seeds"
    shutil.copytree(seeds, broken)
    for path in (broken / "seed_0" / "checkpoints").iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="there is no earlier intact checkpoint"):
        publish([broken], [], tmp_path / "results")
    assert sorted(path.name for path in target.iterdir()) == before
