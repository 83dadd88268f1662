"""The example: RecurrentPPO trains on trials unchanged, and is measured like any other agent."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

pytest.importorskip("sb3_contrib")

from metarl.evaluation.files import read_evaluations
from metarl.scripts.cli import dispatch
from metarl.scripts.examples.train_recurrent_ppo import main


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory):
    """A run of a few hundred steps."""
    path = tmp_path_factory.mktemp("recurrent") / "run"
    options = "--num-envs 4 --num-steps 120 --num-tasks 5 --num-episodes 3 --seed 4"
    main([*options.split(), "--out", str(path)])
    return path


def test_it_writes_a_model_and_the_return_of_each_episode(out):
    (evaluation,) = read_evaluations(out / "evaluation.json")
    assert evaluation.environment == "Bandit:n10-k5"
    assert evaluation.agent == "RecurrentPPO"
    assert evaluation.stages == ("episode 1", "episode 2", "episode 3")
    assert evaluation.measured.returns.shape == (1, 3, 5, 1)


def test_the_model_it_wrote_is_measured_by_the_command_to_the_same_numbers(out, tmp_path):
    line = f"evaluate {out / 'model.zip'} --sb3 RecurrentPPO --env Bandit:n10-k5 --seed 4"
    rest = f"--num-tasks 5 --adaptation-steps 2 --device cpu --json {tmp_path / 'a.json'}"
    dispatch([*line.split(), *rest.split()])
    (first,), (second,) = (
        read_evaluations(file) for file in (out / "evaluation.json", tmp_path / "a.json")
    )
    np.testing.assert_array_equal(second.measured.returns, first.measured.returns)
    assert second.runs == ("model.zip",)


def test_the_command_names_the_options_that_a_model_needs(out):
    model = str(out / "model.zip")
    with pytest.raises(
        ValueError, match=r"sb3 must name the class of the model .*only from sources that"
    ):
        dispatch(["evaluate", model, "--env", "Bandit:n10-k5"])
    with pytest.raises(ValueError, match=r"--env must be given to measure .*model\.zip: a family"):
        dispatch(["evaluate", model, "--sb3", "RecurrentPPO"])
    with pytest.raises(ValueError, match="the model's actions must match Bandit:n10-k10"):
        dispatch(["evaluate", model, "--sb3", "RecurrentPPO", "--env", "Bandit:n10-k10"])


def test_a_model_can_be_the_policy_for_all_tasks_of_others_if_it_has_no_memory(out):
    line = "evaluate OUT --sb3 RecurrentPPO --env Bandit:n10-k5 --multi-task OUT --num-tasks 2"
    with pytest.raises(ValueError, match="agent must not have a memory"):
        dispatch(line.replace("OUT", str(out / "model.zip")).split())


def test_settings_out_of_range_are_rejected(out):
    with pytest.raises(ValueError, match=f"out must be a new directory, {re.escape(str(out))} ex"):
        main(["--out", str(out)])
    with pytest.raises(ValueError, match="num_episodes must be 1 or more, got 0"):
        main(["--out", "nowhere", "--num-episodes", "0"])


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(ImportError, match="needs sb3-contrib: pip install sb3-contrib"):
        main(["--out", str(tmp_path / "run")])
    assert not list(tmp_path.iterdir())
