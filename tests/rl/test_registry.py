"""Registering and loading agents by name."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_agent import TinyAgent

from metarl.rl.registry import AGENTS, load_agent, register_agent


class Plain:
    name = "plain"


@pytest.mark.parametrize("given", [Plain, TinyAgent.__new__(TinyAgent), None, "tiny"])
def test_only_classes_of_agents_are_registered(given: Any):
    with pytest.raises(TypeError, match=r"agent_type must be a subclass of metarl.rl.agent.Agent"):
        register_agent(given, description="x")
    assert "plain" not in AGENTS


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": None}, "name of Changed must be a string"),
        ({"name": "changed", "config_type": None}, "config_type of Changed must be a dataclass"),
    ],
)
def test_agents_without_a_declaration_are_not_registered(changed, message):
    with pytest.raises(TypeError, match=message):
        register_agent(type("Changed", (TinyAgent,), changed), description="x")
    assert "changed" not in AGENTS


def test_a_registered_agent_is_loaded_by_its_name(monkeypatch):
    monkeypatch.setattr(AGENTS, "_entries", dict(AGENTS._entries))
    register_agent(TinyAgent, description="x")
    assert load_agent("tiny") is TinyAgent
