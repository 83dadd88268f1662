"""The bilevel core: adapt to a task, and differentiate through the adaptation."""

from metarl.bilevel.adaptation import adapt, inner_step, meta_gradient
from metarl.bilevel.inner_loop import Batch, InnerLoop, Loss, PerStep
from metarl.bilevel.rules import InnerRule, sgd
from metarl.parameters import Params

__all__ = [
    "adapt",
    "inner_step",
    "meta_gradient",
    "Batch",
    "InnerLoop",
    "Loss",
    "PerStep",
    "InnerRule",
    "sgd",
    "Params",
]
