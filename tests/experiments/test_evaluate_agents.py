"""The command `metarl evaluate`: what is measured, by which protocol, and what is written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluate_command import FAMILY, SMALL, metarl, read, write_module

from metarl.agents import AGENTS, MAMLTRPO
from metarl.envs import make_family
from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.files import read_evaluations
from metarl.evaluation.protocol import EvaluationProtocol, preset
from metarl.evaluation.results import Evaluation
from metarl.rl.players import unadapted
from metarl.runs.directory import RunDirectory
from metarl.storage.checkpoints import save_checkpoint

TINY = "--meta-batch-size 2 --num-episodes 2 --hidden-sizes 4 --activation tanh --device cpu"
TRAIN = f"train maml-trpo --env Navigation2D:maml17 {TINY} --checkpoint-every 1 --tracker none"
EVALUATE = f"evaluate OUT {SMALL} --seed 9 --device cpu"
PROTOCOL = EvaluationProtocol(
    num_tasks=3, exploration_episodes=2, evaluation_episodes=2, adaptation_steps=2, seed=9
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of two iterations each. Tests read them only."""
    path = tmp_path_factory.mktemp("runs") / "five"
    metarl(f"{TRAIN} --iterations 2 --seed 3 --seeds 2 --out OUT", path)
    return path


