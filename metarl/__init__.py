"""metarl: agents that learn to adapt. The core of the toolkit; see also metarl.envs and .agents.

Names are imported when they are first used, so that `import metarl` does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metarl.bilevel.adaptation import adapt
    from metarl.bilevel.inner_loop import InnerLoop, PerStep
    from metarl.bilevel.meta_gradients import meta_gradient
    from metarl.bilevel.rules import sgd
    from metarl.bilevel.steps import inner_step
    from metarl.experiments.evaluation import evaluate
    from metarl.experiments.run import Run, load, train
    from metarl.fewshot.learners.catalog import register_learner
    from metarl.parameters import Params
    from metarl.report.build import write_report as report
    from metarl.report.compare import compare
    from metarl.rl.agent import Agent, Iteration
    from metarl.rl.deployment import DeployedAgent
    from metarl.rl.registry import register_agent
    from metarl.rollouts.episodes import Episodes, collect
    from metarl.runs.loop import TrainingStopped
    from metarl.tasks.family import BatchEnv, Step, TaskFamily
    from metarl.tasks.registry import register_family

__all__ = [
    "Agent",
    "BatchEnv",
    "DeployedAgent",
    "Episodes",
    "InnerLoop",
    "Iteration",
    "Params",
    "PerStep",
    "Run",
    "Step",
    "TaskFamily",
    "TrainingStopped",
    "adapt",
    "collect",
    "compare",
    "evaluate",
    "inner_step",
    "load",
    "meta_gradient",
    "register_agent",
    "register_family",
    "register_learner",
    "report",
    "sgd",
    "train",
]

_MODULES = {
    "Agent": "rl.agent",
    "BatchEnv": "tasks.family",
    "DeployedAgent": "rl.deployment",
    "Episodes": "rollouts.episodes",
    "InnerLoop": "bilevel.inner_loop",
    "Iteration": "rl.agent",
    "Params": "parameters",
    "PerStep": "bilevel.inner_loop",
    "Run": "experiments.run",
    "Step": "tasks.family",
    "TaskFamily": "tasks.family",
    "TrainingStopped": "runs.loop",
    "adapt": "bilevel.adaptation",
    "collect": "rollouts.episodes",
    "compare": "report.compare",
    "evaluate": "experiments.evaluation",
    "inner_step": "bilevel.steps",
    "load": "experiments.run",
    "meta_gradient": "bilevel.meta_gradients",
    "register_agent": "rl.registry",
    "register_family": "tasks.registry",
    "register_learner": "fewshot.learners.catalog",
    "sgd": "bilevel.rules",
    "train": "experiments.run",
}


def __getattr__(name: str) -> Any:
    if name == "report":
        return import_module("metarl.report")  # this package is callable
    if name not in _MODULES:
        raise AttributeError(f"module 'metarl' has no attribute {name!r}")
    value = getattr(import_module(f"metarl.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
