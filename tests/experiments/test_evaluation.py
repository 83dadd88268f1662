"""Evaluation from Python does what the command does, for agents and few-shot learners."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluate_command import FAMILY, SMALL, metarl, read, write_module

from metarl.agents import AGENTS
from metarl.evaluation.fewshot_results import MeasuredRuns
from metarl.evaluation.files import read_evaluations
from metarl.experiments.evaluate_agents import EvaluateAgentsConfig
from metarl.experiments.evaluate_learners import EvaluateLearnersConfig
from metarl.experiments.evaluation import config_type, evaluate
from metarl.fewshot import FewShotTraining, make_tasks
from metarl.runs.directory import RunDirectory
from metarl.storage.checkpoints import save_checkpoint

RESULTS = Path(__file__).parents[2] / "results"
AGENT = RESULTS / "Navigation2D-maml17" / "maml-trpo"
LEARNER = RESULTS / "fewshot" / "sinusoid" / "maml-10shot"
OPTIONS = {
    "num_tasks": 3, "exploration_episodes": 2, "evaluation_episodes": 2, "adaptation_steps": 2,
    "device": "cpu",
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run in progress, with the published agent's checkpoint."""
    directory = RunDirectory(tmp_path / "run")
    directory.checkpoints.mkdir(parents=True)
    shutil.copy(AGENT / "config.json", directory.path)
    agent = AGENTS.load("maml-trpo").load(AGENT / "checkpoint.safetensors", FAMILY)
    agent.save(directory.checkpoint_path(agent.num_iterations))
    return directory.path


def test_python_gives_the_same_results_and_files_as_the_command(run):
    metarl(f"evaluate OUT {SMALL} --device cpu", run)
    written = (run / "evaluation.json").read_bytes()
    (run / "evaluation.json").unlink()
    for target in (run, str(run), [run]):
        (found,) = evaluate(target, **OPTIONS)
        assert (run / "evaluation.json").read_bytes() == written
        assert found.to_json() == read(run / "evaluation.json").to_json()
    evaluate(run, preset="pearl", num_tasks=2)
    protocol = read(run / "evaluation.json").protocol
    assert (protocol.num_tasks, protocol.exploration_episodes) == (2, 2)  # the rest is the preset's


def test_options_have_the_same_effect_as_in_the_command(run, tmp_path):
    command, python = tmp_path / "a.json", tmp_path / "b.json"
    metarl(f"evaluate OUT {SMALL} --device cpu --scratch --json OUT --plot OUT", run, command,
           tmp_path / "a.png")  # fmt: skip
    evaluate(run, **OPTIONS, scratch=True, json=str(python), plot=tmp_path / "b.png")
    assert python.read_bytes() == command.read_bytes()
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    assert not (run / "evaluation.json").exists()


def test_a_few_shot_learner_is_measured_as_by_the_command(tmp_path, capsys):
    command, python = tmp_path / "a.json", tmp_path / "b.json"
    metarl("evaluate OUT --num-tasks 4 --steps 2 --seed 3 --json OUT", LEARNER, command)
    assert "sinusoid, maml, 10 points, 4 test tasks" in capsys.readouterr().out
    (found,) = evaluate(LEARNER, num_tasks=4, steps=2, seed=3, json=python)
    assert isinstance(found, MeasuredRuns)
    assert python.read_bytes() == command.read_bytes()
    assert found.runs == ("maml-10shot",)
    (alone,) = evaluate(LEARNER / "checkpoint.safetensors", num_tasks=4, steps=2, seed=3)
    np.testing.assert_array_equal(alone.scores, found.scores)


