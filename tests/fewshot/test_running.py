"""Running statistics of batch norm in training."""

from __future__ import annotations

import torch
from fewshot_runs import on_glyphs

from metarl.fewshot import FewShotBatch
from metarl.parameters import Params


def test_running_statistics_move_towards_those_of_the_batch():
    training = on_glyphs("protonet", batch_norm="running")
    assert all((p == ("variance" in name)).all() for name, p in training.running.items())
    wanted = {}
    statistics = training.learner.statistics

    def noted(params: Params, batch: FewShotBatch) -> Params:
        wanted.update(statistics(params, batch))
        return wanted

    training.learner.statistics = noted  # type: ignore[method-assign]
    before = {name: p.clone() for name, p in training.running.items()}
    training.iterate()
    for name, p in training.running.items():
        torch.testing.assert_close(p, 0.9 * before[name] + 0.1 * wanted[name])
