"""Learners of RL² in float64, and random trials to update them on."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from metarl.agents.rl2.batch import TrialBatch
from metarl.agents.rl2.config import RL2Config
from metarl.agents.rl2.updates import UpdateContext
from metarl.nn.memories import GRU, LSTM, Memory, NoMemory
from metarl.nn.transformer import Transformer
from metarl.optim.optimizer import NamedOptimizer
from metarl.rl.action_heads import ActionHead
from metarl.rl.trial_policies import TrialPolicy

STEPS, BATCH, INPUTS = 6, 5, 4
SPACES = {"discrete": spaces.Discrete(3), "box": spaces.Box(-1.0, 1.0, (2,))}
MEMORIES: dict[str, Memory] = {
    "gru": GRU(INPUTS, 4),
    "lstm": LSTM(INPUTS, 4),
    "transformer": Transformer(INPUTS, 4, length=STEPS, num_layers=1, num_heads=2),
    "none": NoMemory(INPUTS),
}
SMALL: dict[str, Any] = {"meta_batch_size": BATCH, "num_minibatches": 2, "num_epochs": 2}


def make_generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=make_generator(seed), dtype=torch.float64)


def make_context(memory: str = "gru", space: str = "discrete", **settings: Any) -> UpdateContext:
    config = RL2Config(**{**SMALL, **settings})
    policy = TrialPolicy(
        INPUTS,
        2,
        MEMORIES[memory],
        ActionHead(SPACES[space]),
        hidden_sizes=(3,),
        value_hidden_sizes=(3,),
        separate_value=config.optimizer == "trpo",
        progress_size=1,
        task_size=2,
    )
    sampled = policy.init(make_generator(0))
    params = {
        name: (p.double() + 0.2 * randn(*p.shape, seed=1)).requires_grad_()
        for name, p in sampled.items()
    }
    return UpdateContext(
        policy, params, NamedOptimizer(params, rate=config.learning_rate, epsilon=1e-5), config
    )


def batch_for(context: UpdateContext, *, cleared: bool = False, moved: float = 0.3) -> TrialBatch:
    """Trials of a policy near the current one, which end at different times."""
    inputs = randn(STEPS, BATCH, INPUTS, seed=2)
    progress, tasks = randn(STEPS, BATCH, 1, seed=3), randn(1, BATCH, 2, seed=9)
    mask = torch.arange(STEPS).unsqueeze(1) < torch.tensor([6, 2, 5, 6, 1])
    forgets = (randn(STEPS, BATCH, seed=4) > 0.8) if cleared else None
    acting = {k: p.detach() + moved * randn(*p.shape, seed=5) for k, p in context.params.items()}
    start = context.policy.start(acting, BATCH)
    with torch.no_grad():
        old, features, _ = context.policy.sequence(acting, inputs, start, forgets)
        values = context.policy.values(
            acting, inputs, features, progress, tasks=tasks, cleared=forgets
        )
    actions = old.sample(make_generator(6))
    return TrialBatch(
        inputs=inputs,
        trial_progress=progress,
        tasks=tasks,
        cleared=forgets,
        actions=actions,
        log_probs=old.log_prob(actions),
        values=values,
        advantages=randn(STEPS, BATCH, seed=7),
        returns=values + randn(STEPS, BATCH, seed=8),
        mask=mask,
        old=old,
    )


def on_policy_batch(context: UpdateContext, **settings: Any) -> TrialBatch:
    """Trials of the current policy, as TRPO needs them."""
    return batch_for(context, moved=0.0, **settings)


def copied(params: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in params.items()}
