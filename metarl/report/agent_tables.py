"""The tables of agents: their training runs, results and protocols."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace

from metarl.evaluation.measured import Scores
from metarl.evaluation.results import Evaluation
from metarl.plots.adaptation import agent_labels
from metarl.report import words
from metarl.report.numbers import interval_text, share_interval_text, share_text
from metarl.report.page import Block, Cell, Column, Measurement, Row, Table
from metarl.report.runs import ReportedRun
from metarl.report.tables import Groups, facts_table, runs_blocks
from metarl.statistics.estimate import Estimate

__all__ = ["PROTOCOL_FIELDS", "agent_runs", "protocol_table", "results_note", "results_table"]

PROTOCOL_FIELDS = {
    "num_tasks": "tasks",
    "split": "split of the tasks",
    "exploration_episodes": "episodes of each task before each adaptation step, K",
    "adaptation_steps": "adaptation steps",
    "evaluation_episodes": "measured episodes of each task at each stage",
    "deterministic": "episodes with most likely actions: never, evaluation, or always",
    "paired": "whether all runs have the same tasks and random numbers",
    "task_score": "score of a task: mean of its measured episodes, or the last one",
    "seed": "seed of tasks, initial states, actions and intervals",
}
"""The fields of an evaluation protocol, in words."""
_SHARES = "shares_episodes"


def agent_runs(agents: Groups[Evaluation]) -> list[Block]:
    """The table of all runs of agents."""
    return runs_blocks(
        agents,
        title="Runs",
        caption="Training runs",
        domain="environment",
        extra={Column("environment steps", "number"): _env_steps},
    )


def results_table(split: str, evaluations: Sequence[Evaluation]) -> Table:
    """Every policy's statistics on a split: random first, the oracle last."""
    has_success = any(evaluation.measured.success is not None for evaluation in evaluations)
    columns = [
        Column("policy"),
        Column("runs × tasks", "number"),
        Column("return, mean", "number"),
        Column("interquartile mean (rliable)", "number"),
        Column("gain over before", "number"),
        Column("P(better than before)", "number"),
        Column("gap to oracle closed", "number"),
        *([Column("success", "number")] if has_success else []),
    ]
    rows = list(_reference_rows(evaluations, has_success, last=False))
    for label, evaluation in agent_labels(evaluations).items():
        rows += _stage_rows(label, evaluation, has_success)
    rows += _reference_rows(evaluations, has_success, last=True)
    return Table(f"Returns on {split} tasks, with 95 % intervals", columns, rows)


def _stage_rows(label: str, evaluation: Evaluation, has_success: bool) -> Iterator[Row]:
    for k, stage in enumerate(evaluation.stages):
        scores = evaluation.scores(k)
        compared: list[Cell] = ["", "", ""]
        if k > 0:
            gain = interval_text(evaluation.gain(k), signed=True)
            improvement = evaluation.improvement(k)
            compared = [
                Measurement(*gain),
                Measurement(*share_interval_text(improvement)),
                share_text(evaluation.gap_closed(k)),
            ]
        success: list[Cell] = []
        if has_success:
            success = [_success(evaluation, None, k)]
        cells = [
            _size(scores),
            *_means(evaluation.estimate(scores), evaluation.interquartile_estimate(scores)),
        ]
        yield Row(f"{label}, {stage}", [*cells, *compared, *success], begins_group=k == 0)
    if (together := evaluation.trial_returns) is not None:
        middle = evaluation.interquartile_estimate(together)
        cells = [_size(together), *_means(evaluation.estimate(together), middle)]
        yield Row(f"{label}, all episodes", [*cells, *_blank(has_success)])


def _reference_rows(
    evaluations: Sequence[Evaluation], has_success: bool, *, last: bool
) -> Iterator[Row]:
    """Random actions come first; all other references after the agents, the oracle last."""
    seen: dict[str, Evaluation] = {}
    for evaluation in evaluations:
        for name in evaluation.references:
            seen.setdefault(name, evaluation)
    names = sorted(seen, key=lambda name: name == "oracle")
    chosen = [name for name in names if (name != "random") == last]
    for k, name in enumerate(chosen):
        evaluation = seen[name]
        scores = evaluation.reference(name)
        success = [_success(evaluation, name, 0)] if has_success else []
        means = _means(
            evaluation.reference_estimate(name), evaluation.interquartile_estimate(scores)
        )
        cells = [_size(scores), *means, "", "", ""]
        yield Row(name, [*cells, *success], begins_group=k == 0)
        if name in evaluation.totals and evaluation.trial_returns is not None:
            total = evaluation.total(name)
            means = _means(
                evaluation.total_estimate(name), evaluation.interquartile_estimate(total)
            )
            cells = [_size(total), *means]
            yield Row(f"{name}, all episodes", [*cells, *_blank(has_success)])


def _blank(has_success: bool) -> list[Cell]:
    """Empty cells for the comparisons."""
    return [""] * (4 if has_success else 3)


def _size(scores: Scores) -> str:
    num_runs, num_tasks = scores.shape
    return f"{num_runs} × {num_tasks}"


def _means(mean: Estimate, middle: Estimate) -> list[Cell]:
    return [Measurement(*interval_text(estimate)) for estimate in (mean, middle)]


def _success(evaluation: Evaluation, reference: str | None, stage: int) -> Cell:
    part = evaluation.measured if reference is None else evaluation.references[reference]
    if part.success is None:
        return ""
    share = (
        evaluation.estimate(evaluation.scores(stage, "success"), "success")
        if reference is None
        else evaluation.reference_estimate(reference, "success")
    )
    return Measurement(*share_interval_text(share))


def results_note(evaluations: Sequence[Evaluation]) -> str:
    """The meaning of the numbers and their intervals."""
    meanings = "; ".join(dict.fromkeys(map(words.interval_meaning, evaluations)))
    protocols = {replace(evaluation.protocol, split="") for evaluation in evaluations}
    apart = (
        "Agents were evaluated by different protocols, see below. " if len(protocols) > 1 else ""
    )
    return apart + (
        f"Undiscounted returns; {meanings}. The interquartile mean is the mean of the middle half "
        "of all runs × tasks, with the stratified bootstrap of rliable, which describes other runs "
        "on the same tasks. P(better than before) is the probability that a run has a higher "
        "return on a task after adaptation than before."
    )


def protocol_table(evaluations: Sequence[Evaluation]) -> Table:
    """Settings of the evaluation, a column for each protocol."""
    facts = [
        (label, {**asdict(one.protocol), _SHARES: one.protocol.shares_episodes})
        for label, one in agent_labels(evaluations).items()
    ]
    details = {
        **PROTOCOL_FIELDS,
        _SHARES: "whether the next adaptation step uses the measured episodes",
    }
    return facts_table("Evaluation protocol", facts, details)


def _env_steps(run: ReportedRun) -> str:
    last: Mapping[str, float] = run.metrics[-1] if run.metrics else {}
    return f"{int(last.get('time/env_steps', 0)):,}"
