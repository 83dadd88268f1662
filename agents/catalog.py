"""The built-in agents and references; each is imported when it is loaded."""

from __future__ import annotations

from metarl.registry import Entry
from metarl.rl.registry import AGENTS, REFERENCES

AGENTS.register(
    Entry(
        "maml-trpo",
        "metarl.agents.maml_trpo.agent:MAMLTRPO",
        "policy-gradient steps on each task, meta-trained by TRPO (Finn et al. 2017)",
    )
)
AGENTS.register(
    Entry(
        "rl2",
        "metarl.agents.rl2.agent:RL2",
        "a policy whose memory spans the episodes of a trial (Duan et al. 2016)",
    )
)


def _add(name: str, module: str, attribute: str, description: str) -> None:
    REFERENCES.register(Entry(name, f"metarl.agents.{module}:{attribute}", description))


_BANDITS, _OPTIMA, _MDPS = "references.bandits", "references.bandit_optima", "references.mdps"
_add("bayes-optimal", _OPTIMA, "bayes_optimal", "exact optimum of small or mirrored bandits")
_add("gittins", _BANDITS, "Gittins", "Bernoulli bandits: highest discounted Gittins index")
_add(
    "finite-gittins",
    _BANDITS,
    "FiniteHorizonGittins",
    "Bernoulli bandits: highest Gittins index for the remaining pulls",
)
_add(
    "thompson", _BANDITS, "ThompsonSampling", "Bernoulli bandits: best arm of one posterior sample"
)
_add(
    "optimistic-thompson",
    _BANDITS,
    "OptimisticThompsonSampling",
    "Bernoulli bandits: best arm of the most probable of several posterior samples",
)
_add("ucb1", _BANDITS, "UCB1", "Bernoulli bandits: highest upper confidence bound")
_add(
    "epsilon-greedy",
    _BANDITS,
    "EpsilonGreedy",
    "Bernoulli bandits: highest posterior mean, or a random arm",
)
_add("greedy", _BANDITS, "Greedy", "Bernoulli bandits: highest posterior mean")
_add("psrl", _MDPS, "PSRL", "tabular MDPs: optimal for one posterior sample per episode")
_add(
    "optimistic-psrl",
    _MDPS,
    "OptimisticPSRL",
    "tabular MDPs: highest value over several posterior samples",
)
_add("ucrl2", _MDPS, "UCRL2", "tabular MDPs: optimal for the best MDP within confidence sets")
_add("beb", _MDPS, "BEB", "tabular MDPs: exploration bonus for rarely tried actions")
_add(
    "mdp-epsilon-greedy",
    _MDPS,
    "EpsilonGreedyPlanning",
    "tabular MDPs: optimal for the mean MDP, or a random action",
)
_add("mdp-greedy", _MDPS, "GreedyPlanning", "tabular MDPs: optimal for the mean MDP")
_add("informed-beb", _MDPS, "informed_beb", "BEB with the true prior of the tasks")
_add(
    "informed-greedy",
    _MDPS,
    "informed_greedy",
    "tabular MDPs: optimal for the mean of the true posterior",
)
_add(
    "grid-search",
    "references.grids",
    "GridSearch",
    "dark grids: a new cell at every step until the goal is found",
)
