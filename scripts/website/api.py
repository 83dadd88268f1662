"""Pages of the API reference: which public names they show, and in which order.

mkdocstrings renders each name from its docstring. A package that lists public names in its
`__init__` is shown with these; from other packages, the modules that users need are listed here.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

__all__ = ["PAGES", "Reference", "link_sources", "reference_pages"]


class Reference(NamedTuple):
    """One page."""

    file: str
    title: str
    introduction: str
    names: tuple[str, ...]
    """Packages, modules or single objects, in reading order."""


PAGES = (
    Reference(
        "api/index.md",
        "metarl",
        "The names that most programs need. They are imported when they are first used, so "
        "`import metarl` is fast.",
        ("metarl",),
    ),
    Reference(
        "api/agents.md",
        "Agents",
        "Meta-learning agents, their settings, and the contract that your own agent fulfills.",
        (
            "metarl.agents",
            "metarl.rl.registry",
            "metarl.rl.players",
            "metarl.rl.adapted",
            "metarl.agents.references.bandits",
            "metarl.agents.references.mdps",
            "metarl.agents.references.grids",
        ),
    ),
    Reference(
        "api/families.md",
        "Task families",
        "Distributions over tasks, the batches of environments that they make, and adapters to "
        "Gymnasium and Stable-Baselines3. [Environments](../environments.md) lists all families.",
        (
            "metarl.tasks",
            "metarl.envs",
            "metarl.tasks.spaces",
            "metarl.tasks.structure",
            "metarl.tasks.wrapper",
            "metarl.tasks.observed_task",
            "metarl.bridges.gymnasium_env",
            "metarl.bridges.vector_env",
            "metarl.bridges.sb3_env",
            "metarl.bridges.sb3_agent",
            "metarl.soundness.check",
        ),
    ),
    Reference(
        "api/rollouts.md",
        "Rollouts",
        "Data collected by acting: episodes, and trials of several episodes.",
        (
            "metarl.rollouts.episodes",
            "metarl.rollouts.trials",
            "metarl.rollouts.trial_env",
            "metarl.rollouts.actors",
        ),
    ),
    Reference(
        "api/bilevel.md",
        "Bilevel core",
        "Adaptation to tasks and derivatives through the adaptation, for agents and for "
        "few-shot learners.",
        ("metarl.bilevel", "metarl.bilevel.linearized", "metarl.parameters"),
    ),
    Reference(
        "api/rl.md",
        "Building blocks of agents",
        "Policies, distributions, returns and objectives.",
        (
            "metarl.rl.policies",
            "metarl.rl.trial_policies",
            "metarl.rl.action_heads",
            "metarl.rl.distributions",
            "metarl.rl.returns",
            "metarl.rl.objectives",
            "metarl.rl.masked",
            "metarl.rl.normalization",
        ),
    ),
    Reference(
        "api/nn.md",
        "Networks and optimizers",
        "Networks as pure functions of named parameters, and the optimizers of the outer loop.",
        (
            "metarl.nn.functional",
            "metarl.nn.mlp",
            "metarl.nn.backbones",
            "metarl.nn.conv_net",
            "metarl.nn.batch_norm",
            "metarl.nn.memories",
            "metarl.nn.transformer",
            "metarl.nn.hypernetwork",
            "metarl.optim.optimizer",
            "metarl.optim.schedules",
            "metarl.optim.trust_region",
        ),
    ),
    Reference(
        "api/fewshot.md",
        "Few-shot learning",
        "Learners, data sets, and the contracts that your own ones fulfill.",
        (
            "metarl.fewshot",
            "metarl.fewshot.contract.interface",
            "metarl.fewshot.contract.gradient",
            "metarl.fewshot.contract.metric",
            "metarl.fewshot.contract.settings",
            "metarl.fewshot.learners.catalog",
            "metarl.fewshot.datasets.catalog",
            "metarl.fewshot.datasets.own",
            "metarl.fewshot.datasets.curves",
            "metarl.fewshot.data.class_tasks",
            "metarl.fewshot.lightning",
        ),
    ),
    Reference(
        "api/evaluation.md",
        "Evaluation",
        "Protocols, the evaluator, stored evaluations, and recordings of behavior.",
        (
            "metarl.evaluation.protocol",
            "metarl.evaluation.evaluator",
            "metarl.evaluation.results",
            "metarl.evaluation.fewshot_results",
            "metarl.evaluation.files",
            "metarl.evaluation.comparable",
            "metarl.evaluation.comparison",
            "metarl.evaluation.behavior",
            "metarl.evaluation.video",
        ),
    ),
    Reference(
        "api/statistics.md",
        "Statistics and figures",
        "Aggregates of scores with intervals, and matplotlib figures.",
        (
            "metarl.statistics.scores",
            "metarl.statistics.bootstrap",
            "metarl.statistics.intervals",
            "metarl.statistics.comparison",
            "metarl.statistics.unpaired",
            "metarl.statistics.profiles",
            "metarl.plots.adaptation",
            "metarl.plots.tasks",
            "metarl.plots.behavior",
            "metarl.plots.fewshot",
            "metarl.report",
            "metarl.report.compare",
        ),
    ),
    Reference(
        "api/runs.md",
        "Runs and files",
        "Directories of runs, the training loop, checkpoints and random streams.",
        (
            "metarl.experiments.run",
            "metarl.runs.directory",
            "metarl.runs.loop",
            "metarl.runs.metrics",
            "metarl.runs.tracking",
            "metarl.storage.checkpoints",
            "metarl.storage.files",
            "metarl.seeding",
            "metarl.finite",
        ),
    ),
    Reference(
        "api/estimators.md",
        "Meta-gradient estimators",
        "Surrogates for inner policy-gradient steps, and the exact laboratory that measures them.",
        (
            "metarl.estimators.surrogates",
            "metarl.estimators.credit",
            "metarl.estimators.catalog",
            "metarl.estimators.prefix_sums",
            "metarl.estimators.laboratory",
            "metarl.estimators.study",
            "metarl.estimators.support_sets",
            "metarl.estimators.episode_tables",
            "metarl.estimators.tabular",
        ),
    ),
    Reference(
        "api/planning.md",
        "Planning",
        "Exact and sampled planning in bandits and tabular MDPs.",
        (
            "metarl.planning.bandits",
            "metarl.planning.gittins",
            "metarl.planning.dynamic_programming",
            "metarl.planning.posteriors",
            "metarl.planning.search",
            "metarl.planning.selection",
        ),
    ),
)
"""All pages, in the order of the navigation."""


def reference_pages() -> dict[str, str]:
    """The Markdown text of each page by its file."""
    return {
        page.file: "\n".join(
            [
                f"# {page.title}",
                "",
                page.introduction,
                "",
                *(f"::: {name}\n" for name in page.names),
            ]
        )
        for page in PAGES
    }


def link_sources(root: Path, target: Path) -> None:
    """Link all modules of the import name `metarl` into one folder, for static analysis.

    `envs/` and `agents/` lie next to `metarl/` in the repository. The analysis follows links to
    files, but not to folders.

    Args:
        root: the repository.
        target: the folder to create; if it exists, it is replaced.
    """
    shutil.rmtree(target, ignore_errors=True)
    for source, name in (
        ("metarl", "metarl"),
        ("envs", "metarl/envs"),
        ("agents", "metarl/agents"),
    ):
        for file in (root / source).rglob("*.py"):
            link = target / name / file.relative_to(root / source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
