"""Two training iterations of every agent and few-shot learner under a default dtype of torch.

`python -m tests.support.dtype_runs float64` prints a JSON object: a digest by case. The default is
set before metarl is imported, so that constants of its modules are created under it as well.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace

import torch
from torch import Tensor

if __name__ == "__main__":
    torch.set_default_dtype(getattr(torch, sys.argv[1]))
    torch.set_num_threads(1)

from metarl.agents.catalog import AGENTS
from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.fewshot.datasets.catalog import make_tasks
from metarl.fewshot.learners.catalog import LEARNERS
from metarl.fewshot.training import FewShotTraining
from metarl.rl.players import AdaptiveAgent
from metarl.rl.registry import load_agent
from metarl.tasks.family import TaskFamily
from metarl.tasks.registry import make_family

_FAMILIES = (
    "HalfCheetahVel:maml17", "PointRobot:pearl", "GridNavigation:varibad", "Bandit:n10-k5",
    "DependentBandit:easy", "ElevenArmBandit:wang16", "TabularMDP:rl2",
)  # fmt: skip
_MEMORIES = ("lstm", "transformer", "none")
_SMALL_AGENT = {"meta_batch_size": 2, "num_episodes": 2, "hidden_sizes": (4,), "num_minibatches": 2}
_SMALL_LEARNER = {
    "meta_batch_size": 2, "ways": 3, "shots": 1, "queries": 2, "filters": (4, 4),
    "hidden_sizes": (4,), "decay_iterations": 10,
}  # fmt: skip
_PROTOCOL = EvaluationProtocol(
    num_tasks=2, adaptation_steps=1, exploration_episodes=2, evaluation_episodes=2
)


def digests() -> dict[str, str]:
    """A digest of parameters, metrics and evaluation for each case."""
    return dict(_all())


def _all() -> Iterator[tuple[str, str]]:
    for entry in AGENTS:
        for family in _FAMILIES:
            yield f"{entry.name} {family}", _agent(entry.name, family)
    for memory in _MEMORIES:
        yield f"rl2 {memory}", _agent("rl2", "GridNavigation:varibad", memory=memory)
    for entry in LEARNERS:
        yield f"{entry.name} glyphs", _learner(entry.name, "glyphs")
    yield "maml sinusoid", _learner("maml", "sinusoid")
    yield "cavia harmonic", _learner("cavia", "harmonic")


def _agent(name: str, family_id: str, **settings: object) -> str:
    agent_type, family = load_agent(name), make_family(family_id)
    agent = agent_type(family, _settings(agent_type.config_type, _SMALL_AGENT | settings), seed=1)
    agent.iterate()
    metrics = agent.iterate()
    returns = [] if settings else _returns(agent, family)
    agent.close()
    return _digest(agent.params, {**metrics, "return": returns})


def _returns(agent: AdaptiveAgent, family: TaskFamily) -> list[list[float]]:
    """The mean return of each stage and task."""
    found = evaluate(agent, family, _PROTOCOL)
    return [found.scores(stage).ravel().tolist() for stage in range(len(found.stages))]


def _learner(name: str, dataset: str) -> str:
    config = _settings(LEARNERS.load(name).config_type, _SMALL_LEARNER)
    training = FewShotTraining(name, make_tasks(dataset), config, seed=1)
    training.iterate()
    return _digest(training.params, training.iterate())


def _settings(config_type: type, values: Mapping[str, object]) -> object:
    known = {field.name for field in fields(config_type)} & set(values)
    if getattr(config_type(), "schedule", "constant") == "constant":
        known -= {"decay_iterations"}
    return replace(config_type(), **{name: values[name] for name in known})


def _digest(params: Mapping[str, Tensor], numbers: Mapping[str, object]) -> str:
    held = hashlib.sha256()
    for name, value in sorted(params.items()):
        assert value.dtype == torch.float32, f"{name} is {value.dtype}"
        held.update(name.encode() + value.detach().numpy().tobytes())
    kept = {k: str(v) for k, v in numbers.items() if not k.startswith("time/")}
    held.update(json.dumps(kept).encode())
    return held.hexdigest()


if __name__ == "__main__":
    print(json.dumps(digests()))
