"""Which agents there are; nothing is imported until an agent is asked for."""

from __future__ import annotations

from metarl.registry import Entry, Registry

__all__ = ["AGENTS"]

AGENTS = Registry(
    "agent",
    (
        Entry(
            "maml-trpo",
            "metarl.agents.maml_trpo:MAMLTRPO",
            "gradient steps on each task, meta-trained with a trust region (Finn et al. 2017)",
        ),
        Entry(
            "rl2",
            "metarl.agents.rl2:RL2",
            "a memory that lasts over the episodes of a trial (Duan et al. 2016)",
        ),
    ),
)
