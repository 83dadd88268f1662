"""The report of few-shot runs: reading, pooling and measuring runs, and the content of the page."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from html_reader import Reader

from metarl.evaluation.fewshot_results import FewShotResult
from metarl.experiments.evaluate_learners import EvaluateLearnersConfig, evaluate_learners
from metarl.fewshot import FewShotEvaluation, MeasuredRuns
from metarl.plots.fewshot import steps_figure
from metarl.report.fewshot_figures import result_labels
from metarl.report.kinds import LEARNER
from metarl.report.numbers import score_text
from metarl.report.published import published_figure
from metarl.report.runs import group_runs, read_runs
from metarl.runs.directory import RunDirectory
from metarl.scripts.cli import dispatch
from metarl.statistics.numbers import fixed_text

SINUSOID = "fewshot maml --hidden-sizes 4 --iterations 2 --log-every 1 --device cpu --tracker none"
REPTILE = SINUSOID.replace("maml", "reptile")
PROTONET = (
    "fewshot protonet --dataset glyphs --ways 3 --train-ways 4 --filters 2 2 --queries 2 --seed 2 "
    "--iterations 2 --log-every 1 --device cpu --tracker none"
)


class Runs(NamedTuple):
    """Runs of two iterations. Tests read them only."""

    maml: Path
    seeds: Path
    """Two more seeds of it."""
    reptile: Path
    protonet: Path


def train(line: str, out: Path) -> Path:
    dispatch([*line.split(), "--out", str(out)])
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("fewshot")
    return Runs(
        train(SINUSOID, folder / "maml"),
        train(f"{SINUSOID} --seed 1 --seeds 2", folder / "seeds"),
        train(f"{REPTILE} --test-steps 12", folder / "reptile"),
        train(PROTONET, folder / "protonet"),
    )


@pytest.fixture(scope="module")
def content(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page about all of them."""
    return report(*runs, out=tmp_path_factory.mktemp("page") / "report.html")


def report(*paths: Path, out: Path) -> str:
    dispatch(["report", *map(str, paths), "--out", str(out), "--device", "cpu"])
    return out.read_text(encoding="utf-8")


def text_of(content: str) -> str:
    return " ".join(" ".join(Reader(content).text).split())


def stored(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "evaluation.json").read_text(encoding="utf-8"))
    return found


def read(*paths: Path):
    return group_runs(read_runs(paths, device="cpu"), LEARNER)


def copied(path: Path, to: Path, **changes: Any) -> Path:
    """A copy of a run whose evaluation.json differs."""
    shutil.copytree(path, to)
    (to / "evaluation.json").write_text(json.dumps({**stored(to), **changes}), encoding="utf-8")
    return to


def made(
    scores: Any, *, metric: Any = "mse", runs: tuple[str, ...] = ("a",), **protocol: Any
) -> FewShotResult:
    """A result of steps 0 … from scores [steps, tasks], the same for every run."""
    facts = {
        "num_tasks": 3, "split": "test", "ways": 5, "shots": 1, "query": "15 per class", "seed": 0,
        "interval": "± of one run", **protocol,
    }  # fmt: skip
    rows = np.asarray(scores, dtype=np.float64)
    one = FewShotEvaluation("maml", "glyphs", metric, tuple(range(len(rows))), rows, facts)
    measured = MeasuredRuns(dict.fromkeys(runs, one))
    return FewShotResult("maml", measured)


def test_scores_after_every_number_of_steps_equal_the_evaluation(runs, content):
    text = text_of(content)
    for path, metric, scale, digits in (
        (runs.maml, "mse", 1, 3),
        (runs.seeds, "mse", 1, 3),
        (runs.reptile, "mse", 1, 3),
        (runs.protonet, "accuracy", 100, 2),
    ):
        for row in stored(path)["steps"]:
            mean, high = (row[metric][key] for key in ("mean", "high"))
            half = fixed_text(scale * (high - mean), digits)
            assert f"{fixed_text(scale * mean, digits)} ± {half}" in text
    assert "accuracy, %" in text
    assert "After each number of adaptation steps: mean squared error" in text


def test_ways_shots_tasks_runs_and_batch_norm_are_next_to_the_score(runs, content):
    protocol = stored(runs.protonet)["protocol"]
    text = text_of(content)
    assert "protonet 3-way 1-shot, test 15 per class 600 × 1 none" in text
    assert f"{protocol['batch_norm']} no" in text  # not transductive
    assert "10 points, test 100 even points over the inputs 600 × 2 1, as trained" in text
    published = published_figure("sinusoid", "maml", 1, 10)
    assert published
    assert published in text


