"""Settings that training an agent and training a few-shot learner share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metarl.devices import DeviceName
from metarl.runs.tracking import TrackerName
from metarl.validation import Count, Settings, WholeNumber

__all__ = ["RunSettings"]


@dataclass(frozen=True)
class RunSettings(Settings):
    """Where a run is stored, how long it trains, and on what."""

    out: Path
    """Directory of the run; it must be new, except with --resume."""
    seed: WholeNumber = 0
    """Seed of all randomness: parameters, tasks and, for agents, initial states and actions."""
    seeds: Count = 1
    """Runs to train, one after another: seed, seed + 1, … into the folders seed_0, … of --out."""
    iterations: Count = 100
    """Meta-updates in total, including those before a resume."""
    device: DeviceName = "auto"
    """Where the networks are computed; MuJoCo's physics run on the CPU's threads."""
    threads: WholeNumber = 0
    """Threads of torch on the CPU; 0: torch's choice, and one for small few-shot networks."""
    checkpoint_every: Count = 10
    """Iterations between checkpoints; the last one is always written."""
    log_every: WholeNumber = 0
    """Iterations between rows of metrics; 0: every iteration of an agent, every 50th of a
    few-shot classifier (each row has its accuracy on validation tasks), every 100th on curves."""
    tracker: TrackerName = "tensorboard"
    """Where metrics go in addition to metrics.jsonl; wandb and trackio are separate packages."""
    resume: bool = False
    """Continue the run in --out with its own settings, except for those given."""
