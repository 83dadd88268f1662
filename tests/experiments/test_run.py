"""Runs from Python: the same folders as the commands write, and either resumes the other's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from short_runs import ROBOT, SINUSOID, metarl

import metarl as toolkit
from metarl.agents import MAMLTRPO
from metarl.envs import make_family
from metarl.envs.navigation.goals import PointRobot
from metarl.evaluation.files import read_evaluations
from metarl.fewshot import SinusoidTasks
from metarl.runs.directory import RunDirectory
from metarl.scripts.faults.kills import fingerprint

TINY = {"device": "cpu", "threads": 1, "seed": 3, "tracker": "none", "progress": False}
AGENT = {
    **TINY, "meta_batch_size": 2, "num_episodes": 2, "hidden_sizes": [4], "cg_iterations": 2,
}  # fmt: skip
LEARNER = {**TINY, "meta_batch_size": 2, "hidden_sizes": (4,), "shots": 3, "test_steps": 1}
CASES = [
    ("maml-trpo", {**AGENT, "env": "PointRobot:pearl"}, f"{ROBOT} --checkpoint-every 2"),
    (
        "maml",
        {**LEARNER, "dataset": "sinusoid", "log_every": 1},
        f"{SINUSOID} --threads 1 --checkpoint-every 2 --log-every 1",
    ),
]
both = pytest.mark.parametrize(("name", "arguments", "line"), CASES, ids=["agent", "learner"])
RESUME = {"maml-trpo": "train maml-trpo --resume", "maml": "fewshot maml --resume"}


def config(path: Path) -> dict:
    """config.json without the commands that it records."""
    stored = json.loads((path / "config.json").read_text(encoding="utf-8"))
    del stored["command"]
    for entry in stored.get("resumed", []):
        del entry["command"]
    return stored


def assert_same_runs(one: Path, other: Path) -> None:
    assert fingerprint(one) == fingerprint(other)
    assert config(one) == config(other)
    if (other / "evaluation.json").exists():
        theirs = (other / "evaluation.json").read_text(encoding="utf-8")
        mine = (one / "evaluation.json").read_text(encoding="utf-8")
        assert mine.replace(f'"{one.name}"', f'"{other.name}"') == theirs


@both
def test_python_and_the_command_write_the_same_folder(tmp_path, name, arguments, line):
    run = toolkit.train(
        name, out=tmp_path / "python", iterations=4, checkpoint_every=2, **arguments
    )
    metarl(f"{line} --iterations 4", tmp_path / "command")
    assert run == toolkit.Run(tmp_path / "python")
    assert_same_runs(run.path, tmp_path / "command")


@both
def test_python_and_the_command_resume_each_others_runs(tmp_path, name, arguments, line):
    toolkit.train(name, out=tmp_path / "python", iterations=2, checkpoint_every=2, **arguments)
    metarl(f"{RESUME[name]} --iterations 6", tmp_path / "python")
    metarl(f"{line} --iterations 2", tmp_path / "command")
    toolkit.Run(tmp_path / "command").resume(iterations=6, progress=False)
    assert_same_runs(tmp_path / "python", tmp_path / "command")
    metarl(f"{line} --iterations 6", tmp_path / "straight")
    straight = fingerprint(tmp_path / "straight")
    for part in ("last", "best", "metrics"):
        assert fingerprint(tmp_path / "python")[part] == straight[part]


@both
def test_several_seeds_from_python_are_resumed_by_the_command(tmp_path, name, arguments, line):
    out = tmp_path / "seeds"
    run = toolkit.train(name, out=out, iterations=2, checkpoint_every=2, seeds=2, **arguments)
    assert [one.path.name for one in run.runs] == ["seed_3", "seed_4"]
    assert (run.config["seed"], run.config["seeds"]) == (3, 2)
    shutil.rmtree(out / "seed_4")
    metarl(f"{RESUME[name]} --iterations 4", out)
    metarl(f"{line.replace('--seed 3', '--seed 4')} --iterations 4", tmp_path / "alone")
    assert fingerprint(out / "seed_4")["last"] == fingerprint(tmp_path / "alone")["last"]
    with pytest.raises(ValueError, match=r"run must have one seed, .* holds several; use one"):
        run.metrics()
    with pytest.raises(ValueError, match=r"run must have one seed, .* such as .*seed_3"):
        toolkit.load(out)


def test_a_run_shows_what_its_folder_holds(robot):
    run = toolkit.Run(robot)
    assert run.runs == (run,)
    assert run.config == RunDirectory.open(robot).config()
    assert [row["iteration"] for row in run.metrics()] == [1, 2, 3, 4, 5, 6]
    assert [path.stem for path in run.checkpoints] == [f"iteration_00000{k}" for k in (2, 4, 6)]
    assert run.best_checkpoint == robot / "best.safetensors"
    agent = run.load(device="cpu")
    assert isinstance(agent, MAMLTRPO)
    assert agent.num_iterations == 6
    assert toolkit.load(run.checkpoints[0], device="cpu").num_iterations == 2


def test_a_published_folder_is_a_run(tmp_path):
    published = Path(__file__).parents[2] / "results" / "Navigation2D-maml17" / "maml-trpo"
    run = toolkit.Run(published)
    assert run.checkpoints == (published / "checkpoint.safetensors",)
    assert run.load(device="cpu").num_iterations == run.metrics()[-1]["iteration"]
    shutil.copytree(published, tmp_path / "copy")
    with pytest.raises(ValueError, match=r"run .*copy was published: it can be evaluated but not"):
        toolkit.Run(tmp_path / "copy").resume(iterations=1000, progress=False)


def test_a_run_is_measured_and_reported(tmp_path, robot):
    shutil.copytree(robot, tmp_path / "run")
    run = toolkit.Run(tmp_path / "run")
    (evaluation, *_) = run.evaluate(num_tasks=2, adaptation_steps=1, device="cpu")
    (stored, *_) = read_evaluations(run.path / "evaluation.json")
    np.testing.assert_allclose(stored.measured.returns, evaluation.measured.returns, atol=1e-3)
    assert stored.protocol == evaluation.protocol
    assert (stored.protocol.num_tasks, stored.protocol.adaptation_steps) == (2, 1)
    page = run.report(tmp_path / "report.html", behavior=False, device="cpu")
    assert "PointRobot:pearl" in page.read_text(encoding="utf-8")
    again = toolkit.report([run.path], out=tmp_path / "again.html", behavior=False, device="cpu")
    assert again.read_bytes() == page.read_bytes()


def test_a_learner_is_loaded_and_measured(tmp_path):
    run = toolkit.train("maml", out=tmp_path / "run", iterations=2, **LEARNER)
    training = run.load(device="cpu")
    assert training.num_iterations == 2
    (measured,) = run.evaluate(num_tasks=3, steps=1, device="cpu", json=tmp_path / "one.json")
    assert measured.scores.shape == (2, 1, 3)
    assert json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))["runs"] == ["run"]


# Objects as arguments.


def test_a_registered_family_or_data_set_can_be_given_as_an_object(tmp_path):
    family = PointRobot("pearl")
    toolkit.train("maml-trpo", **AGENT, env=family, out=tmp_path / "agent", iterations=2)
    metarl(f"{ROBOT} --iterations 2", tmp_path / "command")
    assert_same_runs(tmp_path / "agent", tmp_path / "command")
    toolkit.train("maml", **LEARNER, dataset=SinusoidTasks(), out=tmp_path / "few", iterations=2)
    metarl("fewshot maml --resume --iterations 4", tmp_path / "few")
    options = {"amplitude_range": [1.0, 2.0]}
    tasks = SinusoidTasks(amplitude_range=(1.0, 2.0))
    run = toolkit.train(
        "maml",
        **LEARNER,
        dataset=tasks,
        dataset_options=options,
        out=tmp_path / "own",
        iterations=2,
    )
    assert run.config["dataset_options"] == ["amplitude_range=[1.0, 2.0]"]
    assert run.config["protocol"]["amplitude"] == "uniform 1 … 2"


class Unregistered(PointRobot):
    name = "Unregistered"


class SameNameOtherTasks(PointRobot):
    """Has the name of PointRobot and other tasks."""

    def _sample_tasks(self, num_tasks, split, rng):
        return super()._sample_tasks(num_tasks, split, rng) / 2


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (
            Unregistered("pearl"),
            "env 'Unregistered:pearl' must be a registered family; register it",
        ),
        (
            SameNameOtherTasks("pearl"),
            "env must equal the registered family 'PointRobot:pearl'; register",
        ),
    ],
)
def test_a_family_that_a_resume_could_not_create_is_rejected(tmp_path, family, message):
    with pytest.raises(ValueError, match=message):
        toolkit.train("maml-trpo", **AGENT, env=family, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


class Elsewhere(SinusoidTasks):
    name = "elsewhere"


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (Elsewhere(), "dataset 'elsewhere' must be registered; pass the name"),
        (SinusoidTasks((1.0, 2.0)), "dataset must equal the registered data set 'sinusoid'; pass"),
    ],
)
def test_data_that_a_resume_could_not_create_are_rejected(tmp_path, tasks, message):
    with pytest.raises(ValueError, match=message):
        toolkit.train("maml", **LEARNER, dataset=tasks, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


# Mistakes.


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mamll", {}, "agent or learner must be one of .*, got 'mamll'; did you mean 'maml'"),
        ("maml", {"env": "a", "dataset": "b"}, "env and dataset must not both be given: agents"),
        ("maml", {"meta_lrr": 1.0}, "setting of maml must be one of .*; did you mean 'meta_lr'"),
        ("maml", {"env": "PointRobot:pearl"}, "env must be left out for maml, a few-shot learner"),
        ("rl2", {"dataset": "sinusoid"}, "dataset must be left out for rl2, an agent"),
        ("maml-trpo", {}, "env must be given for maml-trpo: a family and its variant"),
        ("maml-trpo", {"env": "PointRobot:pearl", "seed": -1}, "seed must be 0 or more, got -1"),
        (None, {}, "agent or learner must be one of .*, got None"),
        (
            "maml-trpo",
            {"env": "PointRobot:pearl", "threads": 10**6},
            "threads must be at most 1,024",
        ),
        ("maml-trpo", {"env": "PointRobot:pearl", "seeds": 2**62}, "seeds must be at most 10,000"),
        (
            "maml-trpo",
            {"env": "PointRobot:pearl", "seeds": 2, "seed": 2**63 - 1},
            "seed must leave room for the 2 seeds",
        ),
        (
            "maml-trpo",
            {"env": "PointRobot:pearl", "gamma": 2},
            r"gamma must lie in \[0, 1\], got 2",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(tmp_path, name, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        toolkit.train(name, out=tmp_path / "run", **arguments)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_invalid_path_is_rejected():
    for call in (toolkit.load, toolkit.Run, lambda path: toolkit.train("maml", out=path)):
        with pytest.raises(TypeError, match=r"must be a path, got None"):
            call(None)


def test_numbers_and_arrays_of_numpy_are_settings(tmp_path):
    sizes, seed = np.array([4, 4]), np.int64(3)
    changes = {"seed": seed, "hidden_sizes": sizes, "inner_lr": np.float32(0.5), "iterations": 1}
    run = toolkit.train(
        "maml-trpo", out=tmp_path / "run", env="PointRobot:pearl", **{**AGENT, **changes}
    )
    assert run.config["seed"] == 3
    assert run.config["agent_config"]["hidden_sizes"] == [4, 4]
    assert run.config["agent_config"]["inner_lr"] == 0.5


UNGUARDED = """
import sys
import metarl
from metarl.envs import GymnasiumFamily, register_family
from metarl.envs.classic_control import CartPoleMass
class Mine(CartPoleMass):
    name, num_workers = "Mine", 1
