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
    """Folder of the run; it must not exist, except with --resume."""
    seed: Seed = 0
    """Seed of all randomness: initial parameters, tasks, initial states and actions."""
    seeds: Annotated[int, Interval(ge=1, le=10_000)] = 1
    """Number of runs, trained one after another. The first uses the given seed, the next one a seed
    that is larger by 1, and so on. With more than one, the run with seed n is in OUT/seed_n."""
    iterations: Count = 100
    """Total number of meta-updates, including the ones before a resume."""
    device: DeviceName = "auto"
    """Device of the networks, auto: a GPU if there is one. MuJoCo always simulates on the CPU."""
    threads: Annotated[int, Interval(ge=0, le=1024)] = 0
    """Number of torch threads on the CPU; 0: torch's default."""
    checkpoint_every: Count = 10
    """Iterations between checkpoints; the last iteration always has one."""
    log_every: WholeNumber = 0
    """Iterations between rows of metrics; 0: every iteration."""
    tracker: TrackerName = "tensorboard"
    """Experiment tracker, in addition to the file metrics.jsonl; install wandb or trackio to use
    them."""
    resume: bool = False
    """Continue the run in --out with its stored settings. Only iterations, device, threads,
    tracker, checkpoint_every and log_every may be given again with other values."""

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
    """Class of MODEL.zip, a model of Stable-Baselines3 or sb3-contrib, such as PPO or RecurrentPPO.
    Load such files only from sources that you trust: loading can run arbitrary code."""
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
