"""Compare the references with their published results: `python scripts/publish/references.py`.

Writes results/references.json. Parameters that the sources tuned are the best of our own small
grid. Takes about two minutes on one core.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from metarl.envs import make_family
from metarl.envs.simulators.tensor import TensorFamily
from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.rl.registry import make_reference
from metarl.rollouts.trials import collect_trials
from metarl.scripts.command_line import parse, run
from metarl.seeding import torch_generator
from metarl.statistics.intervals import mean_interval
from metarl.storage.files import write_output
from metarl.validation import Seed, Settings

__all__ = ["ReferencesConfig", "cases", "main", "measure"]


class Case(NamedTuple):
    """One reference on one environment."""

    environment: str
    num_episodes: int  # episodes per trial
    reference: str
    parameters: Mapping[str, Any]
    num_tasks: int
    known: float | None  # published, or computed exactly
    regret: bool = False  # the measure is regret, not the sum of rewards of a trial


# Duan et al. 2016 (arXiv:1611.02779), tables 1 and 2.
_BANDITS = {
    "n10-k5": (6.6, 5.7, 6.5, 6.7, 6.6, 6.6, 6.660),
    "n10-k10": (6.6, 5.5, 6.2, 6.7, 6.6, 6.6, 6.714),
    "n10-k50": (6.5, 5.2, 5.5, 6.6, 6.5, 6.5, 6.714),
    "n100-k5": (78.3, 74.7, 77.9, 78.0, 75.4, 74.8),
    "n100-k10": (82.8, 76.7, 81.4, 82.4, 77.4, 77.1),
    "n100-k50": (85.2, 64.5, 67.7, 84.3, 78.3, 78.0),
    "n500-k5": (405.8, 402.0, 406.7, 405.8, 388.2, 380.6),
    "n500-k10": (437.8, 429.5, 438.9, 437.1, 408.0, 395.0),
    "n500-k50": (463.7, 427.2, 437.6, 457.6, 413.6, 402.8),
}
_RULES = ("gittins", "thompson", "optimistic-thompson", "ucb1", "epsilon-greedy", "greedy")
_UCB1_C = {10: 0.1, 100: 0.2, 500: 0.2}  # best of 0, .1, …, .5
_EPSILON = {10: 0.0, 100: 0.05, 500: 0.05}  # best of 0, .05, .1, .2

_MDPS = {
    10: (138.1, 144.1, 146.6, 150.2, 132.8, 134.8),
    25: (408.8, 425.2, 424.1, 427.8, 377.3, 368.8),
    100: (1939.5, 1973.9, 1942.1, 1935.1, 1778.2, 1578.5),
}
_PLANNERS = ("psrl", "optimistic-psrl", "ucrl2", "beb", "mdp-epsilon-greedy", "mdp-greedy")
_MDP_TASKS = {10: 1000, 25: 500, 100: 200}
_MDP_PARAMETERS: Mapping[int, Mapping[str, Mapping[str, Any]]] = {
    10: {"optimistic-psrl": {"num_samples": 16}, "beb": {"scaling": 3e-3}}
}

# Regret over 100 pulls of the bandits of Wang et al. 2016, computed: optimum, Thompson sampling,
# UCB1 (c = 1, every arm once first), posterior mean (ties at random).
_DEPENDENT = {
    "independent": (1.75, 2.78, 5.58, 2.70),
    "uniform": (1.22, 2.79, 5.99, 2.12),
    "easy": (0.63, 2.13, 6.29, 0.64),
    "medium": (1.00, 3.01, 7.03, 1.89),
    "hard": (2.31, 4.08, 5.99, 4.74),
}
_DEPENDENT_RULES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("bayes-optimal", {}),
    ("thompson", {}),
    ("ucb1", {"c": 1.0, "prior_count": 0}),
    ("greedy", {"random_ties": True}),
)


@dataclass(frozen=True)
class ReferencesConfig(Settings):
    """Compare the references with their published results."""

    out: Path = Path("results/references.json")
    """The file to write."""
    seed: Seed = 0
    """Seed of tasks and actions."""


def main(arguments: Sequence[str]) -> None:
    """The script's command line."""
    config = parse(ReferencesConfig, arguments, program="python scripts/publish/references.py")
    start = time.process_time()
    rows = []
    for case in cases():
        rows.append(measure(case, config.seed))
        row = rows[-1]
        print(
            f"{case.environment:27} {case.num_episodes:4} {case.reference:20} "
            f"{row['mean']:8.2f} [{row['low']:.2f}, {row['high']:.2f}]  {case.known or ''}"
        )
    content = {
        "command": f"python scripts/publish/references.py --seed {config.seed}",
        "cpu_seconds": round(time.process_time() - start),
        "rows": rows,
    }
    write_output(config.out, (json.dumps(content, indent=1) + "\n").encode())


