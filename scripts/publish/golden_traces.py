"""Golden traces: record the results of every part of the toolkit bitwise, and compare them later.

A case is a few command lines of `metarl`. Its trace consists of the metrics, digests of the tensors
in the newest checkpoint, and the numbers of evaluations. Record before a change and compare after:

    python scripts/publish/golden_traces.py record --out traces.json
    python scripts/publish/golden_traces.py compare traces.json

Traces depend on the processor and on the version of torch. Values that moved to new names are
reported as renamed, which is not a failure. Recording takes about 8 minutes on one core.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import io
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from metarl.scripts.publish.golden_cases import Command, all_cases

Trace = dict[str, Any]

_SECTIONS = ("metrics", "tensors", "evaluation")
_LEFT_OUT = re.compile(r"(^|_)(time|seconds|versions?|format|provenance|commit)(_|$)")
_NO_TEST = re.compile(r"(config|seeds)\.json")
_NUM_CLASSES, _NUM_IMAGES, _IMAGE_SIZE = 10, 6, 16


class _Difference(NamedTuple):
    section: str
    text: str


def main() -> int:
    """Record or compare, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record", help="trace this tree")
    record.add_argument("--out", type=Path, required=True, help="file for the traces")
    compare = commands.add_parser("compare", help="trace this tree and report differences")
    compare.add_argument("traces", type=Path, help="file written by record")
    compare.add_argument(
        "--replace", action="append", default=[], metavar="OLD=NEW",
        help="a word of command lines that has been renamed",
    )  # fmt: skip
    for each in (record, compare):
        each.add_argument("--only", default="", help="only cases whose names contain this text")
        each.add_argument("--root", type=Path, default=Path.cwd(), help="source tree with results/")
    options = parser.parse_args()
    options.root = options.root.resolve()
    return _record(options) if options.command == "record" else _compare(options)


def _record(options: argparse.Namespace) -> int:
    cases, skipped = all_cases(options.root, _output(["list", "envs"]))
    begun = time.monotonic()
    traces = {}
    for name, commands in _chosen(cases, options.only):
        traces[name] = trace = _traced(commands, options.root)
        _report(f"{name}: {trace['seconds']:.1f} s {trace['error'] or ''}")
    header = _header(options.root) | {"seconds": round(time.monotonic() - begun, 1)}
    content = {"header": header, "skipped": skipped, "cases": traces}
    options.out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    _report(f"{len(traces)} cases in {header['seconds']} s, {len(skipped)} skipped")
    return 0


