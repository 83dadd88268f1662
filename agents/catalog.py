"""The built-in agents and references; each is imported when it is loaded."""

from __future__ import annotations

from metarl.registry import Entry
from metarl.rl.registry import AGENTS, REFERENCES

AGENTS.register(
    Entry(
        "maml-trpo",
        "metarl.agents.maml_trpo.agent:MAMLTRPO",
        "gradient steps on each task, meta-trained with a trust region (Finn et al. 2017)",
    )
)
AGENTS.register(
    Entry(
        "rl2",
        "metarl.agents.rl2.agent:RL2",
        "a memory that lasts over the episodes of a trial (Duan et al. 2016)",
    )
)


def _add(name: str, module: str, attribute: str, description: str) -> None:
    REFERENCES.register(Entry(name, f"metarl.agents.{module}:{attribute}", description))


_BANDITS, _OPTIMA, _MDPS = "references.bandits", "references.bandit_optima", "references.mdps"
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
_add("grid-search", "references.grids", "GridSearch", "dark grids, a new cell at every step")
