"""metarl: agents that learn to adapt. The core of the toolkit; see also metarl.envs and .agents."""

from metarl.bilevel import InnerLoop, PerStep, adapt, meta_gradient, sgd
from metarl.episodes import Episodes, collect
from metarl.tasks import BatchEnv, Step, TaskFamily

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
