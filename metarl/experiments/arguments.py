"""Conversion of the arguments of `metarl.train` to an experiment.

A run must be reproducible from its folder alone, so a family or data set that is given as an object
is stored by its registered name. It is rejected if the registered object differs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metarl.console import plain_console
from metarl.devices import resolve_device
from metarl.experiments.data_options import DataOptions
from metarl.experiments.train_agent import AgentExperiment, TrainConfig
from metarl.experiments.train_learner import (
    FewShotConfig,
    LearnerExperiment,
    default_dataset,
    train_and_measure,
)
from metarl.experiments.training import train
from metarl.fewshot.data.batches import FewShotTasks
from metarl.fewshot.learners.catalog import LEARNERS, recipe
from metarl.rl.registry import AGENTS, load_agent
from metarl.tasks.family import TaskFamily
from metarl.tasks.registry import make_family
from metarl.validation import plain_value, unknown_name

__all__ = ["run_experiment"]

Arguments = dict[str, Any]


def run_experiment(
    name: str, out: Path, given: Mapping[str, Any], *, resume: bool, progress: bool
) -> None:
    """Train an agent or a few-shot learner; see `metarl.train`.

    Args:
        name: name of the agent or the learner.
        out: folder of the run.
        given: the given arguments by name.
        resume: whether to continue the run in the folder.
        progress: whether to print the progress.
    """
    console = plain_console(quiet=not progress)
    fixed: Arguments = {"out": out, "resume": resume}
    values = {key: plain_value(value) for key, value in given.items()}
    if _is_learner(name, values):
        values = _with_stored_data(values)
        own = _own_settings(name, values, FewShotConfig, LEARNERS.load(name).config_type)
        shared = {key: value for key, value in values.items() if key not in own}
        settings = FewShotConfig(**fixed, **{"dataset": default_dataset(name), **shared})
        learner = LearnerExperiment(name, settings, recipe(name, settings.dataset, **own))
        train_and_measure(learner, given=values.keys(), console=console)
    else:
        if "env" not in values and not resume:
            raise ValueError(f"env must be given for {name}: a family and its variant, or a family")
        if isinstance(values.get("env"), TaskFamily):
            values["env"] = _registered_id(values["env"])
        config_type = load_agent(name).config_type
        own = _own_settings(name, values, TrainConfig, config_type)
        shared = {key: value for key, value in values.items() if key not in own}
        agent = AgentExperiment(name, TrainConfig(**fixed, **shared), config_type(**own))
        train(agent, given=values.keys(), console=console)


def _is_learner(name: str, given: Arguments) -> bool:
    """Whether a name means a few-shot learner instead of an agent."""
    if "env" in given and "dataset" in given:
        raise ValueError(
            "env and dataset must not both be given: agents train on an env, learners on a dataset"
        )
    if not isinstance(name, str) or (name not in AGENTS and name not in LEARNERS):
        known = [entry.name for registry in (AGENTS, LEARNERS) for entry in registry]
        raise ValueError(unknown_name("agent or learner", name, known))
    if "dataset" in given and name not in LEARNERS:
        raise ValueError(
            f"dataset must be left out for {name}, an agent: it trains on an env, a task family"
        )
    if "env" in given and name not in AGENTS:
        raise ValueError(
            f"env must be left out for {name}, a few-shot learner: it trains on a dataset"
        )
    return name in LEARNERS and (name not in AGENTS or "dataset" in given)


def _own_settings(
    name: str, given: Arguments, run_type: type[Any], config_type: type[Any]
) -> Arguments:
    """The given settings that belong to the agent or learner.

    Raises:
        ValueError: if a name is a setting of neither the agent or learner nor the run.
    """
    run_settings = {field.name for field in dataclasses.fields(run_type)}
    config_settings = {field.name for field in dataclasses.fields(config_type)}
    for key in given:
        if key not in run_settings | config_settings:
            raise ValueError(
                unknown_name(f"setting of {name}", key, sorted(run_settings | config_settings))
            )
    return {key: value for key, value in given.items() if key not in run_settings}


def _with_stored_data(given: Arguments) -> Arguments:
    """The arguments of a learner with its data in the form that config.json stores."""
    values = dict(given)
    options = values.get("dataset_options")
    if isinstance(options, Mapping):
        values["dataset_options"] = tuple(f"{k}={_option_text(v)}" for k, v in options.items())
    if isinstance(values.get("data_dir"), str):
        values["data_dir"] = Path(values["data_dir"])
    if not isinstance(values.get("dataset", ""), str):
        values["dataset"] = _registered_name(values["dataset"], values)
    return values


def _option_text(value: Any) -> str:
    """The value of an option on a command line; text that would parse as JSON is quoted."""
    try:
        json.loads(value)
    except (TypeError, ValueError):
        return value if isinstance(value, str) else json.dumps(value)
    return json.dumps(value)


def _registered_id(family: TaskFamily) -> str:
    """The id of a family, from which a resume creates it again.

    Raises:
        ValueError: if the family is not registered, or the registered one differs.
    """
    remedy = (
        "register it with metarl.envs.register_family under this name, with a variant for its "
        "settings, and pass its id, so that the run can be resumed"
    )
    try:
        registered = make_family(family.id)
    except ValueError as error:
        raise ValueError(f"env {family.id!r} must be a registered family; {remedy}") from error
    if (
        type(registered) is not type(family)
        or not np.array_equal(registered.sample_tasks(8, seed=0), family.sample_tasks(8, seed=0))
        or registered.description != family.description
    ):
        raise ValueError(f"env must equal the registered family {family.id!r}; {remedy}")
    return family.id


def _registered_name(tasks: FewShotTasks, given: Arguments) -> str:
    """The name of a data set, from which a resume creates its tasks again.

    Raises:
        ValueError: if the data set is not registered, or the registered one differs.
    """
    remedy = (
        "pass the name of a registered data set, with data_dir and dataset_options, so that the "
        "run can be resumed; metarl.fewshot.datasets.catalog.DATASETS.register adds one"
    )
    data = DataOptions(given.get("data_dir"), given.get("dataset_options", ()))
    try:
        registered = data.make(tasks.name, resolve_device(given.get("device", "auto")))
    except ValueError as error:
        raise ValueError(f"dataset {tasks.name!r} must be registered; {remedy}") from error
    if type(registered) is not type(tasks) or registered.protocol != tasks.protocol:
        raise ValueError(f"dataset must equal the registered data set {tasks.name!r}; {remedy}")
    return tasks.name
