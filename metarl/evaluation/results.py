"""What an evaluation measured: raw returns of every run, task and episode, and their statistics.

`metarl.evaluation.evaluator` measures; `metarl.evaluation.files` writes and reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metarl.evaluation.protocol import EvaluationProtocol
from metarl.statistics.bootstrap import Estimate, stratified_bootstrap
from metarl.statistics.scores import interquartile_mean, mean_score, probability_of_improvement
from metarl.storage.settings import read_settings

__all__ = [
    "Evaluation",
    "Measured",
    "Metric",
    "Scores",
    "episode_name",
    "OutdatedEvaluationError",
]

FORMAT = 2
Scores = NDArray[np.float64]
Metric = Literal["return", "success"]


class OutdatedEvaluationError(ValueError):
    """An evaluation that an earlier version wrote; it must be measured again."""


@dataclass(frozen=True)
class Measured:
    """Episodes played, the leading axes their meaning's."""

    returns: Scores  # [..., N, M], undiscounted
    success: Scores | None = None  # [..., N, M], 1 where an episode succeeded at any step, else 0

    def metric(self, name: Metric) -> Scores:
        """Returns, or success.

        Raises:
            ValueError: if success is asked for and the family defines none.
        """
        if name == "return":
            return self.returns
        if self.success is None:
            raise ValueError("metric must be 'return', this family defines no success")
        return self.success

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Refuse returns or success of another shape, or not finite, with a ValueError."""
        _require_shape(f"returns of {name}", self.returns, shape)
        if self.success is not None:
            _require_shape(f"success of {name}", self.success, shape)


@dataclass(frozen=True)
class Evaluation:
    """How an agent's runs fared on the same tasks, stage by stage, and others beside them."""

    environment: str
    agent: str
    protocol: EvaluationProtocol
    tasks: Scores  # [N, D]; D is 0 where a file leaves long tasks out
    runs: tuple[str, ...]
    """What was measured, R names: directories or checkpoints."""
    stages: tuple[str, ...]
    """What the stages are called, S + 1 names."""
    measured: Measured  # [R, S + 1, N, M]
    references: Mapping[str, Measured] = field(default_factory=dict)
    """Others on the same tasks, by name, [R', N, M]: random, oracle, agents after the last
    stage."""
    iterations: tuple[int | None, ...] = ()
    """How long each run had been trained; None where that is not known, empty if of none."""
    totals: Mapping[str, Scores] = field(default_factory=dict)
    """Return of all episodes of the trial together, of references with a memory, [R', N]."""

    def scores(self, stage: int, metric: Metric = "return") -> Scores:
        """The reported number of each run and task at a stage. Shape [R, N]."""
        return self._reported(self.measured.metric(metric)[:, stage])

    def reference(self, name: str, metric: Metric = "return") -> Scores:
        """The reported number of a reference for each of its runs and tasks. Shape [R', N]."""
        return self._reported(self.references[name].metric(metric))

    def estimate(self, scores: Scores) -> Estimate:
        """Mean of scores [R, N] with a 95 % stratified-bootstrap interval."""
        return stratified_bootstrap(mean_score, scores, seed=self.protocol.seed)

    def middle(self, scores: Scores) -> Estimate:
        """Interquartile mean of scores [R, N] with a 95 % stratified-bootstrap interval."""
        return stratified_bootstrap(interquartile_mean, scores, seed=self.protocol.seed)

    def gain(self, stage: int, metric: Metric = "return") -> Estimate:
        """What a stage has over the stage before any adaptation, run by run and task by task."""
        return self.estimate(self.scores(stage, metric) - self.scores(0, metric))

    def improvement(self, stage: int, metric: Metric = "return") -> Estimate:
        """Probability that a run at a stage beats a run before adaptation on the same task."""
        return stratified_bootstrap(
            probability_of_improvement,
            self.scores(stage, metric),
            self.scores(0, metric),
            seed=self.protocol.seed,
        )

    def gap_closed(self, stage: int) -> float | None:
        """Share of the gap between the return before adaptation and the oracle's.

        None without an oracle, or where the agent is as good as the oracle before adapting.
        """
        if "oracle" not in self.references:
            return None
        before = float(self.scores(0).mean())
        gap = float(self.reference("oracle").mean()) - before
        return (float(self.scores(stage).mean()) - before) / gap if gap > 0 else None

    @property
    def trial_returns(self) -> Scores | None:
        """Return of all episodes together, [R, N], where the stages are those of one trial.

        None of agents that adapt by steps, of a single episode, and where the episodes that are
        measured are not those that were learnt from.
        """
        by_episodes = self.protocol.is_one_trial and self.stages[0] == episode_name(0)
        if not by_episodes or len(self.stages) == 1:
            return None
        total: Scores = self.measured.returns[..., 0].sum(1)
        return total

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What was measured: the return always, success where the family defines it."""
        return ("return",) if self.measured.success is None else ("return", "success")

    def to_json(self) -> dict[str, Any]:
        """Everything as plain lists, numbers and text; statistics beside the raw numbers."""
        return {
            "format": FORMAT,
            "environment": self.environment,
            "agent": self.agent,
            "protocol": asdict(self.protocol),
            "shares_episodes": self.protocol.shares_episodes,
            "runs": list(self.runs),
            "iterations": list(self.iterations),
            "tasks": self.tasks.tolist(),
            "stages": list(self.stages),
            "measured": _raw(self.measured),
            "references": {name: _raw(other) for name, other in self.references.items()},
            "totals": {name: total.tolist() for name, total in self.totals.items()},
            "statistics": {metric: self._statistics(metric) for metric in self.metrics},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], *, where: str = "evaluation") -> Evaluation:
        """The evaluation that `to_json` described.

        Raises:
            OutdatedEvaluationError: if it is of an earlier format.
            ValueError: if something is missing or of another shape.
        """
        if content.get("format") != FORMAT:
            raise OutdatedEvaluationError(
                f"{where} must have format {FORMAT}, got {content.get('format')!r}; "
                "measure again with metarl evaluate RUN --json FILE"
            )
        protocol = read_settings(EvaluationProtocol, content.get("protocol"), where=where)
        try:
            made = cls(
                environment=str(content["environment"]),
                agent=str(content["agent"]),
                protocol=protocol,
                tasks=np.array(content["tasks"], dtype=np.float64),
                runs=_names(content["runs"]),
                stages=_names(content["stages"]),
                measured=_read(content["measured"]),
                references={name: _read(raw) for name, raw in content["references"].items()},
                iterations=tuple(content.get("iterations", ())),  # files of before have none
                totals={  # nor these
                    name: np.array(total, dtype=np.float64)
                    for name, total in content.get("totals", {}).items()
                },
            )
            made._check()
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{where} is damaged: {type(error).__name__}: {error}") from error
        return made

    def _check(self) -> None:
        """Refuse parts that do not fit each other."""
        protocol = self.protocol
        shape = (protocol.num_tasks, protocol.evaluation_episodes)
        if len(self.stages) != protocol.num_stages:
            raise ValueError(f"stages must be {protocol.num_stages}, got {len(self.stages)}")
        _require_shape("tasks", self.tasks, (protocol.num_tasks, *(self.tasks.shape[1:2] or (1,))))
        self.measured.check("measured", (len(self.runs), protocol.num_stages, *shape))
        if self.iterations and len(self.iterations) != len(self.runs):
            raise ValueError(f"iterations must be {len(self.runs)}, got {len(self.iterations)}")
        for name, other in self.references.items():
            other.check(name, (*other.returns.shape[:1], *shape))
        for name, total in self.totals.items():
            _require_shape(f"totals of {name}", total, (*total.shape[:1], protocol.num_tasks))

    def _reported(self, episodes: Scores) -> Scores:
        """From episodes [..., N, M] to the number that counts for each task."""
        last = self.protocol.reported == "last"
        reported: Scores = episodes[..., -1] if last else episodes.mean(-1)
        return reported

    def _statistics(self, metric: Metric) -> dict[str, Any]:
        stages = [
            {
                "stage": name,
                "episodes_before": self.protocol.episodes_before(k),
                "mean": self.estimate(self.scores(k, metric))._asdict(),
                "interquartile_mean": self.middle(self.scores(k, metric))._asdict(),
                "gain": self.gain(k, metric)._asdict(),
                "probability_of_improvement": self.improvement(k, metric)._asdict(),
                "gap_closed": self.gap_closed(k) if metric == "return" else None,
            }
            for k, name in enumerate(self.stages)
        ]
        others = {
            name: self.estimate(self.reference(name, metric))._asdict()
            for name, other in self.references.items()
            if metric == "return" or other.success is not None
        }
        found: dict[str, Any] = {"stages": stages, "references": others}
        if metric == "return" and (together := self.trial_returns) is not None:
            found["all_episodes"] = {
                "mean": self.estimate(together)._asdict(),
                "references": {n: self.estimate(t)._asdict() for n, t in self.totals.items()},
            }
        return found


def episode_name(index: int) -> str:
    """What a stage is called that is an episode of a trial, counted from 0."""
    return f"episode {index + 1}"


def _require_shape(name: str, values: Scores, shape: tuple[int, ...]) -> None:
    if values.shape != shape or not len(values):
        raise ValueError(f"{name} must have shape {shape}, got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite")


def _names(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list):
        raise TypeError(f"a list of names was expected, got {raw!r}")
    return tuple(str(name) for name in raw)


def _raw(part: Measured) -> dict[str, Any]:
    success = None if part.success is None else part.success.tolist()
    return {"returns": part.returns.tolist(), "success": success}


def _read(raw: Mapping[str, Any]) -> Measured:
    success = raw["success"]
    return Measured(
        np.array(raw["returns"], dtype=np.float64),
        None if success is None else np.array(success, dtype=np.float64),
    )
