"""Damaged checkpoints, malformed configurations and command lines: all must be refused well."""

from __future__ import annotations

import dataclasses
import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from metarl.agents.maml_trpo.config import MAMLTRPOConfig
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.experiments.evaluate_agents import EvaluateAgentsConfig
from metarl.experiments.train_agent import TrainConfig
from metarl.experiments.train_learner import FewShotConfig
from metarl.fewshot import MAMLConfig
from metarl.runs.directory import RunDirectory
from metarl.scripts.faults.kills import FEWSHOT, MAML_TRPO
from metarl.scripts.faults.processes import Row, command

__all__ = ["command_lines", "configs", "damaged_checkpoints"]

_REFUSED = "one sentence, exit code 2, nothing written"


def damaged_checkpoints(count: int, seed: int, folder: Path) -> list[Row]:
    """Damage the newest checkpoint of a run, then resume and evaluate that run."""
    rng = random.Random(f"{seed} checkpoints")
    run = _finished_run(folder / "run", seed=5)
    other = _finished_run(folder / "other", seed=6)
    few = folder / "few"
    command(FEWSHOT.start(few))
    strangers = [other.newest_checkpoint(), RunDirectory.open(few).newest_checkpoint()]
    newest, before = run.newest_checkpoint(), run.checkpoint_path(6)
    kinds = _ways_to_damage(rng, newest.read_bytes(), before, strangers)
    failures: dict[str, list[str]] = {kind: [] for kind in kinds}
    tried = dict.fromkeys(kinds, 0)
    for number in range(count):
        kind = list(kinds)[number % len(kinds)]
        tried[kind] += 1
        content = kinds[kind]()
        with _replaced(newest, content), _unchanged(folder, failures[kind], f"{kind} {number}"):
            line = MAML_TRPO.resume(run.path) if number % 2 else ["evaluate", str(run.path)]
            ended = command(line)
            fault = ended.fault_of_refusal()
            if not fault and f"the newest good one is {before}" not in ended.err:
                fault = f"does not name {before.name}: {ended.err}"
            failures[kind] += [f"{kind} {number}: {fault}"] if fault else []
    return [
        Row(f"checkpoint: {kind}", tried[kind], tried[kind] - len(failures[kind]),
            f"{_REFUSED}, the newest good one named", tuple(failures[kind]))
        for kind in kinds if tried[kind]
    ]  # fmt: skip


