"""Settings that several commands share: of training runs, and of Stable-Baselines3 models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Interval

from metarl.devices import DeviceName
from metarl.runs.tracking import TrackerName
from metarl.validation import Count, Seed, Settings, WholeNumber

__all__ = ["RunSettings", "SB3Options"]


@dataclass(frozen=True)
class RunSettings(Settings):
    """Directory, seeds, length and device of a training run."""

    out: Path
    """Directory of the run; it must be new, except with --resume."""
    seed: Seed = 0
    """Seed of all randomness: parameters, tasks and, for agents, initial states and actions."""
    seeds: Annotated[int, Interval(ge=1, le=10_000)] = 1
    """Number of runs, trained one after another with the seeds seed, seed + 1, …; if more than one,
    run n is in the folder seed_n of --out."""
    iterations: Count = 100
    """Total number of meta-updates, including the ones before a resume."""
    device: DeviceName = "auto"
    """Device of the networks; MuJoCo simulations always run on the CPU."""
    threads: Annotated[int, Interval(ge=0, le=1024)] = 0
    """Number of torch threads on the CPU; 0 chooses 1 for small few-shot networks, else torch's
    default."""
    checkpoint_every: Count = 10
    """Iterations between checkpoints; the last iteration always has one."""
    log_every: WholeNumber = 0
    """Iterations between rows of metrics; 0 chooses 1 for agents, 50 for few-shot classification,
    100 for few-shot regression. A row of a few-shot learner includes its score on validation
    tasks."""
    tracker: TrackerName = "tensorboard"
    """Experiment tracker in addition to metrics.jsonl; wandb and trackio must be installed."""
    resume: bool = False
    """Continue the run in --out with its stored settings. Only the number of iterations, device,
    threads, tracker and intervals of checkpoints and rows may be changed."""

    def check_consistency(self) -> None:
        """Reject seeds if the last one would not fit into 64 bits."""
        super().check_consistency()
        if self.seed + self.seeds > 2**63:
            raise ValueError(
                f"seed must leave room for the {self.seeds} seeds of the runs in 64 bits, "
                f"got {self.seed}"
            )


@dataclass(frozen=True, kw_only=True)
class SB3Options(Settings):
    """How to load models of Stable-Baselines3 and their observations."""

    sb3: str | None = None
    """Class of MODEL.zip, such as PPO, or RecurrentPPO of sb3-contrib. Load such files only from
    sources that you trust: loading can run arbitrary code."""
    sb3_normalization: str | None = None
    """Statistics of MODEL.zip's observations, a FILE.pkl that VecNormalize saved, or none if they
    were not normalized. Loading such a file can also run arbitrary code. None: no statistics; a
    model that was trained with VecNormalize is then rejected."""
    sb3_frame_stack: Count = 1
    """Observations in each input of MODEL.zip, if VecFrameStack was used in training."""

    def check_consistency(self) -> None:
        """Reject statistics that do not exist, and options without a class."""
        super().check_consistency()
        file = self.sb3_normalization
        if file not in (None, "none") and not Path(str(file)).is_file():
            raise ValueError(f"sb3_normalization must be a file or none, there is no file {file}")
        if self.sb3 is None and (file is not None or self.sb3_frame_stack > 1):
            name = "sb3_normalization" if file is not None else "sb3_frame_stack"
            raise ValueError(f"{name} needs sb3, the class of a target MODEL.zip")
