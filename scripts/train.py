"""Train an agent on a task family: `metarl train`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field
from typing import Any

import tyro

from metarl.agents import AGENTS
from metarl.console import plain_console
from metarl.progress import Activity
from metarl.scripts.command_line import choose, fail, given_options, parse, run

__all__ = ["exit_if_stopped", "main"]


def main(arguments: Sequence[str]) -> None:
    """The command `metarl train`."""
    with Activity("importing plug-ins", prints_lines=False):
        agents = {entry.name: entry.description for entry in AGENTS}
    _train(choose("agent", arguments, agents, program="metarl train"), arguments[1:])


def _train(name: str, arguments: Sequence[str]) -> None:
    """Train an agent; imports torch, which listing the agents does not need."""
    with Activity(f"importing agent {name}", prints_lines=False):
        from metarl.experiments.train_agent import AgentExperiment, TrainConfig
        from metarl.experiments.training import train
        from metarl.rl.registry import load_agent

        config_type: Any = load_agent(name).config_type
    options: Any = tyro.conf.OmitArgPrefixes[config_type]  # type: ignore[misc] # known at run time
    whole = dataclasses.make_dataclass(
        "Train",
        [("agent", options, field(default_factory=config_type))],
        bases=(TrainConfig,),
        frozen=True,
    )
    whole.__doc__ = TrainConfig.__doc__
    config: Any = parse(whole, arguments, program=f"metarl train {name}")
    experiment = AgentExperiment(name, config, config.agent)
    with exit_if_stopped():
        train(experiment, given=given_options(arguments), console=plain_console())


@contextmanager
def exit_if_stopped() -> Iterator[None]:
    """Exit with the message and the code of training that stopped early."""
    from metarl.runs.loop import TrainingStopped

    try:
        yield
    except TrainingStopped as stop:
        if os.environ.get("METARL_DEBUG"):
            raise
        fail(str(stop), code=stop.exit_code)


if __name__ == "__main__":
    run(main)
