"""The bilevel core: adapt to a task, and differentiate through the adaptation."""

from metarl.bilevel.adaptation import adapt, adapt_path
from metarl.bilevel.inner_loop import Batch, InnerLoop, Loss, PerStep
from metarl.bilevel.meta_gradients import OuterLoss, TaskPath, meta_gradient
from metarl.bilevel.rules import InnerRule, RuleState, StatefulRule, sgd
from metarl.bilevel.steps import TaskState, initial_task_state, inner_step, stateful_step
from metarl.parameters import Params

__all__ = [
    "adapt",
    "adapt_path",
    "initial_task_state",
    "inner_step",
    "meta_gradient",
    "stateful_step",
    "Batch",
    "InnerLoop",
    "InnerRule",
    "Loss",
    "OuterLoss",
    "Params",
    "PerStep",
    "RuleState",
    "StatefulRule",
    "TaskPath",
    "TaskState",
    "sgd",
]
