"""Speed against peers as ratios: `python scripts/benchmark.py [SECTION ...]`.

Both sides of a ratio run in turn, each time in a fresh process, on the same threads; the ratio is
the median over the pairs. Memory is the peak of the process, imports included.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import tyro

from metarl.checkpoints import write_atomically
from metarl.ranges import require_at_least
from metarl.scripts.command_line import parse, run
from metarl.suggestions import unknown_name

__all__ = ["BenchmarkConfig", "main"]


@dataclass(frozen=True)
class Comparison:
    """Two cases whose speeds are compared; the target is for ours over the peer's."""

    title: str
    ours: str
    peer: str
    target: float
    ours_options: dict[str, Any] = field(default_factory=dict)
    peer_options: dict[str, Any] = field(default_factory=dict)
    unit: str = "steps/s"


def _cheetah(title: str, peer: str, target: float, num_envs: int, **options: Any) -> Comparison:
    return Comparison(
        f"HalfCheetah × {num_envs} against {title}",
        "cheetah batch",
        peer,
        target,
        {"num_envs": num_envs},
        {"num_envs": num_envs, **options},
        "control steps of the batch/s",
    )


SECTIONS: dict[str, tuple[Comparison, ...]] = {
    "cheetah": (
        _cheetah("SubprocVecEnv", "cheetah subprocesses", 6, 16),
        _cheetah("AsyncVectorEnv", "cheetah gymnasium", 1, 16, mode="async"),
        _cheetah("SyncVectorEnv", "cheetah gymnasium", 1, 16, mode="sync"),
        _cheetah("the open-loop limit", "cheetah open loop", 0.85, 800),
    ),
    "navigation": (
        Comparison(
            "2D navigation collection against SyncVectorEnv × 800",
            "navigation collect",
            "navigation sync",
            100,
        ),
    ),
    "update": (
        Comparison(
            "2D navigation iteration against the textbook Fisher product",
            "navigation iteration",
            "navigation textbook",
            5,
            unit="iterations/s",
        ),
        Comparison(
            "cheetah meta-update against its sampling",
            "cheetah update",
            "cheetah sampling",
            1,
            unit="iterations/s",
        ),
    ),
    "sinusoid": (
        Comparison(
            "sinusoid meta-step against a loop over tasks",
            "sinusoid step",
            "sinusoid loop",
            15,
            unit="meta-steps/s",
        ),
    ),
}


@dataclass(frozen=True)
class BenchmarkConfig:
    """Measure speed against peers."""

    sections: Annotated[tuple[str, ...], tyro.conf.Positional] = tuple(SECTIONS)
    """Which comparisons; all by default."""
    pairs: int = 3
    """How often both sides run, in turn."""
    repeats: int = 3
    """Timed runs per process after a warm-up; the fastest counts."""
    threads: int = 2
    """Threads of torch."""
    json: Path | None = None
    """Write the numbers here."""

    def __post_init__(self) -> None:
        for name in ("pairs", "repeats", "threads"):
            require_at_least(name, getattr(self, name), 1)
        for section in self.sections:
            if section not in SECTIONS:
                raise ValueError(unknown_name("section", section, SECTIONS))


@dataclass(frozen=True)
class Measurement:
    """Speed in units per second and peak memory of one process."""

    speed: float
    peak_mebibytes: float


@dataclass(frozen=True)
class Row:
    """A comparison's outcome."""

    title: str
    unit: str
    ours: Measurement
    peer: Measurement
    ratio: float  # median over pairs
    ratios: tuple[float, ...]
    target: float


def main(arguments: Sequence[str]) -> None:
    """The script's command line."""
    config = parse(BenchmarkConfig, arguments, program="python scripts/benchmark.py")
    rows = []
    for section in config.sections:
        for comparison in SECTIONS[section]:
            rows.append(_compare(comparison, config))
            print(_sentence(rows[-1]), flush=True)
    if config.json is not None:
        content = json.dumps([asdict(row) for row in rows], indent=1)
        write_atomically(config.json, content.encode())


def _compare(comparison: Comparison, config: BenchmarkConfig) -> Row:
    ours, peers = [], []
    for _ in range(config.pairs):
        ours.append(_in_fresh_process(comparison.ours, comparison.ours_options, config))
        peers.append(_in_fresh_process(comparison.peer, comparison.peer_options, config))
    ratios = tuple(a.speed / b.speed for a, b in zip(ours, peers, strict=True))
    return Row(
        comparison.title,
        comparison.unit,
        _middle(ours),
        _middle(peers),
        median(ratios),
        ratios,
        comparison.target,
    )


def _middle(measurements: list[Measurement]) -> Measurement:
    return Measurement(
        median(m.speed for m in measurements), median(m.peak_mebibytes for m in measurements)
    )


def _in_fresh_process(name: str, options: dict[str, Any], config: BenchmarkConfig) -> Measurement:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_measure, args=(sender, name, options, config.repeats, config.threads)
    )
    process.start()
    sender.close()
    try:
        measurement: Measurement = receiver.recv()
    except EOFError:
        raise RuntimeError(f"benchmark case {name!r} failed, see above") from None
    finally:
        process.join()
    return measurement


def _measure(sender: Any, name: str, options: dict[str, Any], repeats: int, threads: int) -> None:
    import torch

    from metarl.scripts.benchmark_cases import CASES

    torch.set_num_threads(threads)
    case, work = CASES[name]
    step = case(**options)
    step()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sender.send(Measurement(work / min(seconds), peak))


def _sentence(row: Row) -> str:
    ratios = ", ".join(f"{ratio:.2f}" for ratio in row.ratios)
    return (
        f"{row.title}: {row.ratio:.2f}× (pairs {ratios}; target {row.target:g}×); "
        f"{row.ours.speed:,.4g} against {row.peer.speed:,.4g} {row.unit}; peak memory "
        f"{row.ours.peak_mebibytes:,.0f} against {row.peer.peak_mebibytes:,.0f} MiB"
    )


if __name__ == "__main__":
    run(main)
