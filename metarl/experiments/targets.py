"""Loading of agents to measure: runs, checkpoints, Stable-Baselines3 models and user objects."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from metarl.evaluation.protocol import EvaluationProtocol, preset
from metarl.experiments.settings import SB3Options
from metarl.locations import describe_error
from metarl.registry import LEARNER_PREFIX, import_module
from metarl.rl.agent import Agent
from metarl.rl.players import AdaptiveAgent, as_agent, unadapted
from metarl.rl.registry import load_agent
from metarl.runs.directory import RunDirectory
from metarl.runs.seeds import TrainedRun, expanded, require_one_experiment, run_names
from metarl.storage.checkpoints import read_header
from metarl.tasks.family import TaskFamily
from metarl.tasks.registry import make_family

__all__ = ["Targets", "fixed_agents", "load_targets", "untrained_agents"]

_SCRATCH, _SCRATCH_AGENT = "from scratch", "maml-trpo"


@dataclass(frozen=True)
class Targets:
    """Runs of one agent, and the family to measure them in."""

    kind: str
    """Name of the agent, for tables."""
    family: TaskFamily
    agents: Mapping[str, AdaptiveAgent]
    """The runs by name."""

    @property
    def protocol(self) -> EvaluationProtocol:
        """The default protocol: maml, or rl2 if the agents have a memory."""
        agents = self.agents.values()
        if not all(agent.remembers for agent in agents):
            return preset("maml")
        chosen = preset("rl2")
        trials = {agent.num_episodes_per_trial for agent in agents if isinstance(agent, Agent)}
        episodes = max((count for count in trials if count is not None), default=None)
        return chosen if episodes is None else replace(chosen, adaptation_steps=episodes - 1)


def load_targets(
    targets: Sequence[str | AdaptiveAgent],
    *,
    env: str | None = None,
    sb3: SB3Options | None = None,
    device: torch.device | str = "cpu",
) -> Targets:
    """Load the targets of a command line or a program.

    Args:
        targets: each a directory of a run, or of several seeds; a checkpoint; a model of
            Stable-Baselines3, MODEL.zip; module:attribute; or an agent itself.
        env: family and variant to measure the agents in; None: the family of the runs.
        sb3: how to load MODEL.zip.
        device: device of the agents.

    Raises:
        ValueError: if a target does not exist or cannot be used, or the targets are different
            agents or of different environments.
    """
    if not targets:
        raise ValueError("target must be given; metarl evaluate --help describes targets")
    words = [target for target in targets if isinstance(target, str)]
    live = [target for target in targets if not isinstance(target, str)]
    if words and live:
        raise ValueError("targets must be either all stored or all agents in memory, got both")
    singles = [single for word in words for single in expanded(word)]
    family = None if env is None else make_family(env)
    loaded = [_load(single, family, sb3 or SB3Options(), device) for single in singles]
    loaded += [_live(agent, family) for agent in live]
    for name in ("kind", "environment"):
        found = sorted({getattr(one, name) for one in loaded})
        if len(found) > 1:
            raise ValueError(
                f"targets must be of one {name.replace('kind', 'kind of agent')}, "
                f"got {' and '.join(found)}; evaluate them separately"
            )
    names = run_names(singles) if words else _live_names(loaded)
    if len(set(names)) < len(names):
        raise ValueError(f"targets must differ, got {' '.join(words)}")
    trained = [one.trained for one in loaded if one.trained is not None]
    if trained:
        require_one_experiment(
            singles, [TrainedRun(run.config, run.num_iterations, run.seed) for run in trained]
        )
    agents = {name: one.agent for name, one in zip(names, loaded, strict=True)}
    return Targets(loaded[0].kind, loaded[0].family, agents)


def fixed_agents(targets: Targets) -> dict[str, AdaptiveAgent]:
    """The agents without adaptation.

    Raises:
        ValueError: if an agent has a memory.
    """
    return {name: unadapted(agent) for name, agent in targets.agents.items()}


def untrained_agents(
    targets: Targets, *, seed: int, device: torch.device | str
) -> dict[str, AdaptiveAgent]:
    """Untrained agents that learn each task from scratch, with the same data as the targets.

    These are the targets themselves before training, if they can adapt then
    (`Agent.can_adapt_untrained`). Otherwise, as for agents with a memory, it is an untrained
    MAML-TRPO agent with default settings.
    """
    untrained: dict[str, AdaptiveAgent] = {
        name: agent.untrained(family=targets.family, device=device)
        for name, agent in targets.agents.items()
        if isinstance(agent, Agent) and agent.can_adapt_untrained
    }
    if untrained:
        return untrained
    return {_SCRATCH: load_agent(_SCRATCH_AGENT)(targets.family, seed=seed, device=device)}


def _live_names(loaded: Sequence[_Loaded]) -> list[str]:
    kinds = [one.kind for one in loaded]
    return kinds if len(kinds) == 1 else [f"{kind} {k + 1}" for k, kind in enumerate(kinds)]


@dataclass(frozen=True)
class _Loaded:
    kind: str
    environment: str
    """Id of the family that the agent was trained on."""
    family: TaskFamily
    """Family to measure the agent in."""
    agent: AdaptiveAgent
    trained: Agent[Any] | None = None
    """The same agent, if it was trained by this library."""


def _load(
    word: str, family: TaskFamily | None, options: SB3Options, device: torch.device | str
) -> _Loaded:
    path = Path(word)
    if path.exists():
        if path.suffix != ".zip":
            return _load_run(path, family, device)
        if options.sb3 is None:
            raise ValueError(
                f"sb3 must name the class of the model {path}, such as --sb3 PPO; load models only "
                "from sources that you trust, because loading can run arbitrary code"
            )
        from metarl.bridges.sb3_agent import load_sb3_agent

        family = _given_family(family, word)
        agent = load_sb3_agent(
            path,
            options.sb3,
            family,
            device=device,
            normalization=options.sb3_normalization,
            frame_stack=options.sb3_frame_stack,
        )
        return _Loaded(options.sb3, family.id, family, agent)
    if ":" in word:
        family = _given_family(family, word)
        return _Loaded(word, family.id, family, _own_agent(word, family))
    raise ValueError(
        f"target must be a directory, a checkpoint or module:attribute, there is nothing at {word}"
    )


def _load_run(path: Path, family: TaskFamily | None, device: torch.device | str) -> _Loaded:
    checkpoint = RunDirectory.open(path).newest_checkpoint() if path.is_dir() else path
    header = read_header(checkpoint)
    kind, environment = header.get("agent"), header.get("environment")
    if not isinstance(kind, str) or not isinstance(environment, str):
        raise ValueError(
            f"checkpoint {checkpoint} does not name its agent and environment, so it cannot be used"
        )
    if kind.startswith(LEARNER_PREFIX):
        raise ValueError(f"target must be of an agent, {path} is of {kind!r}, a few-shot learner")
    made_for = make_family(environment)
    agent: Agent[Any] = load_agent(kind).load(checkpoint, made_for, device=device)
    if family is not None:
        _require_equal_spaces(made_for, family)
    return _Loaded(kind, environment, family or made_for, agent, trained=agent)


def _live(agent: AdaptiveAgent, family: TaskFamily | None) -> _Loaded:
    """An agent object, to measure in the given family or in the agent's own family."""
    if not callable(getattr(agent, "play", None)):
        raise TypeError(
            "target must be a path, module:attribute, or an agent with a method play, got "
            f"type {type(agent).__name__}; metarl.rl.players.as_agent converts other objects"
        )
    kind = str(getattr(agent, "name", type(agent).__name__))
    made_for = getattr(agent, "family", None)
    if isinstance(made_for, TaskFamily) and family is not None:
        _require_equal_spaces(made_for, family)
    chosen = family or made_for
    if not isinstance(chosen, TaskFamily):
        raise ValueError("env must be given to measure this agent: a family and its variant")
    return _Loaded(kind, chosen.id, chosen, agent)


