"""The command `metarl fewshot`: complete runs, settings of a resume, runs of earlier versions."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import save
from short_runs import SINUSOID, metarl

from metarl.runs.directory import RunDirectory
from metarl.scripts.faults.kills import fingerprint
from metarl.storage.checkpoints import load_checkpoint, save_checkpoint


def test_a_complete_few_shot_run_is_measured_again(tmp_path):
    metarl(f"{SINUSOID} --iterations 2", tmp_path / "run")
    before = (tmp_path / "run" / "evaluation.json").read_bytes()
    (tmp_path / "run" / "evaluation.json").unlink()
    metarl("fewshot maml --resume", tmp_path / "run")
    assert (tmp_path / "run" / "evaluation.json").read_bytes() == before


def test_a_few_shot_run_keeps_its_own_settings(tmp_path):
    metarl(f"{SINUSOID} --iterations 2", tmp_path / "run")
    with pytest.raises(ValueError, match=r"inner_lr of the run to resume is 0\.01, got 0\.02"):
        metarl("fewshot maml --resume --inner-lr 0.02", tmp_path / "run")
    metarl("fewshot maml --resume --iterations 4 --test-steps 2", tmp_path / "run")
    config = RunDirectory.open(tmp_path / "run").config()
    assert (config["iterations"], config["test_steps"]) == (4, 2)


def test_a_few_shot_run_of_an_earlier_version_cannot_be_trained_on(tmp_path):
    metarl(f"{SINUSOID} --iterations 2", tmp_path / "run")
    path = RunDirectory.open(tmp_path / "run").newest_checkpoint()
    tensors, header = load_checkpoint(path, agent="fewshot-maml", environment="sinusoid")
    plain = {k.removeprefix("parameters/"): v for k, v in tensors.items() if "optim" not in k}
    path.write_bytes(save(plain, {"metarl": json.dumps({**header, "format_version": 1})}))
    metarl("fewshot maml --resume", tmp_path / "run")
    with pytest.raises(ValueError, match="is of an earlier version and has no optimizer state: it"):
        metarl("fewshot maml --resume --iterations 4", tmp_path / "run")


def test_a_few_shot_run_of_a_version_with_another_name_of_the_learner_resumes(tmp_path):
    """First-order MAML was the learner maml with a mode."""
    start = SINUSOID.replace("maml", "fomaml")
    metarl(f"{start} --iterations 100 --seeds 2", tmp_path / "runs")
    old = {"mode": "first_order", "adapted": "all", "rates": "fixed"}
    for folder in (tmp_path / "runs", tmp_path / "runs/seed_3", tmp_path / "runs/seed_4"):
        file = folder / ("config.json" if "seed" in folder.name else "seeds.json")
        config = json.loads(file.read_text(encoding="utf-8"))
        config["agent"], config["agent_config"] = "fewshot-maml", {**config["agent_config"], **old}
        file.write_text(json.dumps(config), encoding="utf-8")
        for path in folder.glob("checkpoints/*"):
            tensors, header = load_checkpoint(path, agent="fewshot-fomaml", environment="sinusoid")
            whole = {**header["config"], **old}
            save_checkpoint(path, tensors, {**header, "agent": "fewshot-maml", "config": whole})
    with pytest.raises(ValueError, match="agent of the run to resume is 'fewshot-maml', got"):
        metarl("fewshot reptile --resume", tmp_path / "runs")
    metarl("fewshot maml --resume --iterations 200", tmp_path / "runs")
    metarl("fewshot fomaml --resume --iterations 300", tmp_path / "runs")
    metarl(f"{start} --iterations 300", tmp_path / "straight")
    run = RunDirectory.open(tmp_path / "runs" / "seed_3")
    assert fingerprint(run.path)["metrics"] == fingerprint(tmp_path / "straight")["metrics"]
    assert run.config()["agent"] == "fewshot-fomaml"
    run.checkpoint_path(300).unlink()
    run.checkpoint_path(200).unlink()
    assert run.newest_checkpoint() == run.checkpoint_path(100)  # of the earlier version
    with pytest.raises(ValueError, match="agent of the run to resume is 'fewshot-fomaml', got"):
        metarl("fewshot maml --resume", run.path)


def test_training_after_the_end_of_the_schedule_is_rejected(tmp_path):
    metarl(f"{SINUSOID} --iterations 2 --schedule linear", tmp_path / "run")
    assert RunDirectory.open(tmp_path / "run").config()["agent_config"]["decay_iterations"] == 2
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(
        ValueError, match="iterations must be at most 2, the end of the run's linear schedule"
    ):
        metarl("fewshot maml --resume --iterations 3", tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_damaged_metrics_are_named_and_the_run_stays_as_it_is(tmp_path):
    metarl(f"{SINUSOID} --iterations 2", tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text('{"iteration": 2}\n', encoding="utf-8")
    before = (tmp_path / "run" / "config.json").read_bytes()
    message = r"metrics\.jsonl is damaged in line 1: it must hold 'meta/query_mse', it holds iter"
    for line in ("--iterations 4", ""):
        with pytest.raises(ValueError, match=message):
            metarl(f"fewshot maml --resume {line}", tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_fewer_iterations_than_planned_are_rejected_for_several_seeds(tmp_path):
    metarl(f"{SINUSOID} --iterations 4 --seeds 2", tmp_path / "runs")
    with pytest.raises(
        ValueError, match=r"iterations must be at least 4, as planned for .*, got 2"
    ):
        metarl("fewshot maml --resume --iterations 2", tmp_path / "runs")


def test_the_run_of_an_agent_cannot_be_resumed_as_a_learner(half):
    with pytest.raises(ValueError, match="agent of the run to resume is 'maml-trpo', got 'fewsh"):
        metarl("fewshot maml --resume", half)
