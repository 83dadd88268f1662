"""Small runs of few-shot learners, on sinusoids and on glyphs."""

from __future__ import annotations

from typing import Any

from fewshot_episodes import generator

from metarl.fewshot import (
    EpisodeShape,
    FewShotBatch,
    FewShotTraining,
    SinusoidTasks,
    recipe,
)
from metarl.fewshot.datasets.glyphs import GlyphTasks

TASKS, GLYPHS = SinusoidTasks(), GlyphTasks()
SMALL: dict[str, Any] = {"shots": 6, "meta_batch_size": 3, "hidden_sizes": (8,), "inner_lr": 0.05}
ON_GLYPHS: dict[str, Any] = {
    "filters": (2, 2), "meta_batch_size": 2, "ways": 3, "train_ways": None, "decay_iterations": 20,
}  # fmt: skip


class Recorded(SinusoidTasks):
    """Sinusoid tasks that record every training batch."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "batches", [])

    def sample(self, num_tasks: int, shape: EpisodeShape, **others: Any) -> FewShotBatch:
        batch = super().sample(num_tasks, shape, **others)
        if num_tasks > 1:
            self.batches.append(batch)  # type: ignore[attr-defined] # set above
        return batch


def learner(
    name: str = "maml", *, seed: int = 0, tasks: Any = TASKS, **settings: Any
) -> FewShotTraining:
    config = recipe(name, "sinusoid", **{**SMALL, **settings})
    return FewShotTraining(name, tasks, config, seed=seed)


def on_glyphs(name: str, *, seed: int = 0, **settings: Any) -> FewShotTraining:
    config = recipe(name, "glyphs", **{**ON_GLYPHS, **settings})
    return FewShotTraining(name, GLYPHS, config, seed=seed)


def trained(num_iterations: int, name: str = "maml", **settings: Any) -> FewShotTraining:
    training = learner(name, **settings)
    for _ in range(num_iterations):
        training.iterate()
    return training


def sampled(num_tasks: int = 4, shots: int = 6, queries: int = 5) -> FewShotBatch:
    shape = EpisodeShape(1, shots, queries)
    return TASKS.sample(num_tasks, shape, split="test", generator=generator())
