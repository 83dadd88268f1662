"""Which agents and references there are; imported when asked for."""

from __future__ import annotations

import inspect
from importlib.metadata import entry_points
from typing import Any

from metarl.registry import Entry, Registry
from metarl.rl.agent import AdaptiveAgent
from metarl.tasks.family import TaskFamily

__all__ = ["AGENTS", "REFERENCES", "fitting_references", "make_reference"]


AGENTS = Registry(
    "agent",
    (
        Entry(
            "maml-trpo",
            "metarl.agents.maml_trpo.agent:MAMLTRPO",
            "gradient steps on each task, meta-trained with a trust region (Finn et al. 2017)",
        ),
        Entry(
            "rl2",
            "metarl.agents.rl2.agent:RL2",
            "a memory that lasts over the episodes of a trial (Duan et al. 2016)",
        ),
    ),
)

REFERENCES = Registry("reference")
"""Each entry makes an agent from a family: `REFERENCES.load("ucb1")(family)`."""


def make_reference(
    name: str, family: TaskFamily, *, num_episodes: int = 1, **parameters: Any
) -> AdaptiveAgent:
    """The reference of a name for a family.

    Args:
        name: one of `REFERENCES`.
        family: what it is to play.
        num_episodes: of a trial; rules of bandits plan with it.
        parameters: of the reference; its class names them.

    Raises:
        ValueError: if there is none of the name, or it does not fit the family.
        TypeError: if a parameter is unknown.
    """
    if name not in REFERENCES:
        _load_catalogs()
    make = REFERENCES.load(name)
    if "num_episodes" in inspect.signature(make).parameters:
        parameters["num_episodes"] = num_episodes
    agent: AdaptiveAgent = make(family, **parameters)
    return agent


def fitting_references(family: TaskFamily, *, num_episodes: int = 1) -> dict[str, AdaptiveAgent]:
    """Every reference that fits a family, by name, with default parameters.

    Args:
        family: what they are to play.
        num_episodes: of a trial.
    """
    _load_catalogs()
    fitting = {}
    for entry in REFERENCES:
        try:
            fitting[entry.name] = make_reference(entry.name, family, num_episodes=num_episodes)
        except ValueError:  # it says why it does not fit
            continue
    return fitting


def _load_catalogs() -> None:
    """Import what installed packages name in the entry-point group "metarl.agents"."""
    for catalog in entry_points(group="metarl.agents"):
        catalog.load()
