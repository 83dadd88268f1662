"""Malformed command lines over all commands: each must end in one sentence and damage no file.

A command line starts from a small valid one; then one to three errors are added: values of the
wrong type, out of range, in other scripts or with markup; missing and unknown options, commands and
names; files that are missing, damaged, of another kind, or cannot be written.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import stat
import time
from pathlib import Path

from metarl.agents import AGENTS
from metarl.fewshot.learners.catalog import LEARNERS
from metarl.scripts.faults.bad_files import make_bad_files
from metarl.scripts.faults.kills import FEWSHOT, MAML_TRPO
from metarl.scripts.faults.processes import ForkedCommand, Row, run_command

__all__ = ["malformed_line", "try_command_lines"]

_TIMEOUT_SECONDS = 20.0
_MEMORY_BYTES = 8 << 30
_NUMBERS = (
    "-1", "0", "-0.0", "1.5", "1e400", "nan", "inf", "-inf", "4294967296", "9223372036854775807",
    "9223372036854775808", "-9223372036854775809", str(10**30), "1" + "0" * 400, "9" * 5000, "0x10",
    "1_000_000_000_000", "1e-400", "1e308", "ten", "", " ", "True", "None", "1,2", "[1]", "--", "٣",
    "½", "１２",
)  # fmt: skip
_TEXTS = (
    "", " ", "[bold red]x[/bold red]", "a[/b]", ":fire:", "<b>x</b>", "**x**", "x" * 5000,
    "日本語", "\u202eabc", "e\u0301", "'", '"', "\\", "%s", "{0}", "${HOME}", "$(id)", "../..", "~",
    "-", "😀", "--help-me", "a\nb", "a\tb", "\x1b[31mred", "\udcff", "None", "null", "@file", "1",
)  # fmt: skip
_WORDS = ("trian", "maml", "MAML-TRPO", "maml--trpo", "rl²", "no", "help", "-h-", "", "[b]", "列")
_FAMILIES = (
    "PointRobot", "PointRobot:", ":pearl", "PointRobot:pearl+", "Pointrobot:perl", "", "::",
    "[b]:x", "ours:Fire", "Bandit:n999999999-k5", "Bandit:n0-k0", "Bandit:n10-k5",
)  # fmt: skip
_OUTPUTS = frozenset({"--out", "--json", "--plot"})
_SMALL = frozenset({"--iterations", "--filters"})  # without them a valid run takes minutes
_INPUTS = frozenset({"--data-dir", "--multi-task"})
_FLAGS = ("--resume", "--scratch", "--all", "--markdown", "--compile")
_SPLITS = ("tets", "train", "validation", "ood", "")


def try_command_lines(count: int, seed: int, folder: Path) -> list[Row]:
    """Run malformed command lines, each in a separate process.

    Args:
        count: number of command lines.
        seed: seed of the generator.
        folder: an empty folder for the runs and the files.
    """
    rng = random.Random(f"{seed} command lines")
    templates = _templates(folder)
    _remove_new(folder)
    before, failures = _contents(folder), []
    for _ in range(count):
        line = malformed_line(templates, folder, rng)
        problem = "; ".join(filter(None, (_problem(line, folder), _damage(before, folder))))
        if problem:
            failures.append(f"{_shown(line)}: {problem}")
            before = _contents(folder)
    required = "no traceback, 20 s of a core at most, one sentence if rejected, no file destroyed"
    return [Row("malformed command lines", count, count - len(failures), required, tuple(failures))]


Template = tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]
"""The words of a valid command, and its options with their values."""


def _templates(folder: Path) -> list[Template]:
    """Small valid commands: each agent and learner, and each other command."""
    agent, learner = folder / "run", folder / "few"
    for kind, run in ((MAML_TRPO, agent), (FEWSHOT, learner)):
        result = run_command(kind.start(run))
        if result.exit_code:
            raise RuntimeError(f"the run for the command lines failed: {result.stderr}")
    make_bad_files(folder / "bad", run=agent)
    new = str(folder / "new")
    for line in (["report", "--out", f"{new}.html"], ["play", "--out", f"{new}.gif"], ["evaluate"]):
        run_command([line[0], str(agent), *line[1:]])  # imports all that the forks need
    shutil.copy(agent / "evaluation.json", folder / "other.json")
    tiny = "--meta-batch-size 4 --hidden-sizes 4 --iterations 1 --device cpu --threads 1"
    loop = f"{tiny} --checkpoint-every 1 --seed 5 --log-every 1 --out {new}"
    train = f"{loop} --num-episodes 2 --env PointRobot:pearl --gamma .9 --activation relu"
    few = f"{loop} --shots 2 --queries 2 --dataset sinusoid --meta-lr .01 --test-steps 1"
    images = few.replace("sinusoid", "glyphs --ways 2").replace("--hidden-sizes 4", "--filters 4 4")
    options = "--num-tasks 2 --seed 1 --device cpu --split test"
    episodes = "--exploration-episodes 2 --evaluation-episodes 2 --adaptation-steps 1"
    measured = f"{options} {episodes} --env PointRobot:pearl --json {new}.json --plot {new}.png"
    shown = f"--out {new}.gif --index 0 --episodes 1 --frames 2 --frames-per-second 5 --seed 1"
    lines: list[tuple[str, str]] = [
        *((f"train {entry.name}", train) for entry in AGENTS),
        *((f"fewshot {entry.name}", few) for entry in LEARNERS if _has_steps(entry.name)),
        *((f"fewshot {entry.name}", images) for entry in LEARNERS if not _has_steps(entry.name)),
        *[(f"evaluate {agent}", measured)] * 5,
        *[(f"evaluate {learner}", f"{options} --shots 2 --steps 1 --json {new}.json")] * 4,
        *[(f"report {agent} {learner}", f"--out {new}.html --no-behavior --device cpu")] * 4,
        *[(f"compare {agent} {folder / 'other.json'}", f"--metric return --json {new}.json")] * 3,
        *[(f"play {agent}", f"{shown} --preset maml --device cpu")] * 4,
        *[("check PointRobot:pearl", "--num-tasks 2 --num-envs 2 --seed 1")] * 3,
        ("list envs", "--markdown"),
        ("list", ""),
        ("fewshot", "--list"),
    ]
    return [(tuple(words.split()), _options(rest)) for words, rest in lines]


def _has_steps(name: str) -> bool:
    learner: type[object] = LEARNERS.load(name)
    return bool(getattr(learner, "has_steps", False))


def _options(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    parts = [part.split() for part in text.split("--")[1:]]
    return tuple(("--" + name, tuple(values)) for name, *values in parts)


def malformed_line(templates: list[Template], folder: Path, rng: random.Random) -> list[str]:
    """One command line with one to three errors.

    Args:
        templates: valid commands.
        folder: holds the files of the campaign, among them the damaged ones in "bad".
        rng: source of the choices.
    """
    words, given = rng.choice(templates)
    line, options = list(words), {name: list(values) for name, values in given}
    bad = sorted(str(path) for path in (folder / "bad").iterdir())
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _add_error(line, options, bad, folder, rng)
    return [*line, *(word for name, values in options.items() for word in (name, *values))]


def _add_error(
    words: list[str],
    options: dict[str, list[str]],
    bad: list[str],
    folder: Path,
    rng: random.Random,
) -> None:
    kind = rng.randrange(10)
    name = rng.choice(list(options)) if options else ""
    if kind <= 4 and name:
        options[name] = _bad_values(name, bad, folder, rng)
    elif kind == 5 and name:
        options[name] = []
    elif kind == 6 and name:  # an extra letter
        place = rng.randrange(2, len(name) + 1)
        options[name[:place] + rng.choice("xqz-") + name[place:]] = options.pop(name)
    elif kind == 7:
        words[rng.randrange(len(words))] = rng.choice([*_WORDS, *_FAMILIES, *bad, *_TEXTS])
    elif kind == 8:
        words.append(rng.choice([*_TEXTS, *bad, *_FLAGS, "--import=no_such_module"]))
    elif name and name not in _SMALL:  # a required option, or one that another one needs
        del options[name]


def _bad_values(name: str, bad: list[str], folder: Path, rng: random.Random) -> list[str]:
    """Values that an option does not accept, or accepts only as text."""
    if name in _OUTPUTS:
        inside = ("run/config.json", "run/best.safetensors", "few/metrics.jsonl", "run/new/x.gif")
        others = [path for path in bad if not Path(path).is_file()]  # a file may be replaced
        return [
            rng.choice([*(str(folder / part) for part in inside), *others, *_unwritable(folder)])
        ]
    if name in _INPUTS:
        return [rng.choice([*bad, *_TEXTS])]
    if name in ("--env", "--dataset"):
        return [rng.choice([*_FAMILIES, *_TEXTS])]
    if name == "--split":
        return [rng.choice([*_SPLITS, *_TEXTS])]
    return [rng.choice([*_NUMBERS, *_TEXTS]) for _ in range(rng.choice((1, 1, 1, 2)))]


def _unwritable(folder: Path) -> list[str]:
    return [
        "", "/", "/proc/metarl.gif", f"{folder}/none/a.gif", f"{folder}/run",
        f"{folder}/{'x' * 300}.gif", f"{folder}/run/config.json/a.gif", f"{folder}/new.[/b].gif",
        f"{folder}/new", f"{folder}/new.GIF",
    ]  # fmt: skip


def _problem(line: list[str], folder: Path) -> str:
    """Run a command; a description of its first mistake, "" if there is none."""
    log = folder.with_name(f"{folder.name}.log")
    started = time.monotonic()

    def prepare() -> None:
        os.chdir(folder / "bad")
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, resource.RLIM_INFINITY))

    forked = ForkedCommand.start(line, log, prepare=prepare)
    code = forked.wait_at_most(_TIMEOUT_SECONDS)
    if code is None:
        return f"no end after {time.monotonic() - started:.0f} s"
    output = log.read_text(encoding="utf-8", errors="replace")
    if "Traceback" in output or code not in (0, 1, 2):
        return f"exit code {code}: {output[-1500:]}"
    if code == 2 and not any(line.startswith("metarl: ") for line in output.splitlines()):
        return f"exit code 2 without a sentence: {output[-500:]}"
    return ""


def _damage(before: dict[str, object], folder: Path) -> str:
    """The files that a command changed, after removal of the outputs that it may create."""
    _remove_new(folder)
    after = _contents(folder)
    changed = [name for name in before if before[name] != after.get(name)]
    created = [name for name in after if name not in before]
    for name in created:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif os.path.lexists(path):
            path.unlink()
    return f"destroyed {changed}" if changed else ""


def _remove_new(folder: Path) -> None:
    for path in folder.glob("new*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _contents(folder: Path) -> dict[str, object]:
    """Kind and content of every file; an evaluation may be replaced by the next one."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        content = path.read_bytes() if stat.S_ISREG(mode) else b""
        link = os.readlink(path) if path.is_symlink() else ""
        if path.name != "evaluation.json":
            found[str(path.relative_to(folder))] = (stat.S_IFMT(mode), content, link)
    return found


def _shown(line: list[str]) -> str:
    return " ".join(word if len(word) < 80 else f"{word[:40]}…" for word in map(ascii, line))
