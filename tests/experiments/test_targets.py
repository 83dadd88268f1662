"""The command `metarl evaluate` with agents of a user."""

from __future__ import annotations

import numpy as np
import pytest
from evaluate_command import FAMILY, SMALL, metarl, read, write_module


@pytest.mark.parametrize("attribute", ["Still", "factory"])
def test_an_object_of_a_user_is_measured(tmp_path, monkeypatch, attribute):
    write_module(tmp_path, monkeypatch, "own_agents")
    line = f"evaluate own_agents:{attribute} --env Navigation2D:maml17 {SMALL} --device cpu"
    metarl(f"{line} --json OUT", tmp_path / "a.json")
    got = read(tmp_path / "a.json")
    assert got.agent == f"own_agents:{attribute}"
    still, walks = -np.hypot(*got.task_parameters.T) * FAMILY.horizon, got.scores(2)[0]
    np.testing.assert_allclose(got.scores(0)[0], still, rtol=1e-5)
    assert (walks != still).all()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("own:nothing", "target must name something in module 'own' that can be .*, got 'nothing'"),
        ("own:number", "that can be called with the family, got 'number'"),
        ("own:broken", "own:broken failed: KeyError: 'Navigation2D:maml17'"),
        ("own:odd", "own:odd must give an agent with a method play, .* got one of type int"),
        ("no_such:thing", "target must be the name of an existing module, got 'no_such'"),
        ("a/b:thing", "target must be the name of a module, as in an import statement, got 'a/b'"),
    ],
)
def test_other_objects_than_agents_are_rejected(tmp_path, monkeypatch, target, message):
    write_module(tmp_path, monkeypatch, "own")
    with pytest.raises(ValueError, match=message):
        metarl(f"evaluate {target} --env Navigation2D:maml17")


def test_an_agent_of_a_user_needs_an_environment(tmp_path, monkeypatch):
    write_module(tmp_path, monkeypatch, "own")
    with pytest.raises(ValueError, match="--env must be given to measure own:Still: a family and"):
        metarl("evaluate own:Still")