def test_the_whole_protocol_is_shown(runs, content):
    text = text_of(content)
    for path in (runs.maml, runs.seeds, runs.reptile, runs.protonet):
        for name, fact in stored(path)["protocol"].items():
            assert name in text
            assert str(fact) in text
    for path in (runs.maml, runs.protonet):
        for fact in json.loads((path / "config.json").read_text())["protocol"].values():
            assert str(fact) in text


def test_a_fact_of_training_that_the_evaluation_omits_is_shown(runs, tmp_path):
    path = copied(runs.protonet, tmp_path / "other")
    config = json.loads((path / "config.json").read_text())
    config["protocol"]["split"] = "as it was then"
    (path / "config.json").write_text(json.dumps(config))
    assert "training: split as it was then" in text_of(report(path, out=tmp_path / "page.html"))


def test_runs_commands_versions_and_settings_are_shown(runs, content):
    text = text_of(content)
    for path in (runs.maml, runs.seeds / "seed_1", runs.seeds / "seed_2", runs.protonet):
        config = json.loads((path / "config.json").read_text())
        assert str(path) in text
        assert str(config["agent_config"]["filters"]) in text
        for name in (*config["agent_config"], "threads", "test_steps", "dataset_options"):
            assert name in text
        assert f"torch {config['versions']['torch']}" in text
        assert " ".join([*map(shlex.quote, config["command"])]) in text
    assert "Trained with python" in text


def test_the_page_has_the_frame_of_all_reports(content):
    read = Reader(content)
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    links = {link["href"] for link in read.all("a")}
    names = {tag["id"] for kind in ("h2", "main") for tag in read.all(kind)}
    assert links == {f"#{name}" for name in names}
    assert "few-shot-runs" in names
    assert "Training of 5 few-shot runs, and scores on test tasks" in text_of(content)


def test_every_image_describes_its_numbers(content):
    texts = [str(image["alt"]) for image in Reader(content).all("img")]
    assert [re.match(r"Line chart of (.*?)(?:,| by)", text)[1] for text in texts] == [
        "mean squared error on training tasks",
        "the mean squared error",
        "accuracy on validation tasks",
    ]
    assert "maml, seed 0: from " in texts[0]
    assert re.search(r"reptile: from [\d.]+ to [\d.]+ after 2 iterations", texts[0])
    assert re.search(r"reptile: 0: .*; 10: [\d.]+ ± [\d.]+; 12: ", texts[1])
    assert re.search(r"seed 2: from [\d.]+ to [\d.]+ after 2 iterations", texts[2])


def test_several_seeds_are_pooled_as_in_metarl_evaluate(runs):
    ((learner,),) = read(runs.seeds).values()
    (result,) = learner.results
    measured = evaluate_learners(
        EvaluateLearnersConfig(runs=(runs.seeds,), seed=1, paired=True, device="cpu")
    )
    assert (learner.name, learner.measured_now) == ("maml", ())
    assert result.measured.runs == ("seed_1", "seed_2")
    assert result.protocol == measured.protocol
    for found, exact in zip(result.intervals, measured.intervals(), strict=True):
        assert found[:3] == pytest.approx(exact[:3], abs=5e-5)  # from rounded scores
    np.testing.assert_allclose(result.measured.scores, measured.scores, rtol=0, atol=5.1e-5)


def test_runs_of_other_directories_are_pooled_if_tasks_are_the_same(runs):
    singles = [runs.seeds / "seed_1", runs.seeds / "seed_2"]  # without evaluation.json
    ((learner,),) = read(*singles).values()
    (result,) = learner.results
    measured = evaluate_learners(
        EvaluateLearnersConfig(runs=(runs.seeds,), paired=True, device="cpu")
    )
    assert learner.measured_now == tuple(map(str, singles))
    assert result.measured.runs == ("seed_1", "seed_2")
    assert result.intervals == tuple(measured.intervals())
    assert "over 2 runs and 600 tasks, the same for all runs" in result.protocol["interval"]


def test_seeds_that_were_tested_on_other_tasks_stay_apart(runs, content):
    ((learner,),) = read(runs.maml, runs.seeds).values()
    assert len(learner.runs) == 3
    assert list(result_labels(learner.results)) == ["maml, maml", "maml, seed_1 and seed_2"]
    assert "Results are not all on the same tasks, see below." in text_of(content)


