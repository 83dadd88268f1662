"""Numbers of tasks, environments and points that cannot fit into memory are rejected at once."""

from __future__ import annotations

import pytest

from metarl.agents.maml_trpo.agent import MAMLTRPO
from metarl.agents.maml_trpo.config import MAMLTRPOConfig
from metarl.envs import make_family
from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.fewshot.data.batches import EpisodeShape
from metarl.fewshot.datasets.catalog import make_tasks
from metarl.fewshot.evaluation import evaluate_fewshot
from metarl.fewshot.learners.catalog import recipe
from metarl.fewshot.training import FewShotTraining
from metarl.nn.mlp import init_mlp
from metarl.seeding import torch_generator
from metarl.tasks.batch_memory import require_batch_memory

FAMILY = make_family("PointRobot:pearl")
BILLION = 10**9


def test_batches_of_environments_are_rejected():
    require_batch_memory(FAMILY, 100, 100)
    with pytest.raises(ValueError, match=r"100,000 tasks with 1,000,000,000 environments each nee"):
        require_batch_memory(FAMILY, 10**5, BILLION)
    agent = MAMLTRPO(FAMILY, MAMLTRPOConfig(meta_batch_size=2000, num_episodes=BILLION))
    with pytest.raises(ValueError, match=r"2,000 tasks with 1,000,000,000 environments each need"):
        agent.iterate()
    huge = EvaluationProtocol(num_tasks=2000, evaluation_episodes=BILLION)
    with pytest.raises(ValueError, match=r"2,000 tasks with 1,000,000,000 environments each need"):
        evaluate(MAMLTRPO(FAMILY), FAMILY, huge)


def test_a_number_of_tasks_is_rejected():
    with pytest.raises(ValueError, match=r"num_tasks 1000000000000 needs 8,000 GB of memory or mo"):
        FAMILY.sample_tasks(10**12, seed=0)


def test_nets_are_rejected():
    with pytest.raises(ValueError, match=r"a net with 1,000,002,000,000 weights needs 8,000 GB of"):
        init_mlp((1, 10**6, 10**6, 1), torch_generator(0))


def test_few_shot_episodes_are_rejected():
    tasks = make_tasks("sinusoid")
    with pytest.raises(ValueError, match=r"1 tasks of 1,000,000,000,000 points each need"):
        EpisodeShape(1000, BILLION // 2, BILLION // 2).require_memory(1, (1,))
    learner = FewShotTraining("maml", tasks, recipe("maml", "sinusoid"))
    with pytest.raises(ValueError, match=r"9 tasks of 1,000,000,015 points each need"):
        evaluate_fewshot(learner, num_tasks=9, shots=BILLION)
