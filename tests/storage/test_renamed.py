"""Files of earlier versions, in which some settings have other names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from short_runs import metarl

from metarl.agents import RL2
from metarl.envs import make_family
from metarl.experiments.data_options import stored_data
from metarl.runs.directory import RunDirectory
from metarl.runs.resume import read_run
from metarl.storage.checkpoints import load_checkpoint, read_header, save_checkpoint
from metarl.storage.renamed import RENAMED_SETTINGS, with_current_names

RESULTS = Path(__file__).parents[2] / "results"
TRAIN = (
    "train rl2 --env Bandit:n10-k5 --privileged-critic --use-expected-rewards --memory-size 4 "
    "--meta-batch-size 4 --device cpu --threads 1 --tracker none"
)


def test_only_settings_of_the_agent_are_renamed():
    stored = {"gamma": 0.9, "value_sees_task": True}
    assert with_current_names("rl2", stored) == {"gamma": 0.9, "privileged_critic": True}
    assert list(with_current_names("rl2", stored)) == ["gamma", "privileged_critic"]
    assert with_current_names("maml-trpo", stored) == stored
    assert with_current_names("fewshot-anil", {"mode": "unrolled"}) == {
        "differentiation": "unrolled"
    }
    assert with_current_names("fewshot-protonet", {"mode": 1}) == {"mode": 1}


@pytest.mark.parametrize(
    ("stored", "current"),
    [
        ({"inner_objective": "log_prob", "first_order": False}, {"estimator": "log_prob"}),
        ({"inner_objective": "likelihood_ratio"}, {"estimator": "lvc"}),
        ({"inner_objective": "log_prob", "first_order": True}, {"estimator": "first_order"}),
        ({"first_order": False}, {}),
        ({"inner_objective": ["x"]}, {"estimator": ["x"]}),
        ({"estimator": "dice"}, {"estimator": "dice"}),
    ],
)
def test_the_former_inner_objective_becomes_an_estimator(stored, current):
    assert with_current_names("maml-trpo", {"gamma": 0.9, **stored}) == {"gamma": 0.9, **current}
    assert with_current_names("rl2", stored) == stored


@pytest.mark.parametrize(
    ("folder", "estimator"),
    [("HalfCheetahVel-promp", "lvc"), ("Navigation2D-maml17", "log_prob")],
)
def test_published_results_with_an_inner_objective_load(folder, estimator):
    path = RESULTS / folder / "maml-trpo"
    header = read_header(path / "checkpoint.safetensors")
    assert header["config"]["estimator"] == estimator
    assert RunDirectory(path).config()["agent_config"]["estimator"] == estimator


def test_stored_options_of_data_sets_get_their_current_names():
    config = {"dataset_options": ["colours=L", "centre_range=[0, 1]", "path=colours"]}
    assert stored_data(config).options == ("colors=L", "center_range=[0, 1]", "path=colours")


@pytest.mark.parametrize("agent", [None, 3, [], "rl2"])
@pytest.mark.parametrize("settings", [None, 3, ["value_sees_task"]])
def test_damaged_headers_are_left_for_their_readers(agent, settings):
    assert with_current_names(agent, settings) == settings


@pytest.mark.parametrize("folder", ["Bandit-n100-k5/rl2", "TabularMDP-rl2/rl2"])
def test_published_results_with_the_old_names_load(folder):
    path = RESULTS / folder
    stored = json.loads((path / "config.json").read_text())
    assert stored["agent_config"]["value_sees_task"] is True
    agent = RL2.load(path / "checkpoint.safetensors", make_family(stored["environment"]))
    assert agent.config.privileged_critic is True
    assert agent.config.use_expected_rewards is True
    assert agent.num_iterations > 0
    settings = RunDirectory(path).config()["agent_config"]
    assert settings["privileged_critic"] is True
    assert "value_sees_task" not in settings
    assert read_run(path / "config.json").agent_config == settings


def with_old_names(run: RunDirectory) -> None:
    """Rewrite a run's files as the version before the renaming wrote them."""
    old = {new: name for name, new in RENAMED_SETTINGS["rl2"].items()}

    def renamed(settings: dict[str, object]) -> dict[str, object]:
        return {old.get(name, name): value for name, value in settings.items()}

    file = run.path / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "agent_config": renamed(config["agent_config"])}))
    for path in (*run.checkpoints.glob("*.safetensors"), run.best_checkpoint):
        tensors, header = load_checkpoint(path, agent="rl2", environment="Bandit:n10-k5")
        save_checkpoint(path, tensors, {**header, "config": renamed(header["config"])})
        assert b"value_sees_task" in path.read_bytes()
        assert read_header(path)["config"]["privileged_critic"] is True


def test_a_run_with_the_old_names_resumes_bitwise(tmp_path: Path):
    for name, iterations in (("straight", 4), ("old", 2)):
        metarl(f"{TRAIN} --iterations {iterations}", tmp_path / name)
    old, straight = (RunDirectory.open(tmp_path / name) for name in ("old", "straight"))
    with_old_names(old)
    metarl("train rl2 --resume --iterations 4 --device cpu", tmp_path / "old")
    family = make_family("Bandit:n10-k5")
    resumed, whole = (RL2.load(run.checkpoint_path(4), family) for run in (old, straight))
    assert resumed.config == whole.config
    assert all(torch.equal(resumed.params[name], whole.params[name]) for name in whole.params)