def _require_equal_spaces(made_for: TaskFamily, family: TaskFamily) -> None:
    for name in ("observation_space", "action_space"):
        needed, found = getattr(made_for, name), getattr(family, name)
        if needed != found:
            raise ValueError(
                f"env must have the {name} of {made_for.id}, which the agent was trained on, "
                f"{needed}; {family.id} has {found}"
            )


def _given_family(family: TaskFamily | None, word: str) -> TaskFamily:
    if family is None:
        raise ValueError(f"--env must be given to measure {word}: a family and its variant")
    return family


def _own_agent(word: str, family: TaskFamily) -> AdaptiveAgent:
    """The agent that `module:attribute` returns for a family."""
    module_name, _, attribute = word.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    module = import_module(module_name, option="target")
    make = getattr(module, attribute, None)
    if not callable(make):
        raise ValueError(
            f"target must name something in module {module_name!r} that can be called with the "
            f"family, got {attribute!r}"
        )
    made = _made(word, make, family)
    if hasattr(made, "play"):
        agent: AdaptiveAgent = made
        return agent
    if hasattr(made, "act"):  # a new object for each measurement, since it may learn
        return as_agent(lambda *_: _made(word, make, family))
    if callable(made):
        return as_agent(made)
    raise ValueError(
        f"{word} must give an agent with a method play, an object with a method act, or a "
        f"function (num_tasks, num_envs) of such objects, got one of type {type(made).__name__}"
    )


def _made(word: str, make: Callable[[TaskFamily], Any], family: TaskFamily) -> Any:
    try:
        return make(family)
    except Exception as error:  # the user's own code may fail in any way
        raise ValueError(f"{word} failed: {describe_error(error)}") from error
