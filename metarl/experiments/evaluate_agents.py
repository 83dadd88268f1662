"""Evaluation of trained agents on unseen tasks."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated

import tyro

from metarl.devices import DeviceName, resolve_device
from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.protocol import EvaluationProtocol, preset
from metarl.evaluation.results import Evaluation
from metarl.experiments.settings import SB3Options
from metarl.experiments.targets import Targets, fixed_agents, load_targets, untrained_agents
from metarl.progress import Progress, ignore_progress
from metarl.rl.players import AdaptiveAgent
from metarl.rl.registry import fitting_references, make_reference
from metarl.runs.directory import RunDirectory
from metarl.storage.files import require_output_file

__all__ = ["EvaluateAgentsConfig", "evaluate_agents"]


@dataclass(frozen=True)
class EvaluateAgentsConfig(SB3Options):
    """Measure the return of agents before and after each adaptation step.

    A TARGET is the directory of a run or of several seeds; a checkpoint; MODEL.zip of
    Stable-Baselines3, with --sb3 and --env; or module:attribute, with --env. The attribute is a
    function of the family that returns an agent, an object with act(observations) and optionally
    adapt(episodes), or a function (num_tasks, num_envs) that returns such an object. Several
    targets must be runs of one agent. Out-of-distribution splits are also measured, unless --split
    is given. Runs of few-shot learners have other options, such as --ways, --shots, --queries and
    --steps; metarl evaluate RUN --help lists them.
    """

    targets: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="TARGET ...", help_behavior_hint="(required)"),
    ]
    """Runs, checkpoints or agents to measure."""
    preset: str | None = None
    """Published protocol that sets the defaults of the protocol options: maml (the values shown
    below), pearl, rl2, varibad or metaworld. None: maml; for agents with a memory, rl2 with as
    many episodes as in training."""
    protocol: tyro.conf.OmitArgPrefixes[EvaluationProtocol] = field(
        default_factory=EvaluationProtocol
    )
    env: Annotated[str | None, tyro.conf.arg(metavar="FAMILY:VARIANT")] = None
    """Task family and its variant. None: the one of the run; another one must have the same
    observation and action spaces."""
    multi_task: str | None = None
    """Another target, such as a policy trained on all tasks, to measure without adaptation."""
    scratch: bool = False
    """Also measure policies that learn each task from scratch: untrained, with the adaptation steps
    of MAML-TRPO."""
    references: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """Reference algorithms that are also measured, as listed by `metarl list references`, or
    "all" for all that support the family."""
    device: DeviceName = "auto"
    """Device of the agents."""
    json: Path | None = None
    """File for raw returns and statistics. None: evaluation.json in the folder of the run, which is
    replaced; nothing is written for several targets, published runs, and with --env."""
    plot: Path | None = None
    """File for a figure of the adaptation curve (PNG)."""

    def check_consistency(self) -> None:
        """Reject an unknown preset, invalid output files, and sb3 without a model."""
        super().check_consistency()
        if self.preset is not None:
            preset(self.preset)
        for name in ("json", "plot"):
            path = getattr(self, name)
            if path is not None:
                require_output_file(name, path)
        own = self.own_run
        if own is not None and not own.is_published and not os.access(own.path, os.W_OK):
            raise ValueError(f"json must be given, since {own.path} cannot be written to")
        if self.plot is not None and self.plot.suffix.lower() != ".png":
            raise ValueError(f"plot must be a file NAME.png, got {self.plot}")
        models = [word for word in (*self.targets, self.multi_task or "") if word.endswith(".zip")]
        if self.sb3 is not None and not models:
            raise ValueError("sb3 needs a target MODEL.zip, got none")

    @property
    def json_file(self) -> Path | None:
        """The file to write, or None."""
        own = self.own_run
        if own is not None and not own.is_published:
            return own.path / "evaluation.json"
        return self.json

    @property
    def own_run(self) -> RunDirectory | None:
        """The run whose evaluation.json is the default file; None if there is none."""
        is_own = self.json is None and self.env is None and len(self.targets) == 1
        if is_own and Path(self.targets[0]).is_dir():
            return RunDirectory(Path(self.targets[0]))
        return None


def evaluate_agents(
    config: EvaluateAgentsConfig,
    *,
    given: Collection[str] = (),
    live: Sequence[AdaptiveAgent] = (),
    progress: Progress = ignore_progress,
) -> list[Evaluation]:
    """Load the targets and measure them on each split.

    Args:
        config: what to measure and how.
        given: names of the given settings; the preset decides the rest of the protocol.
        live: agents to measure instead of `config.targets`.
        progress: called before each agent and reference is measured.

    Raises:
        ValueError: if a target cannot be used, or a setting does not fit.
    """
    device = resolve_device(config.device)
    progress("loading the agents")
    targets = load_targets((*config.targets, *live), env=config.env, sb3=config, device=device)
    protocol = _protocol(config, targets, given)
    progress("preparing the references")
    if "references" in given and not config.references:
        raise ValueError(
            "references must name algorithms, as metarl list references shows them, or all; "
            "got none"
        )
    references = _references(config, targets, protocol)
    family = targets.family
    splits = (protocol.split, *(() if "split" in given else family.ood_splits))
    return [
        evaluate(
            targets.agents,
            family,
            replace(protocol, split=split),
            name=targets.kind,
            references=references,
            device=device,
            progress=progress,
        )
        for split in dict.fromkeys(splits)
    ]


def _protocol(
    config: EvaluateAgentsConfig, targets: Targets, given: Collection[str]
) -> EvaluationProtocol:
    """The protocol of the preset, with the given settings replaced."""
    chosen = targets.protocol if config.preset is None else preset(config.preset)
    names = {part.name for part in fields(EvaluationProtocol)} & set(given)
    return replace(chosen, **{name: getattr(config.protocol, name) for name in names})


def _references(
    config: EvaluateAgentsConfig, targets: Targets, protocol: EvaluationProtocol
) -> dict[str, Mapping[str, AdaptiveAgent]]:
    """The reference agents to measure in addition to the targets."""
    device, family = resolve_device(config.device), targets.family
    others: dict[str, Mapping[str, AdaptiveAgent]] = {}
    if config.multi_task is not None:
        found = load_targets((config.multi_task,), env=family.id, sb3=config, device=device)
        others["multi-task"] = fixed_agents(found)
    if config.scratch:
        others["from scratch"] = untrained_agents(targets, seed=protocol.seed, device=device)
    episodes = protocol.episodes_before(protocol.adaptation_steps) + protocol.evaluation_episodes
    if config.references == ("all",):
        known = fitting_references(family, num_episodes=episodes)
    else:
        known = {
            name: make_reference(name, family, num_episodes=episodes) for name in config.references
        }
    return others | {name: {name: agent} for name, agent in known.items()}
