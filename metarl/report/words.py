"""Sentences of a report, and descriptions of its figures for readers who cannot see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from metarl.evaluation.behavior import Choices, Paths, Videos
from metarl.evaluation.measured import Metric
from metarl.evaluation.results import Evaluation
from metarl.plots.adaptation import agent_labels, learning_metrics, on_common_steps
from metarl.plots.behavior import best_share
from metarl.report.numbers import counted, interval_text, share_text
from metarl.statistics.estimate import Estimate
from metarl.statistics.numbers import number_text
from metarl.tasks.spaces import Tasks

__all__ = [
    "adaptation_text",
    "choices_text",
    "video_text",
    "finding",
    "interval_meaning",
    "learning_text",
    "paths_text",
    "profile_text",
    "task_text",
    "tasks_text",
]

_MAX_NUMBERS = 4
_WHOLE_BELOW = 1e12  # whole numbers below are shown in full


def task_text(task: Sequence[float] | Tasks) -> str:
    """The first few parameters of a task, whole numbers in full.

    >>> task_text([0.12345, -2.0, 1234567890.0])
    '(0.123, −2, 1234567890)'
    """
    shown = ", ".join(_parameter_text(float(v)) for v in task[:_MAX_NUMBERS])
    return f"({shown}, …)" if len(task) > _MAX_NUMBERS else f"({shown})"


def _parameter_text(value: float) -> str:
    is_exact = value.is_integer() and abs(value) < _WHOLE_BELOW
    return (f"{value:.0f}" if is_exact else f"{value:.3g}").replace("-", "−")


_ONLY_STAGES = {
    "no adaptation": "Without adaptation",
    "episode 1": "In the first episode, during which the agent learns",
}
"""The beginning of a finding for agents that were measured at one stage other than "before"."""


def finding(evaluation: Evaluation) -> str:
    """The result of an evaluation as a sentence.

    For example: "After 3 adaptation steps on 20 episodes each, the return on 40 test tasks rises
    from −36.7 (−41.5 to −32.0) to −8.05 (−8.83 to −7.34), 79% of the way to the oracle."
    """
    last = evaluation.protocol.adaptation_steps
    first_scores, last_scores = evaluation.scores(0), evaluation.scores(last)
    before = _estimate_words(evaluation.estimate(first_scores))
    tasks = evaluation.tasks_in_words
    runs = "" if len(evaluation.runs) == 1 else f"; {interval_meaning(evaluation)}"
    if last == 0:
        measured = _ONLY_STAGES.get(evaluation.stages[0], "Before adaptation")
        return f"{measured}, the return on {tasks} is {before}{runs}."
    after = _estimate_words(evaluation.estimate(last_scores))
    gain, closed = evaluation.gain(last), evaluation.gap_closed(last)
    if gain.low <= 0 <= gain.high and gain.has_interval:
        value, interval = interval_text(gain, signed=True)
        return (
            f"{_adaptation(evaluation)}, the return on {tasks} is {after} instead of {before}; the "
            f"interval of the change, {value} ({interval.replace('…', 'to')}), contains 0{runs}."
        )
    if gain.value == 0:
        return f"{_adaptation(evaluation)}, the return on {tasks} is {before} as before{runs}."
    change = "rises" if gain.value > 0 else "falls"
    gap = f", {share_text(closed)} of the way to the oracle" if closed and closed > 0 else ""
    return (
        f"{_adaptation(evaluation)}, the return on {tasks} {change} from {before} to {after}"
        f"{gap}{runs}."
    )


def _adaptation(evaluation: Evaluation) -> str:
    """The data of the last stage, as the beginning of a sentence."""
    protocol = evaluation.protocol
    count = protocol.adaptation_steps
    explored = protocol.exploration_episodes
    if evaluation.stages[-1] == f"after {counted(count, 'step')}":
        each = counted(explored, "episode") + (" each" if count > 1 else "")
        return f"After {counted(count, 'adaptation step')} on {each}"
    return f"After {counted(protocol.episodes_before(count), 'episode')} of exploration"


def interval_meaning(evaluation: Evaluation) -> str:
    """The meaning of the intervals of an agent's means."""
    num_runs, num_tasks = len(evaluation.runs), evaluation.num_tasks
    if num_runs == 1:
        return f"95 % intervals over the {counted(num_tasks, 'task')} of one run (Student's t)"
    if evaluation.same_tasks:
        return (
            f"95 % intervals for new runs and new tasks, from {num_runs} runs on the same "
            f"{num_tasks} tasks (two-way random effects)"
        )
    return (
        f"95 % intervals for new runs and new tasks, from {num_runs} runs with their own "
        f"{num_tasks} tasks each (Student's t of the runs' means)"
    )