@pytest.fixture
def seeds(trained: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    shutil.copytree(trained, tmp_path / "seeds")
    return tmp_path / "seeds"


@pytest.fixture
def run(seeds: Path) -> Path:
    """One of the copies."""
    return seeds / "seed_3"


def agent_of(run: Path, iteration: int = 2) -> MAMLTRPO:
    return AGENTS.load("maml-trpo").load(RunDirectory.open(run).checkpoint_path(iteration), FAMILY)


def same_numbers(one: Evaluation, other: Evaluation) -> bool:
    """Whether the agents' returns are equal bitwise."""
    return bool(np.array_equal(one.measured.returns, other.measured.returns))


# What is measured.


def test_a_run_is_measured_as_by_the_evaluator(run, capsys):
    metarl(EVALUATE, run)
    got = read(run / "evaluation.json")
    expected = evaluate({"seed_3": agent_of(run)}, FAMILY, PROTOCOL, name="maml-trpo")
    assert got.to_json() == expected.to_json()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Navigation2D:maml17, maml-trpo: 3 test tasks, mean of 2 episodes")
    assert lines[-1] == f"wrote {run / 'evaluation.json'}"


def test_the_seeds_of_a_directory_are_runs_of_one_agent(seeds):
    metarl(f"{EVALUATE} --paired", seeds)
    got = read(seeds / "evaluation.json")
    assert got.runs == ("seed_3", "seed_4")
    alone = [evaluate(agent_of(seeds / name), FAMILY, PROTOCOL) for name in got.runs]
    for k, one in enumerate(alone):
        np.testing.assert_array_equal(got.measured.returns[k], one.measured.returns[0])
    assert not same_numbers(*alone)
    assert list(seeds.glob("seed_*/evaluation.json")) == []


def test_several_targets_are_runs_and_write_to_the_given_file(run, seeds, tmp_path, capsys):
    metarl(f"evaluate OUT OUT {SMALL} --seed 9 --device cpu", seeds / "seed_4", run)
    assert "wrote" not in capsys.readouterr().out
    assert not list(seeds.rglob("evaluation.json"))
    line = f"evaluate OUT OUT {SMALL} --seed 9 --device cpu --json OUT"
    metarl(line, seeds / "seed_4", run, tmp_path / "a.json")
    assert read(tmp_path / "a.json").runs == ("seed_4", "seed_3")


def test_a_checkpoint_is_measured(run, tmp_path):
    path = RunDirectory.open(run).checkpoint_path(1)
    metarl(f"{EVALUATE} --split train --json OUT", path, tmp_path / "a.json")
    got = read(tmp_path / "a.json")
    expected = evaluate(agent_of(run, 1), FAMILY, replace(PROTOCOL, split="train"))
    assert same_numbers(got, expected)
    assert got.runs == ("iteration_000001.safetensors",)
    metarl(EVALUATE, path)
    assert not list(run.rglob("evaluation.json"))


def test_evaluating_adds_one_file_and_leaves_the_rest_as_it_was(run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    metarl(EVALUATE, run)
    after = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert after.keys() - before.keys() == {run / "evaluation.json"}
    assert {path: after[path] for path in before} == before


def test_another_environment_with_the_same_spaces_can_be_given(tmp_path):
    line = f"train maml-trpo --env DependentBandit:easy {TINY} --iterations 1 --tracker none"
    metarl(f"{line} --out OUT", tmp_path / "run")
    file = tmp_path / "elsewhere.json"
    metarl(f"{EVALUATE} --env DependentBandit:hard --json {file}", tmp_path / "run")
    metarl(f"{EVALUATE} --env DependentBandit:hard", tmp_path / "run")
    assert not (tmp_path / "run" / "evaluation.json").exists()  # it is of the run's environment
    got = read(file)
    assert got.environment == "DependentBandit:hard"
    easy = make_family("DependentBandit:easy")
    agent = AGENTS.load("maml-trpo").load(
        RunDirectory.open(tmp_path / "run").checkpoint_path(1), easy
    )
    assert same_numbers(got, evaluate(agent, make_family("DependentBandit:hard"), PROTOCOL))
    assert not same_numbers(got, evaluate(agent, easy, PROTOCOL))


# By which protocol.


def test_options_replace_the_numbers_of_a_preset(run):
    metarl("evaluate OUT --preset pearl --num-tasks 3 --device cpu", run)
    assert read(run / "evaluation.json").protocol == replace(preset("pearl"), num_tasks=3)
    metarl("evaluate OUT --preset pearl --num-tasks 2 --deterministic never --device cpu", run)
    expected = replace(preset("pearl"), num_tasks=2, deterministic="never")
    assert read(run / "evaluation.json").protocol == expected


@pytest.mark.parametrize("name", ["maml", "pearl", "rl2", "varibad", "metaworld"])
def test_every_preset_measures_a_run(run, name):
    metarl(f"evaluate OUT --preset {name} --num-tasks 2 --seed 1 --device cpu", run)
    got = read(run / "evaluation.json")
    assert got.protocol == replace(preset(name), num_tasks=2, seed=1)
    assert same_numbers(got, evaluate(agent_of(run), FAMILY, got.protocol))


def test_the_default_preset_is_maml(run):
    metarl("evaluate OUT --num-tasks 2 --adaptation-steps 1 --device cpu", run)
    expected = replace(preset("maml"), num_tasks=2, adaptation_steps=1)
    assert read(run / "evaluation.json").protocol == expected


def test_an_agent_that_remembers_is_measured_episode_by_episode(tmp_path, monkeypatch):
    write_module(tmp_path, monkeypatch, "memory")
    metarl("evaluate memory:Sweeping --env Bandit:n10-k5 --num-tasks 4 --json OUT", tmp_path / "a")
    got = read(tmp_path / "a")
    assert got.protocol == replace(preset("rl2"), num_tasks=4)
    assert got.stages == ("episode 1", "episode 2")


@pytest.mark.parametrize("num_episodes", [1, 3])
def test_a_trained_memory_is_measured_on_all_episodes_of_its_trials(tmp_path, num_episodes):
    """A transformer does not support longer trials."""
    out = tmp_path / "run"
    settings = "--memory transformer --memory-size 8 --meta-batch-size 4 --iterations 1"
    where = "--env Bandit:n10-k5 --device cpu --tracker none --out OUT"
    metarl(f"train rl2 {settings} --num-episodes {num_episodes} {where}", out)
    metarl("evaluate OUT --num-tasks 3 --device cpu", out)
    got = read(out / "evaluation.json")
    assert got.stages == tuple(f"episode {k + 1}" for k in range(num_episodes))


def test_splits_outside_the_distribution_are_measured_too(tmp_path, monkeypatch):
    monkeypatch.setattr(type(FAMILY), "ood_splits", ("train",))
    monkeypatch.setattr(type(FAMILY), "splits", ("train", "test"))
    write_module(tmp_path, monkeypatch, "still")
    line = (
        f"evaluate still:Still --env Navigation2D:maml17 {SMALL} --seed 9 --device cpu --json OUT"
    )
    metarl(f"{line} --plot OUT", tmp_path / "a", tmp_path / "a.png")
    first, second = read_evaluations(tmp_path / "a")
    assert (first.protocol.split, second.protocol.split) == ("test", "train")
    assert not np.array_equal(first.tasks, second.tasks)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    metarl(f"{line} --split test", tmp_path / "b")
    assert read(tmp_path / "b").to_json() == first.to_json()


# References.


def test_a_policy_for_all_tasks_is_measured_without_adaptation(run, seeds):
    metarl(f"{EVALUATE} --paired --multi-task OUT", run, seeds)
    got = read(run / "evaluation.json")
    assert list(got.references) == ["random", "oracle", "multi-task"]
    for k, name in enumerate(("seed_3", "seed_4")):
        policy = unadapted(agent_of(seeds / name))
        policy.adapts = True  # to be measured at every stage
        fixed = evaluate(policy, FAMILY, PROTOCOL)
        np.testing.assert_array_equal(
            got.references["multi-task"].returns[k], fixed.measured.returns[0, -1]
        )


def test_references_without_a_name_are_an_error(run):
    with pytest.raises(ValueError, match=r"^references must name algorithms, .* or all; got none$"):
        metarl(f"{EVALUATE} --references", run)


def test_a_policy_from_scratch_is_the_untrained_one_adapted_identically(run):
    metarl(f"{EVALUATE} --scratch", run)
    got = read(run / "evaluation.json")
    trained = agent_of(run)
    fresh = MAMLTRPO(FAMILY, trained.config, seed=3)
    expected = evaluate(fresh, FAMILY, PROTOCOL).measured.returns
    np.testing.assert_array_equal(got.references["from scratch"].returns[0], expected[0, -1])
    assert not np.array_equal(expected, got.measured.returns)


def test_next_to_another_agent_the_policy_from_scratch_has_default_settings(tmp_path, monkeypatch):
    write_module(tmp_path, monkeypatch, "still")
    line = f"evaluate still:Still --env Navigation2D:maml17 {SMALL} --seed 9 --device cpu"
    metarl(f"{line} --scratch --json OUT", tmp_path / "a")
    expected = evaluate(MAMLTRPO(FAMILY, seed=9), FAMILY, PROTOCOL).measured.returns
    got = read(tmp_path / "a").references["from scratch"]
    np.testing.assert_array_equal(got.returns[0], expected[0, -1])


# Invalid arguments.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--split tets", "split must be one of train, test, got 'tets'; did you mean 'test'"),
        ("--num-tasks 0", "num_tasks must be 1 or more, got 0"),
        ("--adaptation-steps -1", "adaptation_steps must be 0 or more, got -1"),
        ("--preset perl", "preset must be one of maml, .* did you mean 'pearl'"),
        ("--steps 3", "there is no option --steps; did you mean --"),
        ("--json nowhere/a.json", "json must be a file in a directory that exists, got nowhere/a"),
        ("--plot nowhere/a.png", "plot must be a file in a directory that exists, got nowhere/a"),
        ("--json /", "json must be a file in a directory that exists, got /"),
        ("--plot a.jpg", "plot must be a file NAME.png, got a.jpg"),
        ("--env Navigation2D:maml", "variant of Navigation2D must be one of maml17, got 'maml'"),
        (
            "--env HalfCheetahVel:promp",
            "env must have the observation_space of Navigation2D:maml17, which the agent was tr",
        ),
        ("--sb3 PPO", r"sb3 needs a target MODEL\.zip, got none"),
        ("--multi-task nowhere", "target must be .*, there is nothing at nowhere"),
    ],
)
def test_invalid_settings_are_rejected(trained, options, message):
    with pytest.raises(ValueError, match=message):
        metarl(f"evaluate OUT {options}", trained / "seed_3")


