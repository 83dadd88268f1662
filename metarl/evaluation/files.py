"""Evaluation files of agents and few-shot learners.

A file of agents is `{"evaluations": [...]}`, one for each split. A file of few-shot runs is one
object with learner, dataset, runs, protocol and steps. `Evaluation` and `MeasuredRuns` define the
fields.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, overload

from metarl.evaluation.fewshot_results import MeasuredRuns
from metarl.evaluation.results import FORMAT, Evaluation, OutdatedEvaluationError
from metarl.storage.files import read_json_object, write_output

__all__ = ["AnyEvaluation", "read_evaluations", "write_evaluations"]

AnyEvaluation: TypeAlias = Evaluation | MeasuredRuns
"""An evaluation of an agent's runs, or of a few-shot learner's."""
Kind = TypeVar("Kind", Evaluation, MeasuredRuns)


def write_evaluations(file: Path, evaluations: Sequence[AnyEvaluation]) -> None:
    """Write evaluations to a JSON file in one step.

    Args:
        file: the file; it is replaced if it exists.
        evaluations: one or more evaluations of agents, such as one for each split; or a single
            evaluation of few-shot runs.

    Raises:
        ValueError: if there are none, of both kinds, or several of few-shot runs.
    """
    agents = [one for one in evaluations if isinstance(one, Evaluation)]
    learners = [one for one in evaluations if isinstance(one, MeasuredRuns)]
    if agents and not learners:
        joined = ",\n".join(_agent_text(one) for one in agents)
        text = f'{{"evaluations": [\n{joined}\n]}}\n'
    elif len(learners) == 1 and not agents:
        text = _learner_text(learners[0])
    else:
        raise ValueError(
            "evaluations must be one or more of agents, or a single one of few-shot runs, got "
            f"{len(agents)} and {len(learners)}"
        )
    write_output(file, text.encode())


@overload
def read_evaluations(file: Path) -> tuple[AnyEvaluation, ...]: ...
@overload
def read_evaluations(file: Path, kind: type[Kind]) -> tuple[Kind, ...]: ...
def read_evaluations(file: Path, kind: type[Any] | None = None) -> tuple[Any, ...]:
    """Read the evaluations in a file of `write_evaluations`.

    Args:
        file: the file.
        kind: class that the evaluations must have; None: either class.

    Raises:
        OutdatedEvaluationError: if the file has an earlier format.
        ValueError: if the file is missing or damaged, or holds the other class.
    """
    if not file.is_file():
        raise ValueError(f"evaluation must be a file, there is none at {file}")
    content, source = read_json_object(file), str(file)
    found: tuple[AnyEvaluation, ...]
    if "evaluations" in content:
        found = _agents(content["evaluations"], source)
    elif "learner" in content:
        found = (MeasuredRuns.from_json(content, source=source),)
    else:
        raise OutdatedEvaluationError(_other_format(source))
    if kind is not None and not isinstance(found[0], kind):
        words = {Evaluation: "agents", MeasuredRuns: "few-shot runs"}
        raise ValueError(
            f"{file} must hold an evaluation of {words[kind]}, it holds one of "
            f"{words[type(found[0])]}"
        )
    return found


def _agents(stored: object, source: str) -> tuple[Evaluation, ...]:
    is_list = isinstance(stored, list) and all(isinstance(one, dict) for one in stored)
    if not is_list or not stored:
        raise ValueError(_other_format(source))
    assert isinstance(stored, list)
    return tuple(Evaluation.from_json(one, source=source) for one in stored)


def _other_format(source: str) -> str:
    return (
        f"{source} must hold evaluations of format {FORMAT}, it is damaged or older; "
        "measure again with metarl evaluate RUN --json FILE"
    )


def _agent_text(evaluation: Evaluation) -> str:
    """JSON with a line per field, not per number."""
    fields = (f"{json.dumps(k)}: {json.dumps(v)}" for k, v in evaluation.to_json().items())
    return "{" + ",\n ".join(fields) + "}"


def _learner_text(measured: MeasuredRuns) -> str:
    """JSON with a line per field and per number of adaptation steps."""
    content = measured.to_json()
    rows = (json.dumps(row, separators=(",", ":")) for row in content.pop("steps"))
    fields = {name: json.dumps(value, ensure_ascii=False) for name, value in content.items()}
    fields["steps"] = "[\n  " + ",\n  ".join(rows) + "\n ]"
    lines = ",\n ".join(f'"{name}": {text}' for name, text in fields.items())
    return f"{{{lines}}}\n"
