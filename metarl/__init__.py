"""metarl: agents that learn to adapt. The core of the toolkit; see also metarl.envs and .agents."""

from typing import TYPE_CHECKING

from metarl.lazy import lazy_attributes

if TYPE_CHECKING:
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

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "BatchEnv": "metarl.tasks.family",
        "Episodes": "metarl.rollouts.episodes",
        "InnerLoop": "metarl.bilevel.inner_loop",
        "PerStep": "metarl.bilevel.inner_loop",
        "Step": "metarl.tasks.family",
        "TaskFamily": "metarl.tasks.family",
        "adapt": "metarl.bilevel.adaptation",
        "collect": "metarl.rollouts.episodes",
        "meta_gradient": "metarl.bilevel.adaptation",
        "sgd": "metarl.bilevel.rules",
    },
)
