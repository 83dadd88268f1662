"""Publish few-shot runs, and list them in the table of results.

A result is a folder results/fewshot/DATASET/LEARNER-5way-1shot, named by the training episodes. It
may hold several evaluations, for example with other numbers of ways.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metarl.evaluation.fewshot_results import MeasuredRuns
from metarl.evaluation.files import read_evaluations
from metarl.plots.fewshot import fewshot_learning_figure
from metarl.registry import LEARNER_PREFIX
from metarl.report.numbers import half_text
from metarl.report.published import published_figure
from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import read_metrics
from metarl.scripts.publish.folder import (
    provenance,
    require_equal_training,
    require_measured_runs,
    write_thinned,
)
from metarl.statistics.numbers import fixed_text
from metarl.storage.checkpoints import copy_without_optimizer
from metarl.storage.files import read_json_object

__all__ = ["fewshot_table", "publish_fewshot", "scores_text", "table_order", "tested_on"]

_DATA_DIR = "data"  # replaces the local folder in published commands
_SHOWN_STEPS = (1, 10)  # in addition to the number in training
_USUAL_QUERIES = 15  # per class
_TRAIN = "train"  # the split of runs from before this setting existed


def publish_fewshot(
    directories: Sequence[RunDirectory],
    evaluations: Sequence[Path],
    out: Path,
    name: str | None = None,
) -> Path:
    """Copy the small files of runs into a folder of results, and return the folder.

    The checkpoint is the last one of the first seed without its optimizer, two thirds of the file:
    it can be evaluated, but training cannot continue from it.

    Args:
        directories: the seeds of one experiment.
        evaluations: evaluation files of these runs, which differ in ways, shots, queries or split.
        out: folder of all few-shot results.
        name: name of the folder under its data set; None: learner, ways and shots.

    Raises:
        ValueError: if an evaluation is not one of the last checkpoints of these runs, or two
            evaluations have the same ways, shots, queries and split.
    """
    checkpoint = directories[0].newest_checkpoint()
    trained = require_equal_training(directories)
    measured = _measured(directories, evaluations, trained)
    configs = [_portable(directory.config()) for directory in directories]
    rows = [
        [row for row in read_metrics(one) if row["iteration"] <= trained] for one in directories
    ]
    if not all(rows):
        raise ValueError("each run must have metrics, one has none")
    learner = str(configs[0]["agent"]).removeprefix(LEARNER_PREFIX)
    dataset = str(configs[0]["environment"])
    metric = next(iter(measured.values())).first.metric
    episodes = _episodes(configs[0]["agent_config"], metric)

    contents = {_file_name(stored): file.read_bytes() for file, stored in measured.items()}
    target = out / dataset / (name or f"{learner}-{episodes}")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    (target / "config.json").write_text(json.dumps(configs[0], indent=2), encoding="utf-8")
    copy_without_optimizer(checkpoint, target / "checkpoint.safetensors")
    write_thinned(target / "metrics.jsonl", rows[0])
    for file_name, content in contents.items():
        (target / file_name).write_bytes(content)
    seeds = {f"seed {config['seed']}": part for config, part in zip(configs, rows, strict=True)}
    title = f"{dataset}, {learner}, {_episodes_in_words(configs[0]['agent_config'], metric)}"
    figure = fewshot_learning_figure(seeds, title)
    figure.savefig(target / "curve.png", dpi=110)
    line = provenance(configs, trained, rows[0][-1]["time/seconds"])
    (target / "README.md").write_text(line, encoding="utf-8")
    return target


def fewshot_table(out: Path) -> list[str]:
    """A Markdown table of all few-shot results in a directory, as lines; [] without results."""
    results = [(file.parent, _read(file)) for file in out.glob("*/*/evaluation-*.json")]
    if not results:
        return []
    results.sort(key=lambda result: (result[0], *table_order(result[1])))
    return [
        "Final models on unseen tasks: accuracy in percent, or mean squared error for sinusoids.",
        "For learners that adapt by steps, the score is given after several numbers of steps. ± is",
        "half of the 95 % interval, over tasks for a single run, and for new runs and tasks for",
        "several. Published results are from the papers; minutes are for one run.",
        "",
        "| data set | learner | tested on | tasks × runs | training | ours | adaptation | norm | "
        "published |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(folder, stored) for folder, stored in results),
    ]


def table_order(measured: MeasuredRuns) -> tuple[bool, str, int, int, int]:
    """Sorting key of the table: the test split first, then ways, shots and queries."""
    protocol = measured.protocol
    split, ways, shots = str(protocol["split"]), int(protocol["ways"]), int(protocol["shots"])
    return split != "test", split, ways, shots, -_queries(protocol)


def _file_name(measured: MeasuredRuns) -> str:
    """Name of the file of an evaluation in a result's folder."""
    protocol, metric = measured.protocol, measured.first.metric
    words = [_episodes(protocol, metric)]
    if metric == "accuracy" and _queries(protocol) != _USUAL_QUERIES:
        words.append(f"{_queries(protocol)}query")
    if protocol["split"] != "test":
        words.append(str(protocol["split"]))
    return f"evaluation-{'-'.join(words)}.json"