def cases() -> Iterator[Case]:
    """All cases, in the order of the tables."""
    yield from _bandit_cases()
    for variant, regrets in _DEPENDENT.items():
        for (rule, parameters), regret in zip(_DEPENDENT_RULES, regrets, strict=True):
            yield Case(f"DependentBandit:{variant}", 1, rule, parameters, 10_000, regret, True)
    for episodes, returns in _MDPS.items():
        tuned = _MDP_PARAMETERS.get(episodes, {})
        for planner, published in zip(_PLANNERS, returns, strict=True):
            yield _mdp_case(episodes, planner, tuned.get(planner, {}), published)
        for planner in ("informed-beb", "informed-greedy"):
            yield _mdp_case(episodes, planner, {}, None)
    yield Case("ElevenArmBandit:wang16", 1, "bayes-optimal", {}, 10_000, 20.55)
    yield Case("GridNavigation:varibad", 1, "grid-search", {}, 20_000, 4.0)


def _bandit_cases() -> Iterator[Case]:
    for variant, returns in _BANDITS.items():
        pulls, arms = (int(part[1:]) for part in variant.split("-"))
        tuned = {"ucb1": {"c": _UCB1_C[pulls]}, "epsilon-greedy": {"epsilon": _EPSILON[pulls]}}
        num_tasks = 5000 if pulls == 10 else 1000
        environment = f"Bandit:{variant}"
        for rule, published in zip((*_RULES, "bayes-optimal"), returns, strict=False):
            count = num_tasks
            if rule == "optimistic-thompson":  # it samples 20 times as many numbers
                count = min(num_tasks, 1_000_000 // (pulls * arms))
            if count >= 100:
                yield Case(environment, 1, rule, tuned.get(rule, {}), count, published)
        if pulls <= 100:
            yield Case(environment, 1, "finite-gittins", {}, num_tasks, None)


def _mdp_case(
    episodes: int, planner: str, parameters: Mapping[str, Any], published: float | None
) -> Case:
    count = _MDP_TASKS[episodes]
    return Case("TabularMDP:rl2", episodes, planner, parameters, count, published)


def measure(case: Case, seed: int) -> dict[str, Any]:
    """Measure a case; the row holds the case, and its mean with a 95 % interval over tasks."""
    values = _regrets(case, seed) if case.regret else _returns(case, seed)
    mean, low, high, _ = mean_interval([values], same_tasks=True)
    quantity = "regret" if case.regret else "return"
    row = {**case._asdict(), "quantity": quantity, "mean": mean, "low": low, "high": high}
    del row["regret"]
    return row


def _returns(case: Case, seed: int) -> Sequence[float]:
    """Sum of rewards of each task's trial."""
    family = make_family(case.environment)
    protocol = EvaluationProtocol(
        num_tasks=case.num_tasks,
        adaptation_steps=case.num_episodes - 1,
        exploration_episodes=1,
        evaluation_episodes=1,
        seed=seed,
    )
    agent = make_reference(case.reference, family, **case.parameters)
    measured = evaluate(agent, family, protocol, name=case.reference).measured  # [1, K, N, 1]
    returns: list[float] = measured.returns.sum((0, 1, 3)).tolist()
    return returns


def _regrets(case: Case, seed: int) -> Sequence[float]:
    """Expected loss of each task's pulls, without the noise of their rewards."""
    family = make_family(case.environment)
    assert isinstance(family, TensorFamily)
    tasks = family.sample_tasks(case.num_tasks, split="test", seed=seed)
    agent = make_reference(case.reference, family, **case.parameters)
    player = agent.play(case.num_tasks, 1, torch_generator(seed, "references", "actions"))
    env = family.make_batch(tasks, num_envs=1)
    resets = torch_generator(seed, "references", "resets")
    arms = collect_trials(env, player, resets, num_episodes=1).actions[:, 0]
    probabilities = family.prepare(torch.from_numpy(tasks))  # [N, 2]
    lost = probabilities.amax(-1, keepdim=True) - probabilities.gather(-1, arms)
    regrets: list[float] = lost.sum(-1).tolist()
    return regrets


if __name__ == "__main__":
    run(main)
