"""Benchmark cases of episodes that are much shorter than the horizon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from metarl.agents import MAMLTRPO, RL2, RL2Config
from metarl.envs import make_family
from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.protocol import PRESETS
from metarl.scripts.benchmark.case import Case
from metarl.scripts.benchmark.short_episodes import ShortEpisodes
from metarl.tasks.family import TaskFamily

__all__ = ["PADDING_CASES"]

AgentName = Literal["maml-trpo", "rl2"]


def short_iterations(agent: AgentName, horizon: int) -> Callable[[], None]:
    """An iteration with default settings on episodes of ten steps."""
    learner = _agent(agent, ShortEpisodes(horizon))

    def run() -> None:
        learner.iterate()

    return run


def short_evaluation(agent: AgentName, horizon: int) -> Callable[[], None]:
    """An evaluation by the preset maml or varibad, on episodes of ten steps."""
    family = ShortEpisodes(horizon)
    learner = _agent(agent, family)
    protocol = PRESETS["varibad" if learner.remembers else "maml"]

    def run() -> None:
        evaluate(learner, family, protocol)

    return run


def varying_iteration(env: str) -> Callable[[], None]:
    """An iteration of MAML-TRPO with default settings on a family whose episodes vary in length."""
    learner = MAMLTRPO(make_family(env))

    def run() -> None:
        learner.iterate()

    return run


def _agent(name: AgentName, family: TaskFamily) -> MAMLTRPO | RL2:
    if name == "maml-trpo":
        return MAMLTRPO(family)
    return RL2(family, RL2Config(num_episodes=2))


PADDING_CASES: dict[str, Case] = {
    "short iterations": Case(short_iterations, 1),
    "short evaluation": Case(short_evaluation, 1),
    "varying iteration": Case(varying_iteration, 1),
}
