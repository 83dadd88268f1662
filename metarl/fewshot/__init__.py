"""Supervised few-shot learning on the same bilevel core that the agents use."""

from metarl.fewshot.maml import MAML, MAMLConfig
from metarl.fewshot.sinusoid import FewShotBatch, SinusoidTasks

__all__ = ["MAML", "FewShotBatch", "MAMLConfig", "SinusoidTasks"]