def _compare(options: argparse.Namespace) -> int:
    stored = json.loads(options.traces.read_text())
    for key, now in _header(options.root).items():
        if now != stored["header"].get(key):
            _report(f"note: {key} was {stored['header'].get(key)!r}, is {now!r}")
    replaced = dict(pair.split("=", 1) for pair in options.replace)
    counts: Counter[str] = Counter()
    for name, before in _chosen(stored["cases"], options.only):
        commands = [[replaced.get(word, word) for word in words] for words in before["commands"]]
        after = _traced(commands, options.root)
        renamed, differences = _differences(before, after)
        state = "DIFFERENT" if differences else f"{renamed} renamed" if renamed else "equal"
        counts["different" if differences else "renamed" if renamed else "equal"] += 1
        _report(f"{name}: {state}")
        for section, text in differences:
            _report(f"    {section}: {text}")
    _report(", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    return 1 if counts["different"] or not counts else 0


def _chosen(cases: dict[str, Any], only: str) -> Iterator[tuple[str, Any]]:
    return ((name, case) for name, case in cases.items() if only in name)


def _report(line: str) -> None:
    print(line, flush=True)


def _traced(commands: list[Command], root: Path) -> Trace:
    """Run a case and return its trace."""
    import torch

    error = None
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tmp = str(Path(folder).resolve())
        places = {"{out}": f"{tmp}/run", "{tmp}": tmp, "{root}": str(root)}
        places["{images}"] = f"{tmp}/pictures"
        if any("{images}" in word for words in commands for word in words):
            _write_images(Path(tmp) / "pictures")
        torch.set_num_threads(1)
        for words in commands:
            try:
                _output([_filled(word, places) for word in words])
            except (Exception, SystemExit) as problem:  # a failure is part of the trace
                error = f"{type(problem).__name__}: {problem}".replace(tmp, "{tmp}")
                error = error.replace(str(root), "{root}")
                break
        contents = {section: dict(read(Path(tmp))) for section, read in _READERS.items()}
    seconds = round(time.monotonic() - begun, 2)
    return {"commands": commands, "error": error, "seconds": seconds, **contents}


def _write_images(folder: Path) -> None:
    """Write class folders of random images that share a pattern within each class."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(_NUM_CLASSES):
        (folder / f"class{number}").mkdir(parents=True)
        common = rng.integers(0, 128, (_IMAGE_SIZE, _IMAGE_SIZE, 3))
        for index in range(_NUM_IMAGES):
            own = rng.integers(0, 128, common.shape)
            image = Image.fromarray((common + own).astype(np.uint8))
            image.save(folder / f"class{number}" / f"{index}.png")


def _filled(word: str, places: dict[str, str]) -> str:
    for mark, place in places.items():
        word = word.replace(mark, place)
    return word


def _output(words: Command) -> str:
    """Run a command of metarl in this process and return its output."""
    cli = importlib.import_module("metarl.scripts.cli")
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            cli.dispatch(words)
        except SystemExit as stop:
            if stop.code:
                raise SystemExit(errors.getvalue().strip() or str(stop.code)) from None
    return output.getvalue()


def _metrics(tmp: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(tmp.rglob("metrics.jsonl")):
        run = file.parent.relative_to(tmp).as_posix()
        for number, line in enumerate(file.read_text().splitlines()):
            row = {key: value for key, value in json.loads(line).items() if key[:5] != "time/"}
            for path, value in _numbers(row):
                yield f"{run}:{number}:{path}", value


def _tensors(tmp: Path) -> Iterator[tuple[str, str]]:
    """Digests of the newest checkpoint of every run."""
    import torch
    from safetensors.torch import load_file

    for config in sorted(tmp.rglob("config.json")):
        found = [file for file in config.parent.rglob("*.safetensors") if _iteration(file) >= 0]
        if not found:
            continue
        run = config.parent.relative_to(tmp).as_posix()
        for name, tensor in sorted(load_file(max(found, key=_iteration)).items()):
            digest = hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)}\n".encode())
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
            yield f"{run}:{name}", digest.hexdigest()


def _iteration(file: Path) -> int:
    digits = re.findall(r"\d+", file.stem)
    return int(digits[-1]) if digits else -1


def _evaluation(tmp: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(tmp.rglob("*.json")):
        if not _NO_TEST.fullmatch(file.name):
            for path, value in _numbers(json.loads(file.read_text())):
                yield f"{file.relative_to(tmp).as_posix()}:{path}", value


_READERS = {"metrics": _metrics, "tensors": _tensors, "evaluation": _evaluation}


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """All numbers in JSON, exactly, by their paths, without times and versions."""
    if isinstance(value, dict):
        for key, part in value.items():
            if not _LEFT_OUT.search(key):
                yield from _numbers(part, f"{path}/{key}")
    elif isinstance(value, list):
        if value and all(isinstance(part, int | float) for part in value):
            yield path, " ".join(map(_exact, value))
        else:
            for index, part in enumerate(value):
                yield from _numbers(part, f"{path}/{index}")
    elif isinstance(value, int | float):
        yield path, _exact(value)


def _exact(number: float) -> str:
    return float(number).hex()


def _differences(before: Trace, after: Trace) -> tuple[int, list[_Difference]]:
    """The number of renamed entries, and the entries with other values."""
    renamed, found = 0, []
    if before["error"] != after["error"]:
        found.append(_Difference("error", f"{before['error']!r}, now {after['error']!r}"))
    for section in _SECTIONS:
        old, new = before[section], after[section]
        if old == new:
            continue
        kept = old.keys() & new.keys()
        same = all(old[name] == new[name] for name in kept)
        if same and Counter(old.values()) == Counter(new.values()):
            renamed += len(old) - len(kept)
            continue
        for name in sorted(old.keys() | new.keys()):
            was, now = old.get(name, "nothing"), new.get(name, "nothing")
            if was != now:
                found.append(_Difference(section, f"{name}: {_change(was, now)}"))
    return renamed, found


def _change(was: str, now: str) -> str:
    with contextlib.suppress(ValueError):
        pairs = zip(map(float.fromhex, was.split()), map(float.fromhex, now.split()), strict=True)
        largest = max((abs(a - b) for a, b in pairs), default=math.nan)
        return f"{was[:60]}, now {now[:60]}, by at most {largest:g}"
    return f"{was[:60]}, now {now[:60]}"


def _header(root: Path) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    git = ["git", "-C", str(root), "rev-parse", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    cpu = platform.processor()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        cpu = found[1] if found else cpu
    return {
        "commit": commit,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    sys.exit(main())
