"""Small random Markov decision processes; each task is one process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.planning.dynamic_programming import optimal_plan
from metarl.tasks import structure
from metarl.tasks.actions import require_action_indices
from metarl.tasks.spaces import Tasks, check_rows
from metarl.validation import lookup

from .simulators.tensor import TensorFamily, Transition

__all__ = ["TabularMDP"]

_STATES, _ACTIONS, _HORIZON = 10, 5, 10
_PAIRS = _STATES * _ACTIONS
_REWARD_MEAN, _MAX_REWARD_OFFSET = 1.0, 8.0  # mean rewards are clipped to mean ± offset
_SUM_TOLERANCE = 1e-6  # accepts probabilities that were rounded to float32


@dataclass(frozen=True)
class _Models:
    """The tasks as tables: s · A + a is the index of action a in state s, and t · S + s the index
    of state s at time t."""

    mean_rewards: Tensor  # [N, S · A]
    cumulative: Tensor  # [N · S · A, S], cumulative next-state probabilities; the last is exactly 1
    first_rows: Tensor  # [N, 1] int64, first row of each task in `cumulative`
    best_actions: Tensor  # [N, T · S] int64


class TabularMDP(TensorFamily):
    """Ten states and five actions with hidden random rewards and transitions.

        r ~ N(m(s, a), 1),   s' ~ P(· | s, a),   m(s, a) ~ N(1, 1),   P(· | s, a) ~ Dirichlet(1)

    Every episode starts in state 0. Task: m in order of (s, a), then P in order of (s, a, s'),
    shape [550]. Observation: the state, one-hot, [10]. Action: one of 5, int64. The range of
    actions is not checked: an action out of range may act as an action of another state.

    The task space is a Box, but a task must also hold distributions: `check_tasks` rejects rows
    of P that do not sum to 1. Mean rewards are clipped to 1 ± 8, which affects one in 10¹⁵.

    Source: Duan et al. 2016 (arXiv:1611.02779), sec. 3.2; their RandomTabularMDPEnv on rllab.
    """

    name: ClassVar[str] = "TabularMDP"
    _sources: ClassVar[dict[str, str]] = {"rl2": "Duan et al. 2016 (arXiv:1611.02779)"}
    variants: ClassVar[tuple[str, ...]] = tuple(_sources)
    warning = (
        "published returns are sums over trials of 10 to 100 episodes and the best of a "
        "training run, not the final ones"
    )
    task_description = "10 states, 5 actions; mean rewards N(1, 1), transitions Dirichlet(1)"
    observation_description = "the state, one-hot"
    behavior = "choices"
    structure = structure.TabularMDP(_STATES, _ACTIONS)
    horizon = _HORIZON

    def __init__(self, variant: str) -> None:
        self.source = lookup("variant of TabularMDP", variant, self._sources)
        self.variant = variant
        low = np.zeros(_PAIRS * (1 + _STATES))
        high = np.ones_like(low)
        low[:_PAIRS], high[:_PAIRS] = (
            _REWARD_MEAN - _MAX_REWARD_OFFSET,
            _REWARD_MEAN + _MAX_REWARD_OFFSET,
        )
        self.task_space = spaces.Box(low, high, dtype=np.float64)
        self.observation_space = spaces.Box(0.0, 1.0, (_STATES,), np.float32)
        self.action_space = spaces.Discrete(_ACTIONS)

    def check_tasks(self, tasks: object) -> Tasks:
        """Return the tasks as float64 [N, 550] after checking bounds and distributions.

        Raises:
            ValueError: if a task lies outside the task space or its probabilities do not sum to 1.
        """
        rows = check_rows(self.task_space, tasks)
        sums = rows[:, _PAIRS:].reshape(-1, _STATES, _ACTIONS, _STATES).sum(axis=-1)
        wrong = np.argwhere(np.abs(sums - 1) > _SUM_TOLERANCE)
        if len(wrong):
            task, state, action = (int(i) for i in wrong[0])
            raise ValueError(
                f"tasks must hold transition probabilities that sum to 1, got "
                f"{sums[task, state, action]:g} in task {task}, state {state}, action {action}"
            )
        return rows

    def prepare(self, tasks: Tensor) -> _Models:
        mean_rewards = tasks[:, :_PAIRS]
        weights = tasks[:, _PAIRS:].reshape(-1, _STATES).double()
        cumulative = weights.cumsum(dim=-1)
        total = cumulative[:, -1:]
        plan = optimal_plan(
            mean_rewards.double().reshape(-1, _STATES, _ACTIONS),
            (weights / total).reshape(-1, _STATES, _ACTIONS, _STATES),
            _HORIZON,
        )
        return _Models(
            mean_rewards,
            # Dividing after the sum keeps trailing states of probability 0 unreachable.
            (cumulative / total).to(tasks.dtype),
            torch.arange(len(tasks), device=tasks.device).unsqueeze(1) * _PAIRS,
            plan.actions.flatten(1),
        )

    def initial_states(
        self, parameters: _Models, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        del generator  # every episode starts in state 0
        return parameters.first_rows.new_zeros(*shape, 1)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: _Models, generator: torch.Generator
    ) -> Transition:
        require_action_indices(actions, states.shape[:2])
        pairs = states.squeeze(-1) * _ACTIONS + actions
        rows = parameters.cumulative.index_select(0, (parameters.first_rows + pairs).flatten())
        next_states = _sample_indices(rows, generator).view_as(states)
        noise = torch.randn(
            pairs.shape, generator=generator, device=pairs.device, dtype=torch.float32
        )
        means = parameters.mean_rewards.gather(1, pairs)
        return Transition(next_states, means + noise, expected_rewards=means)

    def observe(self, states: Tensor) -> Tensor:
        zeros = torch.zeros(*states.shape[:2], _STATES, device=states.device, dtype=torch.float32)
        return zeros.scatter_(-1, states, 1.0)

    def best_actions(self, states: Tensor, parameters: _Models, time: Tensor) -> Tensor:
        """Actions with the highest expected sum of rewards until the horizon."""
        rows = time.clamp(max=_HORIZON - 1) * _STATES + states.squeeze(-1)
        return parameters.best_actions.gather(1, rows)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        del split  # train and test tasks have the same distribution
        rewards = rng.normal(_REWARD_MEAN, 1.0, (num_tasks, _PAIRS))
        rewards = rewards.clip(_REWARD_MEAN - _MAX_REWARD_OFFSET, _REWARD_MEAN + _MAX_REWARD_OFFSET)
        transitions = rng.dirichlet(np.ones(_STATES), (num_tasks, _PAIRS))
        return np.concatenate([rewards, transitions.reshape(num_tasks, -1)], axis=1)


def _sample_indices(cumulative: Tensor, generator: torch.Generator) -> Tensor:
    """Sample an index for each row of cumulative probabilities [B, S]. Shape [B]."""
    uniform = torch.rand(
        len(cumulative), 1, generator=generator, device=cumulative.device, dtype=torch.float32
    )
    return torch.searchsorted(cumulative, uniform, right=True).squeeze(-1)
