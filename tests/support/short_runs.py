"""Short runs and small checkpoints, for tests of a run's files."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from metarl.runs.directory import RunDirectory
from metarl.scripts.cli import dispatch
from metarl.storage.checkpoints import save_checkpoint

ROBOT = (
    "train maml-trpo --env PointRobot:pearl --meta-batch-size 2 --num-episodes 2 --hidden-sizes 4 "
    "--cg-iterations 2 --device cpu --threads 1 --seed 3 --tracker none"
)
SINUSOID = (
    "fewshot maml --meta-batch-size 2 --hidden-sizes 4 --shots 3 --test-steps 1 --device cpu "
    "--seed 3 --tracker none"
)
CONFIG: dict[str, Any] = {
    "agent": "maml-trpo",
    "environment": "Navigation2D:maml17",
    "seed": 3,
    "agent_config": {"gamma": 0.99},
}


def metarl(line: str, out: Path) -> None:
    dispatch([*line.split(), "--out", str(out)])


def save(run: RunDirectory, iteration: int, **others: Any) -> Path:
    """A small checkpoint of a run of CONFIG, or with other entries of the header of another run."""
    header = {
        **{name: CONFIG[name] for name in ("agent", "environment", "seed")},
        "config": CONFIG["agent_config"],
        "counters": {"num_iterations": iteration},
        **others,
    }
    path = run.checkpoint_path(iteration)
    save_checkpoint(path, {"parameters/weight": torch.full((2,), float(iteration))}, header)
    return path


@contextmanager
def room_in_files(num_bytes: int) -> Iterator[None]:
    """Limit the size of files in the kernel, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
