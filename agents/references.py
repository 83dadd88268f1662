"""Known algorithms that play beside a meta-learner, on the same tasks; imported when asked for."""

from __future__ import annotations

from typing import Any

from metarl.agent import AdaptiveAgent
from metarl.registry import Entry, Registry
from metarl.tasks import TaskFamily

__all__ = ["REFERENCES", "fitting_references", "make_reference"]

REFERENCES = Registry("reference")
"""Each entry makes an agent from a family: `REFERENCES.load("ucb1")(family)`."""


def _add(name: str, module: str, attribute: str, description: str) -> None:
    REFERENCES.register(Entry(name, f"metarl.agents.{module}:{attribute}", description))


_BANDITS, _OPTIMA, _MDPS = "bandit_references", "bandit_optima", "mdp_references"
_PLANNED = tuple(f"metarl.agents.{module}" for module in (_BANDITS, _OPTIMA))
_add("bayes-optimal", _OPTIMA, "bayes_optimal", "the exact optimum of small or mirrored bandits")
_add("gittins", _BANDITS, "Gittins", "Bernoulli arms by discounted Gittins index")
_add(
    "finite-gittins",
    _BANDITS,
    "FiniteHorizonGittins",
    "Bernoulli arms by Gittins index for the pulls left",
)
_add("thompson", _BANDITS, "ThompsonSampling", "Bernoulli arms by one draw from the posterior")
_add(
    "optimistic-thompson",
    _BANDITS,
    "OptimisticThompsonSampling",
    "Bernoulli arms by the likeliest of several draws",
)
_add("ucb1", _BANDITS, "UCB1", "Bernoulli arms by upper confidence bound")
_add("epsilon-greedy", _BANDITS, "EpsilonGreedy", "Bernoulli arms by posterior mean, or any")
_add("greedy", _BANDITS, "Greedy", "Bernoulli arms by posterior mean")
_add("psrl", _MDPS, "PSRL", "tabular MDPs by one draw from the posterior an episode")
_add("optimistic-psrl", _MDPS, "OptimisticPSRL", "tabular MDPs by the best of several draws")
_add("ucrl2", _MDPS, "UCRL2", "tabular MDPs by the best process within confidence sets")
_add("beb", _MDPS, "BEB", "tabular MDPs with a bonus for what was rarely tried")
_add(
    "mdp-epsilon-greedy", _MDPS, "EpsilonGreedyPlanning", "tabular MDPs by the data's mean, or any"
)
_add("mdp-greedy", _MDPS, "GreedyPlanning", "tabular MDPs by the data's mean")
_add("informed-beb", _MDPS, "informed_beb", "BEB with the prior of the tasks")
_add("informed-greedy", _MDPS, "informed_greedy", "tabular MDPs by the true posterior's mean")
_add("grid-search", "grid_references", "GridSearch", "dark grids, a new cell at every step")


def make_reference(
    name: str, family: TaskFamily, *, num_episodes: int = 1, **parameters: Any
) -> AdaptiveAgent:
    """The reference of a name for a family.

    Args:
        name: one of `REFERENCES`.
        family: what it is to play.
        num_episodes: of a trial; rules of bandits plan with it.
        parameters: of the reference; its class names them.

    Raises:
        ValueError: if there is none of the name, or it does not fit the family.
        TypeError: if a parameter is unknown.
    """
    make = REFERENCES.load(name)
    if make.__module__ in _PLANNED:
        parameters["num_episodes"] = num_episodes
    agent: AdaptiveAgent = make(family, **parameters)
    return agent


def fitting_references(family: TaskFamily, *, num_episodes: int = 1) -> dict[str, AdaptiveAgent]:
    """Every reference that fits a family, by name, with default parameters.

    Args:
        family: what they are to play.
        num_episodes: of a trial.
    """
    fitting = {}
    for entry in REFERENCES:
        try:
            fitting[entry.name] = make_reference(entry.name, family, num_episodes=num_episodes)
        except ValueError:  # it says why it does not fit
            continue
    return fitting
