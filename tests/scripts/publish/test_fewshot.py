"""Publishing few-shot runs: copied files, errors, and the table's rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from short_runs import metarl

from metarl.fewshot import FewShotTraining, make_tasks
from metarl.report.published import published_figure
from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import read_metrics
from metarl.scripts.evaluate import main as evaluate_command
from metarl.scripts.publish.run import main, publish, table
from metarl.storage.checkpoints import read_header

PROTONET = (
    "fewshot protonet --dataset glyphs --ways 2 --train-ways 3 --filters 2 2 --queries 2 "
    "--device cpu --tracker none --iterations 50 --data-dir somewhere"
)
MAML = (
    "fewshot maml --hidden-sizes 4 --meta-batch-size 2 --num-inner-steps 2 --device cpu "
    "--tracker none --iterations 200 --test-steps 10 --seed 3"
)


@pytest.fixture(scope="module")
def protonet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with evaluations at two and three ways. Tests read it only."""
    run = tmp_path_factory.mktemp("runs") / "protonet"
    metarl(PROTONET, run)
    for ways in ("2", "3"):
        measure(run, run / f"{ways}.json", "--ways", ways)
    return run


@pytest.fixture(scope="module")
def maml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds on sinusoids, which a learner with steps adapts to. Tests read it only."""
    out = tmp_path_factory.mktemp("runs") / "seeds"
    metarl(f"{MAML} --seeds 2", out)
    return out


def measure(run: Path, file: Path, *options: str) -> None:
    line = [str(run), "--num-tasks", "20", "--json", str(file), *options]
    evaluate_command(line)


def read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def rows(out: Path, dataset: str) -> list[list[str]]:
    """The cells of the table's rows on a data set."""
    lines = [line for line in table(out).splitlines() if line.startswith(f"| {dataset}")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_run_is_published_with_several_evaluations(protonet, tmp_path):
    files = [protonet / "2.json", protonet / "3.json"]
    target = publish([protonet], files, tmp_path)
    assert target == tmp_path / "fewshot" / "glyphs" / "protonet-2way-1shot"
    assert {path.name for path in target.iterdir()} == {
        "README.md",
        "checkpoint.safetensors",
        "config.json",
        "curve.png",
        "evaluation-2way-1shot.json",
        "evaluation-3way-1shot.json",
        "metrics.jsonl",
    }
    first, second = rows(tmp_path, "glyphs")
    seconds = read_metrics(RunDirectory.open(protonet))[-1]["time/seconds"]
    stored = read(files[0])["steps"][0]["accuracy"]
    half = stored["high"] - stored["mean"]
    assert first == [
        "glyphs",
        "[protonet-2way-1shot](fewshot/glyphs/protonet-2way-1shot)",
        "2-way 1-shot, 15 queries per class",
        "20 × 1",
        f"3-way, 50 iterations, {seconds:.0f} s (cpu)",
        f"{100 * stored['mean']:.2f} ± {100 * half:.2f}",
        "class means",
        "running: averages over training batches; in training statistics of support and query "
        "together; not transductive",
        "",
    ]
    assert (second[1], second[2]) == (first[1], "3-way 1-shot, 15 queries per class")


def test_a_published_checkpoint_measures_the_same_without_its_optimizer(protonet, tmp_path):
    target = publish([protonet], [protonet / "2.json"], tmp_path)
    small = target / "checkpoint.safetensors"
    assert small.stat().st_size < RunDirectory(protonet).newest_checkpoint().stat().st_size
    measure(small, tmp_path / "again.json", "--ways", "2")
    assert read(tmp_path / "again.json")["steps"] == read(protonet / "2.json")["steps"]
    assert read_header(small)["counters"]["num_iterations"] == 50
    training = FewShotTraining.load(small, "protonet", make_tasks("glyphs"))
    assert training.num_iterations == 50


def test_published_files_do_not_name_local_data_folders(protonet, tmp_path):
    target = publish([protonet], [protonet / "2.json"], tmp_path)
    config = read(target / "config.json")
    assert config["data_dir"] is None
    (run,) = (RunDirectory.open(protonet).config(),)
    run["command"] = ["metarl", "fewshot", "--data-dir", "/a/b", "--data_dir=/c", "--ways", "2"]
    run["resumed"] = [{"iteration": 3, "command": ["metarl", "--data-dir", "/d"]}]
    copy = tmp_path / "protonet"
    shutil.copytree(protonet, copy)
    RunDirectory(copy).write_config(run)
    config = read(publish([copy], [copy / "2.json"], tmp_path) / "config.json")
    assert config["command"][2:] == ["--data-dir", "data", "--data_dir=data", "--ways", "2"]
    assert config["resumed"] == [{"iteration": 3, "command": ["metarl", "--data-dir", "data"]}]
    line = (target / "README.md").read_text(encoding="utf-8")
    assert line.startswith("`metarl fewshot --data-dir data --data_dir=data --ways 2` (commit ")


def test_seeds_become_one_row_after_one_the_trained_number_of_and_ten_steps(maml, tmp_path):
    main([str(maml), "--out", str(tmp_path)])
    assert "## Few-shot learning" in (tmp_path / "README.md").read_text(encoding="utf-8")
    target = tmp_path / "fewshot" / "sinusoid" / "maml-10shot"
    assert (target / "evaluation-10shot.json").read_bytes() == (
        maml / "evaluation.json"
    ).read_bytes()
    (cells,) = rows(tmp_path, "sinusoid")
    errors = [row["mse"] for row in read(maml / "evaluation.json")["steps"]]
    texts = [f"{e['mean']:.3f} ± {e['high'] - e['mean']:.3f}" for e in errors]
    assert cells[2:4] == ["10 points", "600 × 2"]
    seconds = read_metrics(RunDirectory.open(maml / "seed_3"))[-1]["time/seconds"]
    assert cells[4] == f"200 iterations, {round(seconds)} s (cpu)"
    assert cells[5] == (
        f"1 step: {texts[1]}<br>2 steps: {texts[2]} (as trained)<br>10 steps: {texts[10]}"
    )
    assert cells[6].startswith("gradient steps (2 in training)")
    assert cells[7] == "none; not transductive"
    assert cells[8].startswith("0.34 ± 0.03 after 1 step")
    line = (target / "README.md").read_text(encoding="utf-8")
    assert "seeds 3, 4," in line
    assert "200 iterations" in line
    found = [json.loads(text) for text in (target / "metrics.jsonl").read_text().splitlines()]
    assert found == read_metrics(RunDirectory.open(maml / "seed_3"))


def test_divergence_and_the_training_split_are_stated(protonet, maml, tmp_path):
    found = read(maml / "evaluation.json")
    first, second = found["runs"]
    diverged, large = found["steps"][10], found["steps"][1]
    diverged["mse"] = None
    diverged["scores"][first][0] = None
    for name, mean in ((first, 2e9), (second, 3e9)):
        large["scores"][name] = [mean] * len(large["scores"][name])
    file = tmp_path / "found.json"
    file.write_text(json.dumps(found), encoding="utf-8")
    publish([maml / "seed_3", maml / "seed_4"], [file], tmp_path)
    target = publish([protonet], [protonet / "2.json"], tmp_path)
    config = read(target / "config.json")
    config["agent_config"]["train_split"] = "train+validation"
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    ((_, _, _, _, trained, *_),) = rows(tmp_path, "glyphs")
    assert trained.startswith("3-way, train+validation classes, 50 iterations")
    ((_, _, _, _, _, shown, *_),) = rows(tmp_path, "sinusoid")
    assert shown.startswith("1 step: 2.5e+09 ± 6.4e+09<br>2 steps: ")  # t₁ = 12.7
    assert shown.endswith("10 steps: diverged")


def test_other_splits_than_test_have_files_and_rows_of_their_own(protonet, tmp_path):
    measure(protonet, tmp_path / "v.json", "--ways", "2", "--split", "validation")
    target = publish([protonet], [protonet / "2.json", tmp_path / "v.json"], tmp_path)
    assert (target / "evaluation-2way-1shot-validation.json").is_file()
    assert [row[0] for row in rows(tmp_path, "glyphs")] == ["glyphs", "glyphs, validation tasks"]


def test_other_queries_than_fifteen_have_files_and_rows_of_their_own(protonet, tmp_path):
    measure(protonet, tmp_path / "q.json", "--ways", "2", "--queries", "1")
    target = publish([protonet], [tmp_path / "q.json", protonet / "2.json"], tmp_path)
    assert (target / "evaluation-2way-1shot-1query.json").is_file()
    tested = [row[2] for row in rows(tmp_path, "glyphs")]
    assert tested == ["2-way 1-shot, 15 queries per class", "2-way 1-shot, 1 query per class"]


def test_results_of_agents_and_few_shot_runs_are_kept_apart(protonet, tmp_path):
    publish([protonet], [protonet / "2.json"], tmp_path)
    agents, fewshot = table(tmp_path).split("## Few-shot learning")
    assert "protonet" not in agents
    assert fewshot.count("| glyphs |") == 1
    assert "## Few-shot learning" not in table(tmp_path / "none")


def test_evaluations_of_other_runs_are_rejected_and_nothing_is_written(protonet, maml, tmp_path):
    cases = [
        ([protonet / "2.json", protonet / "2.json"], "evaluations must differ in ways, shots, q"),
        (
            [maml / "evaluation.json"],
            "must be an evaluation of fewshot-protonet, runs protonet, got",
        ),
        ([tmp_path / "no.json"], r"the runs have no evaluation .*no\.json; write it with metarl"),
        ([protonet / "config.json"], "must hold evaluations of format 3, it is damaged or older"),
    ]
    for files, message in cases:
        with pytest.raises(ValueError, match=message):
            publish([protonet], files, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_an_evaluation_of_an_earlier_checkpoint_is_rejected(protonet, tmp_path):
    run = tmp_path / "protonet"
    shutil.copytree(protonet, run)
    old = read(run / "2.json")
    old["protocol"]["iterations"] = 40
    (run / "2.json").write_text(json.dumps(old), encoding="utf-8")
    with pytest.raises(ValueError, match="after 50 iterations, got one after 40"):
        publish([run], [run / "2.json"], tmp_path / "results")


def test_runs_too_short_for_metrics_or_of_two_experiments_are_rejected(maml, tmp_path):
    short = tmp_path / "short"
    metarl(MAML.replace("200", "2"), short)
    (short / "metrics.jsonl").write_text("", encoding="utf-8")  # as in earlier versions
    with pytest.raises(ValueError, match="each run must have metrics"):
        publish([short], [], tmp_path / "results")
    other = tmp_path / "other"
    metarl(f"{MAML.replace('200', '2')} --inner-lr 0.02", other)
    with pytest.raises(ValueError, match="runs must be seeds of one agent"):
        publish([maml, other], [], tmp_path / "results")


# Figures of papers.


@pytest.mark.parametrize(
    ("dataset", "learner", "ways", "shots", "figure"),
    [
        ("omniglot", "maml", 5, 1, "98.7 ± 0.4 (Finn et al. 2017)"),
        ("omniglot-vinyals", "protonet", 20, 1, "96.0 (Snell et al. 2017, split of Vinyals)"),
        ("mini-imagenet", "imaml", 5, 1, "49.30 ± 1.88 (Rajeswaran et al. 2019)"),
        ("mini-imagenet", "imaml", 5, 5, ""),
        ("omniglot", "maml", 10, 1, ""),
        ("omniglot", "transfer", 5, 1, ""),
        ("glyphs", "maml", 5, 1, ""),
    ],
)
def test_published_figures_are_found_by_setting_with_their_source(
    dataset, learner, ways, shots, figure
):
    assert published_figure(dataset, learner, ways, shots) == figure