def _measured(
    directories: Sequence[RunDirectory], evaluations: Sequence[Path], trained: int
) -> dict[Path, MeasuredRuns]:
    """Read the evaluations and check that they are current, of these runs, and distinct."""
    agent = str(directories[0].config()["agent"])
    found: dict[Path, MeasuredRuns] = {}
    for file in evaluations:
        stored = _read(file)
        require_measured_runs(
            file, directories, agent, (LEARNER_PREFIX + stored.first.learner, stored.runs)
        )
        if stored.protocol["iterations"] != trained:
            raise ValueError(
                f"{file} must be an evaluation of the last checkpoint, after {trained} iterations, "
                f"got one after {stored.protocol['iterations']}"
            )
        for other, held in found.items():
            if _file_name(held) == _file_name(stored):
                raise ValueError(
                    f"evaluations must differ in ways, shots, queries or split, {other} and "
                    f"{file} do not"
                )
        found[file] = stored
    return found


def _read(file: Path) -> MeasuredRuns:
    (measured,) = read_evaluations(file, MeasuredRuns)
    return measured


def _episodes(settings: Mapping[str, Any], metric: str) -> str:
    """Ways and shots as in the names of folders and files."""
    shots = f"{settings['shots']}shot"
    return shots if metric == "mse" else f"{settings['ways']}way-{shots}"


def _episodes_in_words(settings: Mapping[str, Any], metric: str) -> str:
    shots = settings["shots"]
    return f"{shots} points" if metric == "mse" else f"{settings['ways']}-way {shots}-shot"


def _queries(protocol: Mapping[str, Any]) -> int:
    """Query points per class; 0 if the query is a grid."""
    number, _, unit = str(protocol["query"]).partition(" ")
    return int(number) if unit == "per class" else 0


def tested_on(stored: MeasuredRuns) -> str:
    """Ways, shots and queries of the test tasks, in words."""
    words = _episodes_in_words(stored.protocol, stored.first.metric)
    if stored.first.metric == "mse":
        return words
    number = _queries(stored.protocol)
    return f"{words}, {number} {'query' if number == 1 else 'queries'} per class"


def _portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's config.json without the local folder of its data."""
    resumed = [
        {**entry, "command": _portable_command(entry["command"])}
        for entry in config.get("resumed", ())
    ]
    command = _portable_command(config["command"])
    return {
        **config,
        "data_dir": None,
        "command": command,
        **({"resumed": resumed} if resumed else {}),
    }


def _portable_command(words: Sequence[str]) -> list[str]:
    kept = []
    for before, word in zip(("", *words), words, strict=False):
        option, equals, _ = word.partition("=")
        if equals and option in ("--data-dir", "--data_dir"):
            kept.append(f"{option}={_DATA_DIR}")
        else:
            kept.append(_DATA_DIR if before in ("--data-dir", "--data_dir") else word)
    return kept


def _row(folder: Path, stored: MeasuredRuns) -> str:
    config = read_json_object(folder / "config.json")
    protocol, settings = stored.protocol, config["agent_config"]
    split = "" if protocol["split"] == "test" else f", {protocol['split']} tasks"
    learner = stored.first.learner
    link = f"[{folder.name}]({folder.parent.parent.name}/{folder.parent.name}/{folder.name})"
    ways, shots = int(protocol["ways"]), int(protocol["shots"])
    norm = f"{protocol['batch_norm']}; {'' if protocol['transductive'] else 'not '}transductive"
    cells = [
        stored.first.dataset + split,
        link,
        tested_on(stored),
        f"{protocol['num_tasks']} × {len(stored.runs)}",
        _training(folder, config, int(protocol["iterations"])),
        scores_text(stored, settings),
        str(protocol["adaptation"]),
        norm,
        published_figure(stored.first.dataset, learner, ways, shots) if not split else "",
    ]
    return f"| {' | '.join(cells)} |"


def _training(folder: Path, config: Mapping[str, Any], iterations: int) -> str:
    """Training episodes, iterations and time, in seconds if it is less than a minute."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    seconds = json.loads(lines[-1])["time/seconds"]
    time = f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
    settings = config["agent_config"]
    trained = f"{settings['train_ways']}-way, " if settings["train_ways"] else ""
    if settings.get("train_split", _TRAIN) != _TRAIN:
        trained += f"{settings['train_split']} classes, "
    return f"{trained}{iterations:,} iterations, {time} ({config['device']})"


def scores_text(stored: MeasuredRuns, settings: Mapping[str, Any]) -> str:
    """Means and intervals after 1 and 10 steps, and after the steps of training or of the test.

    Reptile's steps in training use minibatches and differ from its steps in the test.
    """
    own_test = settings.get("num_test_steps")
    trained = settings.get("num_inner_steps", 1)
    usual = own_test or trained
    word = "its own test" if own_test else "as trained"
    scale, digits = (1, 3) if stored.first.metric == "mse" else (100, 2)
    texts = {
        step: "diverged"
        if found is None
        else f"{fixed_text(scale * found.value, digits)} ± {half_text(found, scale, digits)}"
        for step, found in zip(stored.first.steps, stored.intervals(), strict=True)
    }
    if 0 not in texts:  # adaptation has no steps
        return texts[1]
    steps = sorted({*_SHOWN_STEPS, usual} & set(texts)) or [0]
    return "<br>".join(
        f"{step} step{'s' if step != 1 else ''}: {texts[step]}"
        + (f" ({word})" if step == usual else "")
        for step in steps
    )