def adaptation_text(evaluations: Sequence[Evaluation], metric: Metric) -> str:
    """Every number of the adaptation figure."""
    quantity = "return" if metric == "return" else "share of successes"
    sentences = [f"Line chart of the {quantity} against adaptation."]
    for label, evaluation in agent_labels(evaluations).items():
        points = [
            f"{name} {_estimate_words(evaluation.estimate(evaluation.scores(k, metric), metric))}"
            for k, name in enumerate(evaluation.stages)
        ]
        sentences.append(f"{label}: {'; '.join(points)}.")
    first = evaluations[0]
    for name, other in first.references.items():
        if metric == "return" or other.success is not None:
            level = _estimate_words(first.reference_estimate(name, metric))
            sentences.append(f"{name}: {level}.")
    return " ".join(sentences)


def learning_text(agents: Mapping[str, Sequence[Sequence[Mapping[str, float]]]]) -> str:
    """The beginning and end of each learning curve."""
    sentences = ["Line chart of returns against environment steps of training."]
    for name, seeds in agents.items():
        words = []
        for label, key in _learning_labels(seeds).items():
            values = on_common_steps(seeds, key)[1].mean(0)
            first, last = (number_text(float(values[k])) for k in (0, -1))
            words.append(f"{label} from {first} to {last}")
        steps = min(int(rows[-1]["time/env_steps"]) for rows in seeds)
        runs = "one run" if len(seeds) == 1 else f"{len(seeds)} runs"
        sentences.append(f"{name}, {runs}, {steps:,} steps: {' and '.join(words)}.")
    return " ".join(sentences)


def _learning_labels(seeds: Sequence[Sequence[Mapping[str, float]]]) -> dict[str, str]:
    before, after = "rollout/support_return", "rollout/query_return"
    if seeds[0][0].keys() >= {before, after}:
        return {"before adaptation": before, "after adaptation": after}
    return learning_metrics(seeds)


def tasks_text(evaluation: Evaluation) -> str:
    """The number of tasks on which adaptation helped, and the range of returns."""
    last = evaluation.protocol.adaptation_steps
    before, after = (evaluation.task_scores(stage) for stage in (0, last))
    text = (
        f"Scatter plot of the return on each of {len(before)} tasks against the task. "
        f"{evaluation.stages[0]}: from {number_text(before.min())} to {number_text(before.max())}."
    )
    if last == 0:
        return text
    better = int((after > before).sum())
    return (
        f"{text} {evaluation.stages[last]}: from {number_text(after.min())} to "
        f"{number_text(after.max())}; higher on {better} of {len(before)} tasks."
    )


def profile_text(curves: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]) -> str:
    """The quartiles of the scores [runs, tasks] behind each curve of a performance profile."""
    words = []
    for name, scores in curves.items():
        low, middle, high = (number_text(float(q)) for q in np.quantile(scores, [0.25, 0.5, 0.75]))
        words.append(f"{name}: half of all returns above {middle}, {low} to {high} the middle half")
    return f"Performance profile. {'; '.join(words)}."


def paths_text(paths: Paths) -> str:
    """The return of the paths on each task."""
    return f"Paths through the plane on {len(paths.tasks)} tasks. {_returns(paths)}"


def choices_text(choices: Choices) -> str:
    """The agreement with the oracle at the first and the last step."""
    if choices.best is None:
        return f"Frequencies of {choices.num_choices} actions. {_returns(choices)}"
    words = [
        f"{name}: {share_text(float(share[0]))} at the first step, "
        f"{share_text(float(share[~np.isnan(share)][-1]))} at the last"
        for name, share in zip(choices.stages, best_share(choices), strict=True)
    ]
    return f"Share of choices that agree with the oracle. {'; '.join(words)}."


def video_text(videos: Videos, task: int) -> str:
    """The returns of one task's video."""
    words = [
        f"{name}, return {number_text(float(returns[task]))}"
        for name, returns in zip(videos.stages, videos.returns, strict=True)
    ]
    return f"Video of task {task + 1} {task_text(videos.tasks[task])}: {'; '.join(words)}."


def _returns(shown: Paths | Choices) -> str:
    words = []
    for k, task in enumerate(shown.tasks[:_MAX_NUMBERS]):
        parts = [
            f"{number_text(float(returns[k].mean()))} {_at(name)}"
            for name, returns in zip(shown.stages, shown.returns, strict=True)
        ]
        words.append(f"Task {k + 1} {task_text(task)}: return {', '.join(parts)}.")
    return " ".join(words)


def _at(stage: str) -> str:
    """A stage's name as part of a sentence."""
    if stage.startswith("episode"):
        return f"in {stage}"
    return "before adaptation" if stage == "before" else stage


def _estimate_words(estimate: Estimate) -> str:
    value, interval = interval_text(estimate)
    if not estimate.has_interval:
        return value
    return f"{value} ({interval.replace('…', 'to')})"
