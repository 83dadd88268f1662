"""Speed relative to other libraries: `python scripts/benchmark/run.py [SECTION ...]`.

The two sides of a comparison run alternately, each in a new process with the same number of
threads; the ratio is the median over the pairs. Memory is the peak of the process, with imports.
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import tyro

from metarl.devices import DeviceName, resolve_device
from metarl.scripts.benchmark.sections import SECTIONS, Comparison, Limit
from metarl.scripts.command_line import parse, run
from metarl.storage.files import write_output
from metarl.validation import Count, Settings, unknown_name

__all__ = ["BenchmarkConfig", "main"]


@dataclass(frozen=True)
class BenchmarkConfig(Settings):
    """Compare the speed with other libraries."""

    sections: Annotated[tuple[str, ...], tyro.conf.Positional] = tuple(SECTIONS)
    """Comparisons to run; default: all."""
    pairs: Count = 3
    """Number of times that both sides run, alternately."""
    repeats: Count = 3
    """Timed runs per process after a warm-up; the fastest counts."""
    threads: Count = 2
    """Number of torch threads."""
    device: DeviceName = "cpu"
    """Device of agents with a memory; everything else runs on the CPU."""
    envpool_python: str | None = None
    """Python interpreter with EnvPool; None: comparisons with EnvPool are skipped."""
    json: Path | None = None
    """JSON file for the numbers; None: they are printed only."""

    def check_consistency(self) -> None:
        """Reject settings that contradict one another."""
        for section in self.sections:
            if section not in SECTIONS:
                raise ValueError(unknown_name("section", section, SECTIONS))
        resolve_device(self.device)


@dataclass(frozen=True)
class Measurement:
    """Speed in units per second and peak memory of one process."""

    speed: float
    peak_mebibytes: float


@dataclass(frozen=True)
class Row:
    """Result of a comparison, or of a case with a separate target."""

    title: str
    unit: str
    ours: Measurement
    peer: Measurement | None
    ratios: tuple[float, ...]  # one for each pair of runs; empty without a peer
    target: str

    @property
    def ratio(self) -> float:
        """The median over the pairs."""
        return median(self.ratios)


def main(arguments: Sequence[str]) -> None:
    """The script's command line."""
    config = parse(BenchmarkConfig, arguments, program="python scripts/benchmark/run.py")
    rows = []
    for section in config.sections:
        for entry in SECTIONS[section]:
            missing = _missing(section, entry, config)
            if missing:
                print(f"{entry.title}: skipped, {missing}", flush=True)
                continue
            rows.append(_row(entry, config))
            print(_sentence(rows[-1]), flush=True)
    if config.json is not None:
        content = json.dumps([asdict(row) for row in rows], indent=1)
        write_output(config.json, content.encode())


def _missing(section: str, entry: Comparison | Limit, config: BenchmarkConfig) -> str:
    """The reason why a comparison cannot run, or "" if it can."""
    if isinstance(entry, Comparison) and entry.peer == "envpool":
        if config.envpool_python is None:
            return "--envpool-python is not given"
        entry.peer_options["python"] = config.envpool_python
    if section == "metaworld" and importlib.util.find_spec("metaworld") is None:
        return "metaworld is not installed in this Python"
    if section == "rl2" and importlib.util.find_spec("sb3_contrib") is None:
        return "sb3-contrib is not installed in this Python"
    peer = entry.peer.partition(" ")[0] if isinstance(entry, Comparison) else ""
    if peer in ("higher", "torchopt") and importlib.util.find_spec(peer) is None:
        return f"{peer} is not installed in this Python"
    return ""


def _row(entry: Comparison | Limit, config: BenchmarkConfig) -> Row:
    if isinstance(entry, Comparison):
        return _compare(entry, config)
    measured = [_in_fresh_process(entry.case, entry.options, config) for _ in range(config.pairs)]
    target = "none"
    if entry.min_speed is not None:
        target = f"{entry.min_speed:,.4g} {entry.unit}"
    elif entry.max_mebibytes is not None:
        target = f"at most {entry.max_mebibytes:,.0f} MiB"
    return Row(entry.title, entry.unit, _median(measured), None, (), target)


def _compare(comparison: Comparison, config: BenchmarkConfig) -> Row:
    ours, peers = [], []
    for _ in range(config.pairs):
        ours.append(_in_fresh_process(comparison.ours, comparison.ours_options, config))
        peers.append(_in_fresh_process(comparison.peer, comparison.peer_options, config))
    return Row(
        comparison.title,
        comparison.unit,
        _median(ours),
        _median(peers),
        tuple(a.speed / b.speed for a, b in zip(ours, peers, strict=True)),
        f"{comparison.target:.3g}×",
    )


def _median(measurements: list[Measurement]) -> Measurement:
    return Measurement(
        median(m.speed for m in measurements), median(m.peak_mebibytes for m in measurements)
    )


def _in_fresh_process(name: str, options: dict[str, Any], config: BenchmarkConfig) -> Measurement:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, name, options, config))
    process.start()
    sender.close()
    try:
        measurement: Measurement = receiver.recv()
    except EOFError:
        raise RuntimeError(f"benchmark case {name!r} failed, see above") from None
    finally:
        process.join()
    return measurement


def _measure(sender: Any, name: str, options: dict[str, Any], config: BenchmarkConfig) -> None:
    import torch

    from metarl.scripts.benchmark.environments import ENVIRONMENT_CASES
    from metarl.scripts.benchmark.fewshot import FEWSHOT_CASES
    from metarl.scripts.benchmark.learning import LEARNING_CASES
    from metarl.scripts.benchmark.padding import PADDING_CASES
    from metarl.scripts.benchmark.photographs import PHOTOGRAPH_CASES
    from metarl.scripts.benchmark.trials import TRIAL_CASES

    torch.set_num_threads(config.threads)
    kinds = (
        *(ENVIRONMENT_CASES, LEARNING_CASES, TRIAL_CASES, FEWSHOT_CASES, PADDING_CASES),
        PHOTOGRAPH_CASES,
    )
    case = next(cases[name] for cases in kinds if name in cases)
    device = {"device": resolve_device(config.device).type} if case.takes_device else {}
    step, work = case.set_up(**options, **device), case.amount(options)
    step()
    seconds = []
    for _ in range(config.repeats):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sender.send(Measurement(work / min(seconds), peak))


def _sentence(row: Row) -> str:
    ours = f"{row.ours.speed:,.4g} {row.unit} ({1e6 / row.ours.speed:,.3g} µs each)"
    memory = f"{row.ours.peak_mebibytes:,.0f}"
    if row.peer is None:
        return f"{row.title}: {ours}, peak memory {memory} MiB (target {row.target})"
    ratios = ", ".join(f"{ratio:.2f}" for ratio in row.ratios)
    return (
        f"{row.title}: {row.ratio:.2f}× (pairs {ratios}; target {row.target}); "
        f"{row.ours.speed:,.4g} against {row.peer.speed:,.4g} {row.unit}; peak memory "
        f"{memory} against {row.peer.peak_mebibytes:,.0f} MiB"
    )


if __name__ == "__main__":
    run(main)
