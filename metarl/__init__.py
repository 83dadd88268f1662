"""metarl: agents that learn to adapt. The core of the toolkit; see also metarl.envs and .agents."""

from metarl.bilevel.adaptation import adapt, meta_gradient
from metarl.bilevel.inner_loop import InnerLoop, PerStep
from metarl.bilevel.rules import sgd
from metarl.rollouts.episodes import Episodes, collect
from metarl.tasks.family import BatchEnv, Step, TaskFamily

__all__ = [
    "BatchEnv",
    "Episodes",
    "InnerLoop",
    "PerStep",
    "Step",
    "TaskFamily",
    "adapt",
    "collect",
    "meta_gradient",
    "sgd",
]