def _ways_to_damage(
    rng: random.Random, content: bytes, before: Path, strangers: list[Path]
) -> dict[str, Callable[[], bytes]]:
    def flipped() -> bytes:
        altered, place = bytearray(content), rng.randrange(8 * len(content))
        altered[place // 8] ^= 1 << place % 8
        return bytes(altered)

    def overwritten() -> bytes:
        start = rng.randrange(len(content) - 16)
        blank = bytes(rng.randrange(256) for _ in range(16))
        return content[:start] + blank + content[start + 16 :]

    def pickled() -> bytes:
        buffer = io.BytesIO()
        torch.save({"weight": torch.zeros(rng.randint(1, 5))}, buffer)
        return buffer.getvalue()

    return {
        "one bit flipped": flipped,
        "cut off": lambda: content[: rng.randrange(len(content))],
        "bytes overwritten": overwritten,
        "bytes added": lambda: content + bytes(rng.randint(1, 64)),
        "an earlier one in its place": before.read_bytes,
        "one of another run": lambda: rng.choice(strangers).read_bytes(),
        "written by torch.save": pickled,
    }


def configs(count: int, seed: int, folder: Path) -> list[Row]:
    """Spoil a run's config.json, then resume it."""
    rng = random.Random(f"{seed} configs")
    run = _finished_run(folder / "run", seed=5)
    file = run.path / "config.json"
    good = json.loads(file.read_text(encoding="utf-8"))
    failures: list[str] = []
    for number in range(count):
        content = _spoilt(good, rng)
        with _replaced(file, content), _unchanged(folder, failures, f"config {number}"):
            fault = command([*MAML_TRPO.resume(run.path), "--iterations", "9"]).fault_of_refusal()
            failures += [f"{content[:200]!r}: {fault}"] if fault else []
    return [Row("malformed config.json", count, count - len(failures), _REFUSED, tuple(failures))]


def _spoilt(good: dict[str, Any], rng: random.Random) -> bytes:
    """The content of a config.json in which one thing is wrong."""
    text, config = json.dumps(good), json.loads(json.dumps(good))
    deciding = ["agent", "environment", "seed", "agent_config"]
    numbers = ["seed", "iterations", "checkpoint_every", "threads"]
    part = rng.choice([config, config["agent_config"]])
    kind = rng.randrange(6)
    if kind == 0:
        return text[: rng.randrange(len(text))].encode()
    if kind == 1:
        return rng.choice([b"[]", b"3", b"null", b"\xff\xfe\x00", b"[" * 100_000, b"{}", b'"x"'])
    if kind == 2:
        del config[rng.choice(deciding)]
    elif kind == 3:
        name = rng.choice(list(part if part is not config else [*deciding, *numbers]))
        wrong: list[Any] = [{"x": 1}, [[1]], "no such thing", None if part is config else {}]
        part[name] = rng.choice(wrong)
    elif kind == 4:
        config[rng.choice(numbers)] = rng.choice([-1, -7, 1.5, True])
    else:
        config["agent_config"][rng.choice(["no_such_setting", "gama", "lr"])] = rng.choice([1, "x"])
    return json.dumps(config).encode()


def command_lines(count: int, seed: int, folder: Path) -> list[Row]:
    """Give command lines in which one thing is wrong, made from the commands' real options."""
    rng = random.Random(f"{seed} command lines")
    run = _finished_run(folder / "run", seed=5)
    out = folder / "new"
    commands: dict[tuple[str, ...], tuple[list[Any], list[str]]] = {
        ("train", "maml-trpo"): (
            [TrainConfig, MAMLTRPOConfig], ["--env", "PointRobot:pearl", "--out", str(out)],
        ),
        ("fewshot", "maml"): ([FewShotConfig, MAMLConfig], ["--out", str(out)]),
        ("evaluate",): (
            [EvaluateAgentsConfig, EvaluationProtocol], [str(run.path), "--device", "cpu"],
        ),
    }  # fmt: skip
    failures: list[str] = []
    for number in range(count):
        words = list(commands)[number % len(commands)]
        types, valid = commands[words]
        fields = [field for kind in types for field in dataclasses.fields(kind)]
        line = [*words, *_malformed(fields, valid, rng)]
        if rng.random() < 0.1:
            line = _misnamed(list(words), valid, rng)
        with _unchanged(folder, failures, " ".join(line)):
            fault = command(line).fault_of_refusal()
            failures += [f"{' '.join(line)}: {fault}"] if fault else []
    return [Row("malformed command lines", count, count - len(failures), _REFUSED, tuple(failures))]


def _malformed(fields: list[Any], valid: list[str], rng: random.Random) -> list[str]:
    """The options of a line, one of them wrong."""
    field = rng.choice([f for f in fields if _kind(f) in ("int", "float", "choice", "tuple")])
    option, kind = "--" + field.name.replace("_", "-"), rng.randrange(5)
    if kind == 0:  # a letter too many
        place = rng.randrange(2, len(option) + 1)
        return [*valid, option[:place] + rng.choice("xqz") + option[place:], "1"]
    if kind == 1 and _kind(field) != "tuple":  # no sizes at all are a net without hidden layers
        return [*valid, option]
    if kind == 2:
        return [*valid, rng.choice(["stray", "7", "a b"])]
    if kind == 3:
        return [*valid, option, rng.choice(["ten", "1.2.3", "0x", "--", "{}"])]
    outside = {"int": "-1", "float": rng.choice(["nan", "inf", "-1", "-inf"]), "tuple": "0"}
    return [*valid, option, outside.get(_kind(field), "no-such-choice")]


def _kind(field: Any) -> str:
    """What an option takes, as far as a wrong value can be made for it."""
    text = str(field.type)
    if field.name in ("runs", "report", "seconds"):
        return "other"
    if text.startswith("tuple[int"):
        return "tuple"
    if text.split(" | ", maxsplit=1)[0] in ("int", "float"):
        return text.split(" | ", maxsplit=1)[0]
    choices = ("Literal", "DeviceName", "TrackerName", "Activation", "InnerObjective")
    return "choice" if text.startswith(choices) else "other"


def _misnamed(words: list[str], valid: list[str], rng: random.Random) -> list[str]:
    """A line that names something that does not exist."""
    if rng.random() < 0.5 or "--env" not in valid:
        place = rng.randrange(len(words))
        words[place] = rng.choice(["trian", "mamltrpo", "no", "maml--trpo"])
        return [*words, *valid]
    ids = ["PointRobot", "PointRobot:", ":pearl", "PointRobot:pearl+", "Pointrobot:perl", ""]
    return [*words, *["--env" if w == "--env" else w for w in valid], "--env", rng.choice(ids)]


def _finished_run(path: Path, *, seed: int) -> RunDirectory:
    """A run with checkpoints after 4, 6 and 8 iterations."""
    if not path.exists():
        ended = command([*MAML_TRPO.start(path), "--seed", str(seed)])
        if ended.code:
            raise RuntimeError(f"the run to damage failed: {ended.err}")
    return RunDirectory.open(path)


@contextmanager
def _replaced(file: Path, content: bytes) -> Iterator[None]:
    """A file with another content; a second name of it keeps the first."""
    kept = file.with_name(f"{file.name}.kept")
    file.rename(kept)
    file.write_bytes(content)
    try:
        yield
    finally:
        kept.replace(file)


@contextmanager
def _unchanged(folder: Path, failures: list[str], what: str) -> Iterator[None]:
    """Note a failure if the block changes a file; what is new is removed."""
    before = _contents(folder)
    yield
    after = _contents(folder)
    if before != after:
        differing = {str(path) for path in before.keys() ^ after.keys()}
        failures.append(f"{what} changed {sorted(differing) or 'a file'}")
        shutil.rmtree(folder / "new", ignore_errors=True)


def _contents(folder: Path) -> dict[Path, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files}
