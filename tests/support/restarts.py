"""Restarting ended environments, for tests that step a batch by hand."""

from __future__ import annotations

import torch

from metarl.tasks.family import BatchEnv, Step


def restart_ended(batch: BatchEnv, step: Step, generator: torch.Generator) -> None:
    """Reset the environments whose episode a step has ended; the others continue."""
    ended = step.terminated | step.truncated
    if bool(ended.any()):
        batch.reset(generator, ended)