def test_other_paths_than_runs_are_rejected(tmp_path):
    with pytest.raises(ValueError, match=r"target must be a directory, a .* nothing at"):
        metarl("evaluate OUT", tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"run must be a directory with a config\.json"):
        metarl("evaluate OUT", tmp_path)
    (tmp_path / "a.txt").write_text("text", encoding="utf-8")
    with pytest.raises(ValueError, match="is damaged or not a metarl checkpoint"):
        metarl("evaluate OUT", tmp_path / "a.txt")
    torch.save({"a": 1}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt is a pickle, as torch\.save writes; it is"):
        metarl("evaluate OUT", tmp_path / "a.pt")
    header: dict[str, Any] = {"seed": 0, "config": {}, "counters": {}}
    save_checkpoint(tmp_path / "a.safetensors", {"a/b": torch.zeros(1)}, header)
    with pytest.raises(
        ValueError, match="does not name its agent and environment, so it cannot be"
    ):
        metarl("evaluate OUT", tmp_path / "a.safetensors")
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "seeds.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="seeds has no seed that has started"):
        metarl("evaluate OUT", tmp_path / "seeds")


def test_a_missing_target_is_reported():
    with pytest.raises(ValueError, match="target must be given; metarl evaluate --help describes"):
        metarl("evaluate")


def test_runs_of_several_kinds_are_rejected(run, tmp_path, monkeypatch):
    write_module(tmp_path, monkeypatch, "own")
    with pytest.raises(ValueError, match="targets must be of one kind of agent, got maml-trpo and"):
        metarl("evaluate OUT own:Still --env Navigation2D:maml17", run)
    other = tmp_path / "other"
    metarl(f"{TRAIN.replace('Navigation2D:maml17', 'PointRobot:pearl')} --iterations 1 --out OUT",
           other)  # fmt: skip
    message = "targets must be of one environment, got Navigation2D:maml17 and PointRobot:pearl"
    with pytest.raises(ValueError, match=message):
        metarl("evaluate OUT OUT", run, other)


def test_one_run_given_twice_is_rejected(run, seeds):
    with pytest.raises(ValueError, match="targets must differ, got"):
        metarl("evaluate OUT OUT", seeds, run)


def test_an_agent_with_a_memory_cannot_be_the_policy_for_all_tasks(tmp_path, monkeypatch):
    write_module(tmp_path, monkeypatch, "own")
    with pytest.raises(ValueError, match="agent must not have a memory: an agent with a memory"):
        metarl("evaluate own:Sweeping --env Bandit:n10-k5 --multi-task own:Sweeping")


def test_the_file_holds_plain_json(run):
    metarl(EVALUATE, run)
    content = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    assert list(content) == ["evaluations"]
    assert content["evaluations"][0]["protocol"]["seed"] == 9


# Runs of one experiment.


def test_runs_of_several_experiments_are_rejected(run, tmp_path):
    other = tmp_path / "other"
    metarl(f"{TRAIN} --iterations 2 --seed 5 --gamma 0.5 --out OUT", other)
    with pytest.raises(ValueError, match=r"settings, .* gamma is 0.99 in \S+ and 0.5 in \S+other;"):
        metarl("evaluate OUT OUT", run, other)
    shorter = tmp_path / "shorter"
    metarl(f"{TRAIN} --iterations 1 --seed 5 --out OUT", shorter)
    with pytest.raises(ValueError, match="targets must have the same iterations"):
        metarl("evaluate OUT OUT", run, shorter)
    first, second = (
        RunDirectory.open(path).checkpoint_path(number) for path, number in ((run, 2), (shorter, 1))
    )
    file = tmp_path / "checkpoints.json"
    metarl(
        f"evaluate OUT OUT {SMALL} --json {file}", first, second
    )  # as the best ones of two seeds
    assert read(file).iterations == (2, 1)
    shutil.copytree(run, tmp_path / "again")
    with pytest.raises(ValueError, match=r"targets must have different seeds.*got seeds 3, 3"):
        metarl("evaluate OUT OUT", run, tmp_path / "again")


def test_a_few_shot_run_cannot_be_played(tmp_path):
    metarl("fewshot maml --iterations 1 --tracker none --device cpu --out OUT", tmp_path / "run")
    with pytest.raises(ValueError, match=r"target must be of an agent, .*'fewshot-maml', a few-sh"):
        metarl("play OUT --out film.gif", tmp_path / "run")


def test_a_run_that_cannot_be_written_to_needs_a_file_for_the_results(run, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, _: Path(path) != run)
    with pytest.raises(ValueError, match=r"json must be given, since .*seed_3 cannot"):
        metarl(EVALUATE, run)
    metarl(f"{EVALUATE} --json {tmp_path / 'numbers.json'}", run)
    assert (tmp_path / "numbers.json").is_file()