def test_an_agent_in_memory_is_measured_like_its_checkpoint(tmp_path):
    agent = AGENTS.load("maml-trpo").load(AGENT / "checkpoint.safetensors", FAMILY)
    (stored,) = evaluate(AGENT, **OPTIONS)
    (live,) = evaluate(agent, **OPTIONS, json=tmp_path / "a.json")
    np.testing.assert_array_equal(live.measured.returns, stored.measured.returns)
    assert live.iterations == stored.iterations
    assert read(tmp_path / "a.json").to_json() == live.to_json()
    (two,) = evaluate([agent, agent], **OPTIONS, paired=True)
    assert len(set(two.runs)) == 2
    np.testing.assert_array_equal(two.measured.returns[1], stored.measured.returns[0])


def test_a_learner_in_memory_is_measured_like_its_checkpoint():
    training = FewShotTraining.load(
        LEARNER / "checkpoint.safetensors", "maml", make_tasks("sinusoid")
    )
    (stored,) = evaluate(LEARNER, num_tasks=4, steps=1)
    (live,) = evaluate(training, num_tasks=4, steps=1)
    np.testing.assert_array_equal(live.scores, stored.scores)
    (two,) = evaluate([training, training], num_tasks=4, steps=1)
    assert two.scores.shape == (2, 2, 4)


def test_own_agents_are_measured_by_name_and_in_memory(tmp_path, monkeypatch):
    write_module(tmp_path, monkeypatch, "still")
    (named,) = evaluate("still:Sweeping", env="Bandit:n10-k5", num_tasks=3)
    from still import Sweeping

    from metarl.envs import make_family

    agent = Sweeping(make_family("Bandit:n10-k5"))
    (live,) = evaluate(agent, env="Bandit:n10-k5", num_tasks=3)
    np.testing.assert_array_equal(live.measured.returns, named.measured.returns)
    assert live.agent == "Sweeping"
    with pytest.raises(ValueError, match="env must be given to measure this agent: a family and"):
        evaluate(agent, num_tasks=3)


@pytest.mark.parametrize(
    ("target", "options", "error", "message"),
    [
        (AGENT, {"num_task": 3}, ValueError, "option must be one of .* did you mean 'num_tasks'"),
        (LEARNER, {"adaptation_steps": 3}, ValueError, "option must be one of data_dir, device"),
        (AGENT, {"num_tasks": 0}, ValueError, "num_tasks must be 1 or more, got 0"),
        (AGENT, {"protocol": "a"}, ValueError, "option must be one of"),
        (AGENT, {"json": AGENT / "config.json"}, ValueError, "json must not replace a file that"),
        (3, {}, TypeError, "target must be a path, module:attribute, or an agent with a method"),
        ([AGENT, 3], {}, ValueError, "targets must be either all stored or all in memory"),
        ([], {}, ValueError, "target must be given"),
        ("nowhere", {}, ValueError, "there is nothing at nowhere"),
    ],
)
def test_mistakes_are_described(target, options, error, message):
    with pytest.raises(error, match=message):
        evaluate(target, **options)


def test_the_kind_of_a_run_determines_the_options_of_the_command(tmp_path):
    described = {"agent": "fewshot-maml", "environment": "sinusoid", "seed": 0, "agent_config": {}}
    RunDirectory.create(tmp_path / "run", described)
    save_checkpoint(tmp_path / "a.safetensors", {"a/b": torch.zeros(1)}, {"agent": "fewshot-maml"})
    for path in (tmp_path / "run", tmp_path / "a.safetensors", LEARNER):
        assert config_type(["--shots", "5", str(path)]) is EvaluateLearnersConfig
    for path in (AGENT, tmp_path, tmp_path / "nowhere"):
        assert config_type([str(path), "--shots"]) is EvaluateAgentsConfig


def test_a_folder_of_seeds_is_one_evaluation(run, tmp_path):
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    (seeds / "seeds.json").write_text((run / "config.json").read_text(), encoding="utf-8")
    shutil.copytree(run, seeds / "seed_0")
    (found,) = evaluate(seeds, **OPTIONS)
    assert found.runs == ("seed_0",)
    (read_back,) = read_evaluations(seeds / "evaluation.json")
    assert read_back.to_json() == found.to_json()
