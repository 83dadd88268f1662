"""Running statistics of batch norm: averages over training batches, used in evaluation only.

Averages that are updated during training lag behind the parameters, in particular early in training
and at a high learning rate. Therefore they are estimated here when they are needed, with the
current parameters and always from the same training batches.
"""

from __future__ import annotations

import torch

from metarl.fewshot.contract.interface import FewShotLearner
from metarl.fewshot.sampling import TaskSampler
from metarl.parameters import Params

__all__ = ["NUM_BATCHES", "RunningStatistics"]

NUM_BATCHES = 10  # training batches in an estimate


class RunningStatistics:
    """Batch-norm statistics of a learner in training, and the iteration that they belong to."""

    def __init__(self, learner: FewShotLearner, sampler: TaskSampler, params: Params) -> None:
        """Zero means and unit variances; nothing if batch norm does not need statistics."""
        self._learner, self._sampler = learner, sampler
        self.values: Params = {}
        """Means and variances by name."""
        self.iteration: int | None = None
        """The number of training iterations at the last estimate; None: none yet."""
        if learner.config.batch_norm == "running" and learner.config.backbone != "mlp":
            smallest = sampler.smallest_batch(learner.problem, _device(params))
            for name, values in learner.statistics(params, smallest).items():
                fill = torch.zeros_like if "mean" in name else torch.ones_like
                self.values[name] = fill(values)

    def refresh(self, params: Params, iteration: int) -> None:
        """Estimate the statistics, in place, unless they belong to this iteration.

        The estimate is the mean over `NUM_BATCHES` training batches, which the seed determines.
        """
        if not self.values or self.iteration == iteration:
            return
        total: Params = {}
        for k in range(NUM_BATCHES):
            batch = self._sampler.training_batch(
                self._learner, k, _device(params), purpose="statistics"
            )
            found = self._learner.statistics(params, batch)
            total = {name: v / NUM_BATCHES + total.get(name, 0) for name, v in found.items()}
        with torch.no_grad():
            for name, values in self.values.items():
                values.copy_(total[name])
        self.iteration = iteration


def _device(params: Params) -> torch.device:
    return next(iter(params.values())).device
