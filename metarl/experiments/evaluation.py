"""Evaluation of agents and few-shot learners: `metarl evaluate` and `metarl.evaluate`."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias

from metarl.console import plain_console
from metarl.evaluation.files import AnyEvaluation, write_evaluations
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.evaluation.results import Evaluation
from metarl.experiments.evaluate_agents import EvaluateAgentsConfig, evaluate_agents
from metarl.experiments.evaluate_learners import EvaluateLearnersConfig, evaluate_learners
from metarl.fewshot.training import FewShotTraining
from metarl.processes import require_main_process
from metarl.progress import Activity, Progress, ignore_progress
from metarl.registry import LEARNER_PREFIX
from metarl.rl.players import AdaptiveAgent
from metarl.runs.seeds import SEEDS_FILE, holds_seeds
from metarl.storage.checkpoints import read_header
from metarl.storage.files import read_json_object, write_output
from metarl.validation import as_path, unknown_name

__all__ = [
    "Target",
    "config_type",
    "evaluate",
    "measure",
    "run_evaluation",
    "write_results",
]

Target: TypeAlias = str | os.PathLike[str] | AdaptiveAgent | FewShotTraining
EvaluateConfig: TypeAlias = EvaluateAgentsConfig | EvaluateLearnersConfig

_PATHS = ("json", "plot", "data_dir")
_TARGETS = {EvaluateAgentsConfig: "targets", EvaluateLearnersConfig: "runs"}


def evaluate(
    targets: Target | Sequence[Target], *, progress: bool = True, **options: Any
) -> list[AnyEvaluation]:
    """Measure agents or few-shot learners, and write the same files as `metarl evaluate`.

    Args:
        targets: one target, or several runs of one experiment. A target is the folder of a run, of
            several seeds or of a published run, a checkpoint, or an agent or few-shot learner
            itself; for agents also MODEL.zip of Stable-Baselines3 or "module:attribute".
        progress: show the progress: a bar on a terminal, otherwise lines on standard error if it
            takes long.
        options: options of `metarl evaluate`, with underscores, such as `num_tasks=100`,
            `preset="varibad"`, `env="Navigation2D:maml17"` or `json="numbers.json"`. Options that
            are left out have the same defaults as for the command.

    Returns:
        Of agents one evaluation for each split, of few-shot learners a single evaluation.

    Raises:
        ValueError: if a target cannot be used, or an option is unknown or does not fit.
        TypeError: if a target is of another type.

    Example:
        >>> from metarl.rl.registry import make_reference
        >>> from metarl.tasks.registry import make_family
        >>> agent = make_reference("thompson", make_family("Bandit:n10-k5"))
        >>> [found] = evaluate(agent, env="Bandit:n10-k5", num_tasks=20, adaptation_steps=0)
        >>> found.stages
        ('episode 1',)
    """
    with Activity("loading the targets", plain_console(quiet=not progress)) as activity:
        config, evaluations = _measured(targets, options, activity)
    write_results(config, evaluations)
    return evaluations


def measure(
    targets: Target | Sequence[Target], *, progress: Progress = ignore_progress, **options: Any
) -> list[AnyEvaluation]:
    """Measure agents or few-shot learners as `evaluate` does, without writing files.

    Args:
        targets: as for `evaluate`.
        progress: called before each part of the work.
        options: as for `evaluate`.

    Raises:
        ValueError: if a target cannot be used, or an option is unknown or does not fit.
        TypeError: if a target is of another type.
    """
    return _measured(targets, options, progress)[1]


def _measured(
    targets: Target | Sequence[Target], options: Mapping[str, Any], progress: Progress
) -> tuple[EvaluateConfig, list[AnyEvaluation]]:
    require_main_process("metarl.evaluate")
    words, live = _split(targets)
    is_fewshot = any(isinstance(one, FewShotTraining) for one in live)
    chosen = EvaluateLearnersConfig if is_fewshot else config_type(words)
    config = _config(chosen, words, options)
    evaluations = run_evaluation(config, given=options.keys(), live=live, progress=progress)
    return config, evaluations


def config_type(words: Iterable[str]) -> type[EvaluateConfig]:
    """The type of the options: `EvaluateLearnersConfig` if a word names a few-shot run."""
    if any(map(_is_fewshot, words)):
        return EvaluateLearnersConfig
    return EvaluateAgentsConfig


def run_evaluation(
    config: EvaluateConfig,
    *,
    given: Collection[str],
    live: Sequence[Any] = (),
    progress: Progress = ignore_progress,
) -> list[AnyEvaluation]:
    """Measure the targets of a configuration, without writing files.

    Args:
        config: options of agents or of learners.
        given: names of the given options.
        live: agents or learners to measure instead of the targets of `config`.
        progress: called before each part of the work.

    Raises:
        ValueError: if a target cannot be used, or an option does not fit.
    """
    if isinstance(config, EvaluateLearnersConfig):
        return [evaluate_learners(config, live=live, progress=progress)]
    return [*evaluate_agents(config, given=given, live=live, progress=progress)]


def write_results(config: EvaluateConfig, evaluations: Sequence[AnyEvaluation]) -> list[str]:
    """Write the results to the files of a configuration, including the plot of agents.

    Returns:
        Sentences for the user about files that were written and files that were not.
    """
    sentences = []
    if config.json_file is not None:
        write_evaluations(config.json_file, evaluations)
        sentences.append(f"wrote {config.json_file}")
    if isinstance(config, EvaluateLearnersConfig):
        return sentences
    if config.json_file is None and config.own_run is not None:
        sentences.append(
            f"{config.own_run.path} is a published run, so its evaluation.json was not changed; "
            "--json FILE writes these results"
        )
    if config.plot is not None:  # importing matplotlib takes a second
        from metarl.plots.adaptation import adaptation_figure
        from metarl.plots.style import figure_png

        agents = [one for one in evaluations if isinstance(one, Evaluation)]
        write_output(config.plot, figure_png(adaptation_figure(agents), dpi=150))
    return sentences


def _is_fewshot(word: str) -> bool:
    """Whether a word names a run, several seeds or a checkpoint of a few-shot learner."""
    path = Path(word)
    try:
        if path.is_dir():
            file = SEEDS_FILE if holds_seeds(path) else "config.json"
            agent = read_json_object(path / file).get("agent")
        elif path.suffix == ".safetensors":
            agent = read_header(path).get("agent")
        else:
            return False
    except (OSError, ValueError):  # reported when the target is loaded
        return False
    return isinstance(agent, str) and agent.startswith(LEARNER_PREFIX)


def _split(targets: Target | Sequence[Target]) -> tuple[list[str], list[Any]]:
    """Split targets into paths, as text, and objects in memory."""
    several: Sequence[Any] = targets if isinstance(targets, list | tuple) else [targets]
    words = [os.fspath(one) for one in several if isinstance(one, str | os.PathLike)]
    live = [one for one in several if not isinstance(one, str | os.PathLike)]
    if words and live:
        raise ValueError("targets must be either all stored or all in memory, got both")
    return words, live


def _config(
    chosen: type[EvaluateConfig], words: Sequence[str], options: Mapping[str, Any]
) -> EvaluateConfig:
    """A configuration from options by name, converted to the types of its fields.

    Raises:
        ValueError: if an option is unknown; the message suggests the nearest name.
    """
    of_protocol = {part.name for part in fields(EvaluationProtocol)}
    is_agents = chosen is EvaluateAgentsConfig
    known = {part.name for part in fields(chosen)} | (of_protocol if is_agents else set())
    known -= {"protocol", _TARGETS[chosen]}
    for name in options:
        if name not in known:
            raise ValueError(unknown_name("option", name, sorted(known)))
    values = {name: _converted(name, value) for name, value in options.items()}
    if not is_agents:
        return EvaluateLearnersConfig(tuple(map(Path, words)), **values)
    protocol = {name: values.pop(name) for name in of_protocol & values.keys()}
    return EvaluateAgentsConfig(tuple(words), protocol=EvaluationProtocol(**protocol), **values)


def _converted(name: str, value: Any) -> Any:
    if value is not None and name in _PATHS:
        return as_path(name, value)
    if name == "references":
        return (value,) if isinstance(value, str) else tuple(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value
