"""Registries of agents and of reference algorithms; entries are imported when they are loaded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from metarl.registry import Entry, Registry

if TYPE_CHECKING:
    from metarl.rl.agent import Agent
    from metarl.rl.players import AdaptiveAgent
    from metarl.tasks.family import TaskFamily

__all__ = [
    "AGENTS",
    "REFERENCES",
    "fitting_references",
    "load_agent",
    "make_reference",
    "register_agent",
]

AGENTS = Registry("agent", group="metarl.agents")

REFERENCES = Registry("reference", group="metarl.agents")
"""Each entry creates an agent: `REFERENCES.load("ucb1")(family, num_episodes=2)`."""


def register_agent(agent_type: type[Agent[Any]], *, description: str) -> None:
    """Register an agent class under its `name`, for `metarl.train` and the commands.

    Args:
        agent_type: a subclass of `Agent`.
        description: one line for `metarl list`.

    Raises:
        TypeError: if it is not a subclass of `Agent`, or lacks part of its declaration.
        ValueError: if the name is taken or cannot be used.
    """
    _require_agent("agent_type", agent_type)
    AGENTS.register(Entry(agent_type.name, agent_type, description))


def load_agent(name: str) -> type[Agent[Any]]:
    """The agent class that is registered under a name.

    Raises:
        TypeError: if the entry is not a subclass of `Agent`, or lacks part of its declaration.
        ValueError: if the name is unknown, or differs from the `name` of the class.
    """
    agent_type = _require_agent(f"agent {name!r}", AGENTS.load(name))
    if agent_type.name != name:
        raise ValueError(
            f"name of {agent_type.__name__} must be {name!r}, as it is registered, "
            f"got {agent_type.name!r}"
        )
    return agent_type


def _require_agent(name: str, loaded: object) -> type[Agent[Any]]:
    from metarl.rl.agent import Agent  # imports torch, which listing agents does not need
    from metarl.rl.declaration import require_declared

    if not isinstance(loaded, type) or not issubclass(loaded, Agent):
        raise TypeError(f"{name} must be a subclass of metarl.rl.agent.Agent, got {loaded!r}")
    require_declared(loaded)
    return loaded


def make_reference(
    name: str, family: TaskFamily, *, num_episodes: int = 1, **parameters: Any
) -> AdaptiveAgent:
    """A reference algorithm for a family.

    Args:
        name: one of `REFERENCES`.
        family: the family of the tasks.
        num_episodes: episodes of a trial; some algorithms plan ahead by it.
        parameters: parameters of the algorithm, as its class defines them.

    Raises:
        ValueError: if the name is unknown, or the algorithm does not support the family.
        TypeError: if a parameter is unknown.
    """
    make = REFERENCES.load(name)
    agent: AdaptiveAgent = make(family, num_episodes=num_episodes, **parameters)
    return agent


def fitting_references(family: TaskFamily, *, num_episodes: int = 1) -> dict[str, AdaptiveAgent]:
    """All reference algorithms that support a family, by name, with default parameters.

    Args:
        family: the family of the tasks.
        num_episodes: episodes of a trial.
    """
    fitting = {}
    for entry in REFERENCES:
        try:
            fitting[entry.name] = make_reference(entry.name, family, num_episodes=num_episodes)
        except ValueError:  # the algorithm does not support the family
            continue
        except ImportError as missing:
            logging.getLogger("metarl").warning("warning: reference %s is left out", missing)
    return fitting
