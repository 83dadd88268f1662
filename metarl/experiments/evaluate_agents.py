"""Adapt trained agents to unseen tasks and measure them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated

import tyro

from metarl.devices import DeviceName, resolve_device
from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.protocol import EvaluationProtocol, preset
from metarl.evaluation.results import Evaluation
from metarl.experiments.targets import Targets, fixed_agents, load_targets, untrained_agents
from metarl.rl.players import AdaptiveAgent
from metarl.rl.registry import fitting_references, make_reference
from metarl.runs.directory import RunDirectory
from metarl.storage.files import require_output_file
from metarl.validation import Settings

__all__ = ["EvaluateAgentsConfig", "evaluate_agents"]


@dataclass(frozen=True)
class EvaluateAgentsConfig(Settings):
    """Measure agents before and after each adaptation step, or episode by episode.

    A TARGET is the directory of a run, or of several seeds; a checkpoint; MODEL.zip of
    Stable-Baselines3, with --sb3 and --env; or module:attribute, with --env: something that,
    called with the family, gives an agent, an object with act(observations) and perhaps
    adapt(episodes), or a function (num_tasks, num_envs) of such objects. Several targets are
    runs of one agent. Splits outside the training distribution are also measured, unless
    --split names one. Runs of few-shot learners have different options, including --ways, --shots,
    --queries and --steps: metarl evaluate RUN --help lists them.
    """

    targets: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="TARGET ...")]
    """Runs, checkpoints or agents to measure."""
    preset: str | None = None
    """Defaults of the options below: maml (as shown), pearl, varibad or metaworld. None: maml, or
    for agents with a memory varibad with as many episodes as they were trained on."""
    protocol: tyro.conf.OmitArgPrefixes[EvaluationProtocol] = field(
        default_factory=EvaluationProtocol
    )
    env: str | None = None
    """Family and variant; None: the run's. Another one must have the same spaces."""
    multi_task: str | None = None
    """Also measure this target, a policy trained on all tasks, without adaptation."""
    scratch: bool = False
    """Also measure an untrained policy for each task, which takes MAML-TRPO's steps on the same
    test data."""
    references: tuple[str, ...] = ()
    """Also measure known algorithms, as `metarl list references` names them, or all that fit."""
    sb3: str | None = None
    """Class of targets MODEL.zip, such as PPO, or RecurrentPPO of sb3-contrib. Open such a file
    only if you trust its source: loading it can run any code."""
    device: DeviceName = "auto"
    """Device of the agents."""
    json: Path | None = None
    """Write raw returns and statistics here; None: to evaluation.json in the target if it is one
    directory that is not a published one and --env is not given."""
    plot: Path | None = None
    """Write a figure of the adaptation curve here (PNG)."""

    def check_combinations(self) -> None:
        """Reject an unknown preset, places that cannot be written to, and sb3 without a model."""
        super().check_combinations()
        if self.preset is not None:
            preset(self.preset)
        for name in ("json", "plot"):
            path = getattr(self, name)
            if path is not None:
                require_output_file(name, path)
        if self.plot is not None and self.plot.suffix.lower() != ".png":
            raise ValueError(f"plot must be a file NAME.png, got {self.plot}")
        models = [word for word in (*self.targets, self.multi_task or "") if word.endswith(".zip")]
        if self.sb3 is not None and not models:
            raise ValueError("sb3 must come with a target MODEL.zip, got none")

    @property
    def json_file(self) -> Path | None:
        """File for the numbers; that of a run holds only its returns where it was trained."""
        own = self.own_run
        if own is not None and not own.is_published:
            return own.path / "evaluation.json"
        return self.json

    @property
    def own_run(self) -> RunDirectory | None:
        """The run whose evaluation.json would hold the numbers; None if they go elsewhere."""
        is_own = self.json is None and self.env is None and len(self.targets) == 1
        if is_own and Path(self.targets[0]).is_dir():
            return RunDirectory(Path(self.targets[0]))
        return None


def evaluate_agents(
    config: EvaluateAgentsConfig,
    *,
    given: Collection[str] = (),
    live: Sequence[AdaptiveAgent] = (),
) -> list[Evaluation]:
    """Load the targets and measure them on each split.

    Args:
        config: what to measure and how.
        given: names of the settings that were given; the rest of the protocol is the preset's.
        live: agents to measure instead of `config.targets`.

    Raises:
        ValueError: if a target cannot be used, or a setting does not fit.
    """
    device = resolve_device(config.device)
    targets = load_targets((*config.targets, *live), env=config.env, sb3=config.sb3, device=device)
    protocol = _protocol(config, targets, given)
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
        )
        for split in dict.fromkeys(splits)
    ]


def _protocol(
    config: EvaluateAgentsConfig, targets: Targets, given: Collection[str]
) -> EvaluationProtocol:
    """That of the preset, with what was named in its place."""
    chosen = targets.protocol if config.preset is None else preset(config.preset)
    names = {part.name for part in fields(EvaluationProtocol)} & set(given)
    return replace(chosen, **{name: getattr(config.protocol, name) for name in names})


def _references(
    config: EvaluateAgentsConfig, targets: Targets, protocol: EvaluationProtocol
) -> dict[str, Mapping[str, AdaptiveAgent]]:
    """The agents to measure beside the targets."""
    device, family = resolve_device(config.device), targets.family
    others: dict[str, Mapping[str, AdaptiveAgent]] = {}
    if config.multi_task is not None:
        found = load_targets((config.multi_task,), env=family.id, sb3=config.sb3, device=device)
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