register_family("Mine", Mine, description="x", variants=Mine.variants)
metarl.train("maml-trpo", env=f"Mine:{Mine.variants[0]}", out=sys.argv[1], progress=False,
             iterations=1, meta_batch_size=2, num_episodes=2)
"""


def test_the_error_of_a_script_imported_by_workers_states_the_remedy(tmp_path):
    script, out = tmp_path / "script.py", tmp_path / "run"
    script.write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, script, out], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "metarl.train must be called under `if __name__ == '__main__':`" in done.stderr
    assert RunDirectory.open(out).newest_checkpoint().is_file()


def test_settings_that_must_not_change_are_rejected_on_a_resume(half):
    with pytest.raises(ValueError, match=r"gamma of the run to resume is 0\.99, got 0\.5"):
        toolkit.train("maml-trpo", out=half, resume=True, gamma=0.5)
    with pytest.raises(ValueError, match="agent of the run to resume is 'maml-trpo', got 'rl2'"):
        toolkit.train("rl2", out=half, resume=True)


def test_a_folder_without_a_run_is_rejected(tmp_path):
    with pytest.raises(ValueError, match=r"run must be a directory with a config\.json, there is"):
        toolkit.Run(tmp_path)
    with pytest.raises(ValueError, match="path must be a run or a checkpoint, there is nothing at"):
        toolkit.load(tmp_path / "none")


def test_training_stops_with_an_exception_that_can_be_caught(tmp_path, monkeypatch):
    def broken(*_: object) -> dict[str, float]:
        raise KeyError("the cup is empty")

    monkeypatch.setattr(MAMLTRPO, "iterate", broken)
    with pytest.raises(toolkit.TrainingStopped, match="iteration 1 failed with KeyError"):
        toolkit.train("maml-trpo", env=make_family("PointRobot:pearl"), out=tmp_path / "r", **AGENT)


# Imports.


def test_the_package_loads_torch_only_when_it_is_used():
    code = (
        "import sys, metarl; assert 'torch' not in sys.modules; "
        "assert {'train', 'load', 'evaluate', 'report', 'Run'} <= set(dir(metarl)); "
        "from metarl import adapt, train; assert 'torch' in sys.modules; "
        "import metarl.report.build; "
        "assert callable(metarl.report); assert callable(metarl.evaluate)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_exists_and_others_do_not():
    assert all(getattr(toolkit, name) is not None for name in toolkit.__all__)
    with pytest.raises(AttributeError, match="module 'metarl' has no attribute 'tarin'"):
        toolkit.tarin  # noqa: B018 - the mistake itself


def test_progress_is_printed_unless_it_is_turned_off(tmp_path, capsys):
    quiet = {**AGENT, "env": "PointRobot:pearl", "iterations": 1}
    toolkit.train("maml-trpo", out=tmp_path / "quiet", **quiet)
    assert capsys.readouterr().out == ""
    toolkit.train("maml-trpo", out=tmp_path / "loud", **{**quiet, "progress": True})
    assert "iteration 1/1: " in capsys.readouterr().out
    assert torch.get_num_threads() == 1
