"""The part of a report about agents, with a section for each environment."""

from __future__ import annotations

from collections.abc import Sequence

from metarl.devices import DeviceName
from metarl.evaluation.comparable import as_comparable
from metarl.evaluation.comparison import comparisons_of
from metarl.evaluation.results import Evaluation
from metarl.plots.adaptation import adaptation_figure, agent_labels, learning_curves_figure
from metarl.plots.style import figure_svg
from metarl.plots.tasks import profile_figure, profile_scores, select_parameters, task_figure
from metarl.progress import Progress, ignore_progress
from metarl.report import words
from metarl.report.agent_tables import agent_runs, protocol_table, results_note, results_table
from metarl.report.behavior import behavior_blocks
from metarl.report.comparison import comparison_blocks
from metarl.report.page import Block, Figure, Figures, Heading, Paragraph, Part, Section, slug
from metarl.report.runs import RunGroup
from metarl.report.tables import Groups, measured_now, page_title, runs_text
from metarl.tasks.registry import make_family

__all__ = ["agents_part"]


def agents_part(
    agents: Groups[Evaluation],
    *,
    behavior: bool,
    device: DeviceName,
    progress: Progress = ignore_progress,
) -> Part:
    """The part of a page about agents.

    Args:
        agents: groups of runs by environment.
        behavior: whether to show the behavior of the agents.
        device: device of the agents.
        progress: called before each part of the work.
    """
    blocks = agent_runs(agents)
    for environment, groups in agents.items():
        shown = behavior_blocks(groups, device=device, progress=progress) if behavior else []
        progress(f"drawing figures of {environment}")
        blocks.append(_environment_section(environment, groups, shown))
    return Part(
        page_title(agents),
        lead=f"Training of {runs_text(agents)}, and adaptation to tasks: tables, "
        "learning curves, single tasks and behavior.",
        links=[("runs", "Runs"), *((slug(environment), environment) for environment in agents)],
        blocks=blocks,
    )


def _environment_section(
    environment: str, agents: Sequence[RunGroup[Evaluation]], behavior: Sequence[Block]
) -> Section:
    """Tables, then figures, then the behavior."""
    evaluations = [e for group in agents for e in group.results]
    family = make_family(environment)
    blocks: list[Block] = [
        Heading(2, environment, id=slug(environment)),
        Paragraph(family.description, is_note=True),
        *(
            Paragraph(f"{one.agent}, {one.environment}. {words.finding(one)}")
            for one in evaluations
        ),
        Heading(3, "Results"),
        *(results_table(split, group) for split, group in _by_split(evaluations).items()),
        Paragraph(results_note(evaluations), is_note=True),
        *comparison_blocks(
            comparisons_of([as_comparable(*one) for one in agent_labels(evaluations).items()])
        ),
        Heading(3, "Protocol"),
        protocol_table(evaluations),
        *measured_now(agents),
        Heading(3, "Learning and adaptation"),
        Figures([*_learning(agents), *_adaptation(evaluations)]),
        Heading(3, "Single tasks"),
        *_missing_tasks(evaluations),
        Figures([*_tasks(evaluations), *_profiles(evaluations)]),
        *([Heading(3, "Behavior"), *behavior] if behavior else []),
    ]
    return Section(slug(environment), blocks)


def _by_split(evaluations: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    groups: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        groups.setdefault(evaluation.protocol.split, []).append(evaluation)
    return groups


def _learning(agents: Sequence[RunGroup[Evaluation]]) -> list[Figure]:
    curves = {
        group.name: [run.metrics for run in group.runs if run.metrics]
        for group in agents
        if any(run.metrics for run in group.runs)
    }
    if not curves:
        return []
    counts = ", ".join(f"{name}, runs: {len(seeds)}" for name, seeds in curves.items())
    svg = figure_svg(learning_curves_figure(curves, "Training"))
    several = any(len(seeds) > 1 for seeds in curves.values())
    bands = "; bands are 95 % intervals over runs" if several else ""
    caption = f"Learning curves on training tasks ({counts}){bands}."
    return [Figure(svg, alt=words.learning_text(curves), caption=caption)]


def _adaptation(evaluations: Sequence[Evaluation]) -> list[Figure]:
    parts = []
    for split, group in _by_split(evaluations).items():
        metrics = ["return"]
        if all(evaluation.measured.success is not None for evaluation in group):
            metrics.append("success")
        for metric in metrics:
            svg = figure_svg(adaptation_figure(group, metric))  # type: ignore[arg-type] # one of two
            text = words.adaptation_text(group, metric)  # type: ignore[arg-type] # one of two
            caption = f"Adaptation on {split} tasks: {metric} with 95 % intervals."
            parts.append(Figure(svg, alt=text, caption=caption))
    return parts


def _missing_tasks(evaluations: Sequence[Evaluation]) -> list[Paragraph]:
    """A note for each published evaluation that leaves out tasks of many parameters."""
    return [
        Paragraph(f"{label}: its evaluation.json does not list the parameters of the tasks.")
        for label, evaluation in agent_labels(evaluations).items()
        if not evaluation.tasks.shape[-1]
    ]


def _tasks(evaluations: Sequence[Evaluation]) -> list[Figure]:
    parts = []
    for label, evaluation in agent_labels(evaluations).items():
        tasks = evaluation.task_parameters
        count = tasks.shape[1]
        if not count:
            continue
        last = evaluation.task_scores(evaluation.protocol.adaptation_steps)
        shown = select_parameters(tasks, last)
        rest = ""
        if len(shown) < count:
            rest = f" Of {count} parameters, those most correlated with the return are shown."
        means = ", the mean over runs" if evaluation.same_tasks else " of a run"
        caption = f"{label}: one point per task{means}.{rest}"
        svg = figure_svg(task_figure(evaluation))
        parts.append(Figure(svg, alt=words.tasks_text(evaluation), caption=caption))
    return parts


def _profiles(evaluations: Sequence[Evaluation]) -> list[Figure]:
    parts = []
    for split, group in _by_split(evaluations).items():
        svg = figure_svg(profile_figure(group))
        caption = (
            f"Performance profile on {split} tasks: the share of runs × tasks with a return above "
            "each threshold. A curve above another everywhere is better by any statistic."
        )
        parts.append(Figure(svg, alt=words.profile_text(profile_scores(group)), caption=caption))
    return parts
