"""Families on environments of other packages: checked, trained on, evaluated, and played."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest
import torch

import metarl
from metarl.envs import FAMILIES, make_family
from metarl.rollouts.actors import random_actor
from metarl.soundness.check import check_family

EXAMPLES = Path(__file__).parents[3] / "scripts" / "examples"
FAMILIES_OF_OTHERS = {
    "family_switches": ("Switches:four", "gymnasium"),
    "family_minigrid": ("MiniGridCrossing:small", "minigrid"),
    "family_popgym": ("POPCartPole:easy", "popgym"),
    "family_highway": ("HighwaySpeed:fast", "highway_env"),
    "family_car_racing": ("CarSteering:either", "Box2D"),
}


@pytest.fixture(params=FAMILIES_OF_OTHERS)
def family_id(request, monkeypatch) -> Iterator[str]:
    """The id of a family whose package is installed."""
    name, package = FAMILIES_OF_OTHERS[request.param]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as an error, a warning of Box2D ends the process
        importlib.import_module(package)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(FAMILIES, "_entries", dict(FAMILIES._entries))
    before = set(gymnasium.registry)
    importlib.import_module(request.param)
    yield name
    del sys.modules[request.param]
    for env_id in set(gymnasium.registry) - before:
        del gymnasium.registry[env_id]


def test_the_family_is_short(family_id):
    source = Path(sys.modules[type(make_family(family_id)).__module__].__file__).read_text()
    _, _, family = source.rpartition("(GymnasiumFamily):")
    lines = [line for line in family.splitlines() if line.strip()]
    assert len(lines) < 24


def test_the_family_is_sound(family_id):
    family = make_family(family_id)
    family.num_workers = 0
    if family_id.startswith(("CarSteering", "HighwaySpeed")):
        pytest.skip("its steps are slow, so that all promises take minutes")
    broken = [check for check in check_family(family, num_envs=2) if check.outcome == "failed"]
    assert broken == []


def test_its_environments_step(family_id):
    family = make_family(family_id)
    batch = family.make_batch(family.sample_tasks(1, seed=0), num_envs=1)
    first = batch.reset(torch.Generator())
    step = batch.step(random_actor(batch, torch.Generator())(first))
    assert step.observations.shape == first.shape == (1, 1, *family.observation_space.shape)
    assert batch.render(0, 0).ndim == 3
    batch.close()


@pytest.mark.parametrize("agent", ["rl2", "maml-trpo"])
def test_agents_train_on_it_and_are_evaluated(family_id, agent, tmp_path):
    if not family_id.startswith(("Switches", "MiniGrid")):
        pytest.skip("one light package is enough")
    settings = {"meta_batch_size": 4, "num_episodes": 2, "iterations": 1}
    run = metarl.train(agent, env=family_id, out=tmp_path / "run", **settings)
    (evaluation,) = run.evaluate(num_tasks=2)
    assert evaluation.environment == family_id
