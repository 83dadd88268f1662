"""Results of an evaluation: raw returns of every run, task and episode, and their statistics.

`metarl.evaluation.evaluator` creates them; `metarl.evaluation.files` writes and reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metarl.evaluation.measured import Measured, Metric, Scores, require_shape
from metarl.evaluation.overlap import OVERLAP_WORDS, read_overlap, registered_overlap
from metarl.evaluation.plain_tables import plain_table
from metarl.evaluation.protocol import EvaluationProtocol, stored_deterministic
from metarl.evaluation.repeated_tasks import counted_once, distinct_tasks, task_groups
from metarl.statistics.bootstrap import stratified_bootstrap
from metarl.statistics.estimate import Estimate
from metarl.statistics.intervals import mean_interval
from metarl.statistics.scores import interquartile_mean
from metarl.storage.renamed import RENAMED_PROTOCOL_FIELDS
from metarl.storage.settings import read_settings
from metarl.tasks.family import SharedTasks

__all__ = [
    "Evaluation",
    "episode_name",
    "stored_estimate",
    "OutdatedEvaluationError",
]

FORMAT = 3
_READABLE = (2, FORMAT)  # format 2: all runs have the same tasks


class OutdatedEvaluationError(ValueError):
    """An evaluation in a format of an earlier version; it must be measured again."""


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Returns of an agent's runs at each stage, and of reference agents.

    When printed, it is a table of mean returns with 95 % intervals.
    """

    environment: str
    agent: str
    protocol: EvaluationProtocol
    tasks: Scores  # [1, N, D] if all runs have the same tasks, else [R, N, D]; D is 0 if omitted
    runs: tuple[str, ...]
    """Names of the R runs: directories or checkpoints."""
    stages: tuple[str, ...]
    """Names of the S + 1 stages."""
    measured: Measured  # [R, S + 1, N, M]
    same_tasks: bool = True
    """Whether all runs have the same tasks; otherwise each has its own."""
    references: Mapping[str, Measured] = field(default_factory=dict)
    """Reference agents by name: random, oracle, and other agents at the last stage. [R', N, M] with
    R' runs; a single agent may have the tasks of all runs, one run after another, [1, R · N, M]."""
    iterations: tuple[int | None, ...] = ()
    """Training iterations of each run; None if unknown. Empty in files of earlier versions."""
    totals: Mapping[str, Scores] = field(default_factory=dict)
    """Sum of the returns of all episodes of the trial, for references with a memory, [R', N] or
    [1, R · N]."""
    stored_overlap: SharedTasks | None = None  # None in files of earlier versions

    @cached_property
    def overlap(self) -> SharedTasks:
        """How many of the tasks are training tasks, as stored or as their family declares."""
        return self.stored_overlap or registered_overlap(self.environment, self.protocol.split)

    def __repr__(self) -> str:
        count = len(self.runs)
        runs = f"{count} runs of {self.agent}" if count > 1 else self.agent
        stages = [self._stage_cells(stage) for stage in range(len(self.stages))]
        lower: list[list[str]] = []
        upper: list[list[str]] = []
        for name in self.references:
            (upper if name == "oracle" else lower).append(self._reference_cells(name))
        rows = [["", *(f"{metric} [95 % interval]" for metric in self.metrics)]]
        title = f"{runs} on {self.environment}: {self.protocol.describe(self.tasks_in_words)}"
        return plain_table(title, [*rows, *lower, *stages, *upper])

    def _stage_cells(self, stage: int) -> list[str]:
        found = (self.estimate(self.scores(stage, metric), metric) for metric in self.metrics)
        return [self.stages[stage], *map(str, found)]

    def _reference_cells(self, name: str) -> list[str]:
        return [
            name,
            *(
                str(self.reference_estimate(name, metric))
                if metric == "return" or self.references[name].success is not None
                else ""
                for metric in self.metrics
            ),
        ]

    def scores(self, stage: int, metric: Metric = "return") -> Scores:
        """The score of each run and task at a stage. Shape [R, N].

        A task that was sampled several times counts once, with its mean score; N is `num_tasks`.
        """
        return self._once(self._task_scores(self.measured.metric(metric)[:, stage]))

    def reference(self, name: str, metric: Metric = "return") -> Scores:
        """The score of each run and task of a reference. Shape [R', N] or [1, R · N]."""
        return self._once(self._task_scores(self.references[name].metric(metric)))

    @property
    def num_tasks(self) -> int:
        """Number of different tasks of a run."""
        groups = self._groups
        return self.protocol.num_tasks if groups is None else int(groups.max()) + 1

    @property
    def tasks_in_words(self) -> str:
        """Number and split of the tasks, and how they are related to the training tasks.

        For example: "40 test tasks (the same tasks as in training)".
        """
        split, num_sampled, num_tasks = self.protocol.split, self.protocol.num_tasks, self.num_tasks
        facts = [] if split == "train" else [OVERLAP_WORDS[self.overlap]]
        if num_tasks < num_sampled:
            facts.append(f"{num_sampled:,} were sampled, and repetitions count once")
        shown = "; ".join(filter(None, facts))
        text = f"{num_tasks:,} {split} task{'' if num_tasks == 1 else 's'}"
        return f"{text} ({shown})" if shown else text

    @cached_property
    def _groups(self) -> NDArray[np.int64] | None:
        """Number of the task of each row, [1 or R, N]; None if each row counts.

        Training tasks are the whole distribution, from which each row is a draw; a repetition of
        other tasks adds no information about new tasks.
        """
        groups = task_groups(self.tasks)
        return None if groups is None or self.overlap == "all" else groups

    def _once(self, scores: Scores) -> Scores:
        groups = self._groups
        return scores if groups is None else counted_once(scores, self.tasks, groups)

    def estimate(self, scores: Scores, metric: Metric = "return") -> Estimate:
        """Mean of scores [R, N] with a 95 % interval for new runs and new tasks.

        With a single run the interval is over tasks; see `mean_interval`.
        """
        bounds = None if metric == "return" else (0.0, 1.0)
        return mean_interval(scores, same_tasks=self.same_tasks, bounds=bounds)

    def reference_estimate(self, name: str, metric: Metric = "return") -> Estimate:
        """Mean of a reference with a 95 % interval, as `estimate`."""
        return self._estimate_reference(self.reference(name, metric), metric)

    def total_estimate(self, name: str) -> Estimate:
        """Mean of a reference's returns over the whole trial, with a 95 % interval."""
        return self._estimate_reference(self.total(name), "return")

    def total(self, name: str) -> Scores:
        """The return of a reference over the whole trial. Shape [R', N] or [1, R · N]."""
        return self._once(self.totals[name])

    def _estimate_reference(self, scores: Scores, metric: Metric) -> Estimate:
        bounds = None if metric == "return" else (0.0, 1.0)
        shared = self.protocol.paired or (self.same_tasks and len(self.runs) > 1)
        return mean_interval(scores, same_tasks=shared, bounds=bounds)

    def interquartile_estimate(self, scores: Scores) -> Estimate:
        """Interquartile mean of scores [R, N] with the 95 % stratified bootstrap of rliable.

        That interval describes other runs on the same tasks and does not include the effect of a
        run on all tasks; see `stratified_bootstrap`.
        """
        return stratified_bootstrap(interquartile_mean, scores, seed=self.protocol.seed)

    def gain(self, stage: int, metric: Metric = "return") -> Estimate:
        """Mean difference of the scores at a stage and before adaptation, by the same run."""
        gains = self.scores(stage, metric) - self.scores(0, metric)
        bounds = None if metric == "return" else (-1.0, 1.0)
        return mean_interval(gains, same_tasks=self.same_tasks, bounds=bounds)

    def improvement(self, stage: int, metric: Metric = "return") -> Estimate:
        """Probability that a run scores higher at a stage than before adaptation, on a task.

        Equal scores count as one half.
        """
        gains = self.scores(stage, metric) - self.scores(0, metric)
        wins = (np.sign(gains) + 1) / 2
        return mean_interval(wins, same_tasks=self.same_tasks, bounds=(0.0, 1.0))

    @property
    def task_parameters(self) -> Scores:
        """The tasks of `task_scores`. Shape [N, D], or [R · N, D] if each run has its own."""
        groups = self._groups
        tasks = self.tasks if groups is None else distinct_tasks(self.tasks, groups)
        parameters: Scores = tasks.reshape(-1, self.tasks.shape[-1])
        return parameters

    def task_scores(self, stage: int) -> Scores:
        """The return on each task, mean over runs if all have the same tasks. [N] or [R · N]."""
        scores: Scores = self.scores(stage)
        return scores.mean(0) if self.same_tasks else scores.ravel()

    def gap_closed(self, stage: int) -> float | None:
        """Fraction of the gap to the oracle that adaptation closes: (R_s − R_0) / (R_oracle − R_0).

        None without an oracle, or if the agent is as good as the oracle before adaptation.
        """
        if "oracle" not in self.references:
            return None
        before = float(self.scores(0).mean())
        gap = float(self.reference("oracle").mean()) - before
        return (float(self.scores(stage).mean()) - before) / gap if gap > 0 else None

    @property
    def trial_returns(self) -> Scores | None:
        """Sum of the returns of all episodes of a trial, mean over trials, [R, N].

        None if the stages are not the episodes of one trial, or if there is only one episode.
        """
        by_episodes = self.protocol.stages_are_episodes and self.stages[0] == episode_name(0)
        if not by_episodes or len(self.stages) == 1:
            return None
        total: Scores = self.measured.returns.sum(1).mean(-1)
        return self._once(total)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that were measured: the return, and success if the family defines it."""
        return ("return",) if self.measured.success is None else ("return", "success")

    def to_json(self) -> dict[str, Any]:
        """The evaluation as JSON values, including statistics of the raw numbers."""
        return {
            "format": FORMAT,
            "environment": self.environment,
            "agent": self.agent,
            "protocol": asdict(self.protocol),
            "shares_episodes": self.protocol.shares_episodes,
            "same_tasks": self.same_tasks,
            "shared_tasks": self.overlap,
            "runs": list(self.runs),
            "iterations": list(self.iterations),
            "tasks": self.tasks.tolist(),
            "stages": list(self.stages),
            "measured": self.measured.to_json(),
            "references": {name: other.to_json() for name, other in self.references.items()},
            "totals": {name: total.tolist() for name, total in self.totals.items()},
            "statistics": {metric: self._statistics(metric) for metric in self.metrics},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], *, source: str = "evaluation") -> Evaluation:
        """The evaluation from the result of `to_json`.

        Raises:
            OutdatedEvaluationError: if it has an earlier format.
            ValueError: if a value is missing or has another shape.
        """
        if content.get("format") not in _READABLE:
            raise OutdatedEvaluationError(
                f"{source} must have format {FORMAT}, got {content.get('format')!r}; "
                "measure again with metarl evaluate RUN --json FILE"
            )
        before = content["format"] < FORMAT
        protocol = read_settings(
            EvaluationProtocol, _current_protocol(content.get("protocol"), before), source=source
        )
        try:
            made = cls(
                environment=str(content["environment"]),
                agent=str(content["agent"]),
                protocol=protocol,
                tasks=_read_tasks(content["tasks"], before),
                same_tasks=before or bool(content["same_tasks"]),
                runs=_names(content["runs"]),
                stages=_names(content["stages"]),
                measured=Measured.from_json(content["measured"]),
                references={
                    name: Measured.from_json(raw) for name, raw in content["references"].items()
                },
                # earlier versions stored neither iterations nor totals
                iterations=tuple(content.get("iterations", ())),
                stored_overlap=read_overlap(content.get("shared_tasks")),
                totals={
                    name: np.array(total, dtype=np.float64)
                    for name, total in content.get("totals", {}).items()
                },
            )
            made._check()
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{source} is damaged: {type(error).__name__}: {error}") from error
        return made

    def _check(self) -> None:
        """Reject parts whose shapes do not fit each other."""
        protocol = self.protocol
        shape = (protocol.num_tasks, protocol.evaluation_episodes)
        if len(self.stages) != protocol.num_stages:
            raise ValueError(f"stages must be {protocol.num_stages}, got {len(self.stages)}")
        sets = 1 if self.same_tasks else len(self.runs)
        require_shape("tasks", self.tasks, (sets, protocol.num_tasks, *self.tasks.shape[2:3]))
        self.measured.check("measured", (len(self.runs), protocol.num_stages, *shape))
        if self.iterations and len(self.iterations) != len(self.runs):
            raise ValueError(f"iterations must be {len(self.runs)}, got {len(self.iterations)}")
        for name, other in self.references.items():
            other.check(name, (*self._reference_shape(other.returns), shape[-1]))
        for name, total in self.totals.items():
            require_shape(f"totals of {name}", total, self._reference_shape(total))

    def _reference_shape(self, found: Scores) -> tuple[int, int]:
        """Runs and tasks of a reference; a single agent may have the tasks of all runs."""
        num_runs, num_tasks = int(found.shape[0]) if found.ndim else 0, self.protocol.num_tasks
        has_all = num_runs == 1 and found.shape[1:2] == (num_tasks * len(self.runs),)
        return num_runs, num_tasks * (len(self.runs) if has_all else 1)

    def _task_scores(self, episodes: Scores) -> Scores:
        """The score of each task, from episodes [..., N, M]."""
        last = self.protocol.task_score == "last"
        scores: Scores = episodes[..., -1] if last else episodes.mean(-1)
        return scores

    def _statistics(self, metric: Metric) -> dict[str, Any]:
        stages = [
            {
                "stage": name,
                "episodes_before": self.protocol.episodes_before(k),
                "mean": stored_estimate(self.estimate(self.scores(k, metric), metric)),
                "interquartile_mean": stored_estimate(
                    self.interquartile_estimate(self.scores(k, metric))
                ),
                "gain": stored_estimate(self.gain(k, metric)),
                "probability_of_improvement": stored_estimate(self.improvement(k, metric)),
                "gap_closed": self.gap_closed(k) if metric == "return" else None,
            }
            for k, name in enumerate(self.stages)
        ]
        others = {
            name: stored_estimate(self.reference_estimate(name, metric))
            for name, other in self.references.items()
            if metric == "return" or other.success is not None
        }
        found: dict[str, Any] = {"stages": stages, "references": others}
        if metric == "return" and (together := self.trial_returns) is not None:
            found["all_episodes"] = {
                "mean": stored_estimate(self.estimate(together)),
                "references": {
                    name: stored_estimate(self.total_estimate(name)) for name in self.totals
                },
            }
        return found


def episode_name(index: int) -> str:
    """The name of a stage that is an episode of a trial, counted from 0."""
    return f"episode {index + 1}"


def stored_estimate(estimate: Estimate) -> dict[str, Any]:
    """An estimate as JSON values; ends that are infinite are None."""
    fields = estimate._asdict()
    return fields | {
        end: value if np.isfinite(value) else None
        for end, value in fields.items()
        if end in ("low", "high")
    }


def _current_protocol(stored: object, before: bool) -> object:
    """A stored protocol with the present names and values of its fields."""
    if not isinstance(stored, dict):
        return stored
    current = {RENAMED_PROTOCOL_FIELDS.get(name, name): value for name, value in stored.items()}
    if "deterministic" in current:
        current["deterministic"] = stored_deterministic(current["deterministic"])
    return {"paired": True} | current if before else current


def _read_tasks(raw: object, before: bool) -> Scores:
    tasks = np.array(raw, dtype=np.float64)
    return tasks[None] if before else tasks


def _names(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list):
        raise TypeError(f"a list of names was expected, got {raw!r}")
    return tuple(str(name) for name in raw)