def test_a_name_that_two_runs_share_is_numbered(runs, tmp_path):
    (tmp_path / "there").mkdir()
    again = copied(runs.maml, tmp_path / "there" / "maml")
    config = json.loads((again / "config.json").read_text())
    (again / "config.json").write_text(json.dumps({**config, "seed": 7}))
    ((learner,),) = read(runs.maml, again).values()
    assert learner.results[0].measured.runs == ("maml", "maml (2)")


def test_learners_of_one_name_are_distinguished_by_their_settings(runs, tmp_path):
    other = train(f"{SINUSOID} --inner-lr 0.5", tmp_path / "other")
    ((first, second),) = read(runs.maml, other).values()
    assert (first.name, second.name) == ("maml (inner_lr 0.01)", "maml (inner_lr 0.5)")
    assert [result.name for result in second.results] == ["maml (inner_lr 0.5)"]
    longer = train(f"{SINUSOID} --iterations 3 --seed 4", tmp_path / "longer")
    names = [learner.name for learner in next(iter(read(runs.maml, longer).values()))]
    assert names == ["maml (iterations 2)", "maml (iterations 3)"]


def test_a_run_without_an_evaluation_is_measured_with_a_note(runs, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(runs.protonet, bare)
    (bare / "evaluation.json").unlink()
    text = text_of(report(bare, out=tmp_path / "report.html"))
    assert f"Evaluated for this report, with the defaults of metarl evaluate: {bare}." in text
    measured = evaluate_learners(EvaluateLearnersConfig(runs=(bare,), device="cpu"))
    mean, _, high, _ = measured.intervals()[0]
    assert f"{100 * mean:.2f} ± {100 * (high - mean):.2f}" in text


@pytest.mark.parametrize(
    "change",
    [
        {"learner": "fomaml"},
        {"dataset": "harmonic"},
        {"protocol": {"iterations": 1}},
        {"protocol": {"transductive": None}},  # an earlier version did not store it
        {"runs": None},
    ],
    ids=["learner", "dataset", "length", "earlier", "much earlier"],
)
def test_evaluations_of_other_or_earlier_runs_are_not_used(runs, tmp_path, change):
    content = {**stored(runs.maml), **change}
    if "protocol" in change:
        content["protocol"] = {**stored(runs.maml)["protocol"], **change["protocol"]}
    content["protocol"] = {k: v for k, v in content["protocol"].items() if v is not None}
    path = tmp_path / "stale"
    shutil.copytree(runs.maml, path)
    kept = {key: value for key, value in content.items() if value is not None}
    (path / "evaluation.json").write_text(json.dumps(kept))
    ((learner,),) = read(path).values()
    assert learner.measured_now == (str(path),)
    ((facts,),) = read(copied(runs.maml, tmp_path / "same")).values()
    assert facts.measured_now == ()


def test_all_evaluations_in_a_folder_are_read_once_the_test_split_first(runs, tmp_path):
    path = copied(runs.protonet, tmp_path / "run")
    options = "--ways 5 --num-tasks 20 --device cpu --json"
    dispatch(["evaluate", str(path), *options.split(), str(path / "evaluation-5way.json")])
    options = "--split validation --num-tasks 20 --device cpu --json"
    dispatch(["evaluate", str(path), *options.split(), str(path / "evaluation-b.json")])
    shutil.copy(path / "evaluation.json", path / "evaluation-again.json")
    ((learner,),) = read(path).values()
    tests = [(one.protocol["split"], one.protocol["ways"]) for one in learner.results]
    assert tests == [("test", 3), ("test", 5), ("validation", 3)]
    assert list(result_labels(learner.results)) == [
        "protonet, 3-way 1-shot, test tasks",
        "protonet, 5-way 1-shot",
        "protonet, 3-way 1-shot, validation tasks",
    ]
    text = text_of(report(path, out=tmp_path / "report.html"))
    assert "5-way 1-shot, test 15 per class 20 × 1" in text


def test_a_published_run_stands_for_all_its_seeds(runs, tmp_path):
    target = tmp_path / "published"
    target.mkdir()
    for name in ("config.json", "metrics.jsonl"):
        shutil.copy(runs.seeds / "seed_1" / name, target / name)
    checkpoint = RunDirectory.open(runs.seeds / "seed_1").newest_checkpoint()
    shutil.copy(checkpoint, target / "checkpoint.safetensors")
    shutil.copy(runs.seeds / "evaluation.json", target / "evaluation-10shot.json")
    ((learner,),) = read(target).values()
    assert (len(learner.runs), learner.measured_now) == (1, ())
    assert learner.results[0].measured.runs == ("seed_1", "seed_2")


def test_runs_of_agents_and_few_shot_runs_are_two_parts_of_one_page(runs, reported, tmp_path):
    content = report(runs.protonet, reported.robot, out=tmp_path / "report.html")
    text = text_of(content)
    assert "maml-trpo on PointRobot:pearl; protonet on glyphs" in text
    assert "Training of one run, and adaptation to tasks" in text
    assert "Training of one few-shot run, and scores on test tasks" in text
    heads = [tag["id"] for tag in Reader(content).all("h2")]
    assert heads == ["runs", "pointrobot-pearl", "few-shot-runs", "glyphs"]


def test_the_same_run_twice_is_rejected(runs, tmp_path):
    with pytest.raises(ValueError, match="run must not be given twice"):
        report(runs.seeds, runs.seeds / "seed_1", out=tmp_path / "report.html")


def test_a_run_of_an_unknown_learner_is_rejected_with_the_nearest(runs, tmp_path):
    strange = copied(runs.maml, tmp_path / "strange")
    config = json.loads((strange / "config.json").read_text())
    (strange / "config.json").write_text(json.dumps({**config, "agent": "fewshot-mamll"}))
    sentence = r"learner of run .*strange must be one of maml, .* did you mean 'maml'\?"
    with pytest.raises(ValueError, match=sentence):
        report(strange, out=tmp_path / "report.html")


@pytest.mark.parametrize(
    "change",
    [
        {"steps": []},
        {"steps": [{"step": 0, "mse": {"mean": 1}, "scores": {"other": [1, 2]}}]},
        {"steps": [{"step": 0, "mse": None, "scores": 3}]},
        {"runs": []},
        {"runs": ["a", "b"]},
        {"protocol": "none"},
    ],
    ids=["empty", "no run", "scores", "no runs", "runs", "protocol"],
)
def test_a_damaged_evaluation_is_rejected(runs, tmp_path, change):
    broken = copied(runs.maml, tmp_path / "broken", **change)
    sentence = r"evaluation\.json must hold an evaluation of few-shot runs, it is damaged; measure"
    with pytest.raises(ValueError, match=sentence) as caught:
        report(broken, out=tmp_path / "report.html")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_diverged_steps_are_shown_as_such(runs, tmp_path):
    content = stored(runs.maml)
    content["steps"][-1] |= {"mse": None}
    content["steps"][-1]["scores"][:2] = [None, None]
    path = copied(runs.maml, tmp_path / "run", steps=content["steps"])
    read = Reader(report(path, out=tmp_path / "report.html"))
    assert "10 diverged 2 of 600 tasks" in " ".join(" ".join(read.text).split())
    assert "lines leave the figure if errors diverge" in " ".join(read.text)
    assert any("10: diverged on 2 of 600 tasks" in str(image["alt"]) for image in read.all("img"))


def test_the_figure_of_steps_shows_the_means_of_all_learners():
    stepping = made([[0.2, 0.2, 0.2], [0.6, 0.7, 0.8]], metric="accuracy")
    level = made([[0.1, 0.5, 0.9]], metric="accuracy")
    first = replace(level.measured.first, steps=(1,))  # without inner steps
    level = replace(level, measured=MeasuredRuns({"a": first}))
    (axes,) = steps_figure({"maml": stepping, "protonet": level}, "title").axes
    line, flat = axes.get_lines()
    np.testing.assert_allclose(line.get_xydata(), [[0, 20], [1, 70]])
    np.testing.assert_allclose(flat.get_ydata(), [50, 50])
    assert (axes.get_yscale(), axes.get_ylabel()) == ("linear", "accuracy, %")


def test_diverging_errors_leave_the_figure():
    result = made([[4.0, 4.0, 4.0], [1.0, 1.0, 1.0], [1e9, 1e9, 1e9], [np.nan, 1.0, 1.0]])
    (axes,) = steps_figure({"maml": result}, "title").axes
    assert axes.get_yscale() == "log"
    assert axes.get_ylim() == (0.5, 40.0)
    assert score_text(result, 3) == ("diverged", "1 of 3 tasks")
    assert score_text(result, 1) == ("1.000", "± —")
