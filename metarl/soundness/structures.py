"""The promise that a family's declared structure is true: see `metarl.tasks.structure`.

Random rewards and transitions are compared with what the structure states by averages over many
environments; a difference of five standard errors is a counterexample.
"""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.soundness.probe import NotApplicableError, Probe, require
from metarl.tasks.family import TaskFamily
from metarl.tasks.structure import BernoulliBandit, HiddenGoalGrid, InformativeArm, TabularMDP

__all__ = ["structure_is_true"]

_NUM_ENVS = 200  # per task, for averages
_NUM_STEPS = 20
_MAX_DEVIATIONS = 5.0  # standard errors


def structure_is_true(probe: Probe) -> str:
    """Actions, tasks, observations and rewards agree with the declared structure."""
    structure = probe.family.structure
    if structure is None:
        raise NotApplicableError("the family declares no structure")
    if isinstance(structure, BernoulliBandit):
        return _check_bandit(probe, structure)
    if isinstance(structure, InformativeArm):
        return _check_informative_arm(probe, structure)
    if isinstance(structure, TabularMDP):
        return _check_tabular(probe, structure)
    return _check_grid(probe, structure)


class _Run:
    """A run of random actions in many environments; leading axes [T, N, E]."""

    def __init__(self, probe: Probe) -> None:
        num_steps = min(probe.family.horizon, _NUM_STEPS)
        with probe.batch(num_envs=_NUM_ENVS) as env:
            chosen = probe.actions(env, num_steps)
            steps = probe.steps(env, chosen)
        self.actions = torch.stack(chosen)
        self.observations = torch.stack([step.observations for step in steps])  # [T + 1, N, E, O]
        self.rewards = torch.stack([step.rewards for step in steps[1:]])
        ended = torch.stack([step.terminated for step in steps])
        require(
            not bool(ended.any()), "an episode terminates, but the structure has no termination"
        )
        self.size = f"{num_steps} random steps of {len(probe.tasks)} tasks × {_NUM_ENVS}"


def _require_actions(family: TaskFamily, count: int) -> None:
    needed = spaces.Discrete(count)
    actions = family.action_space
    require(actions == needed, f"action_space must be {needed}, is {actions}")


def _require_constant(run: _Run) -> None:
    observations = run.observations
    is_constant = bool((observations == observations[0, 0, 0]).all())
    require(is_constant, "observations of a bandit must be constant")


def _require_close(value: float, expected: float, error: float, what: str) -> None:
    require(
        abs(value - expected) <= _MAX_DEVIATIONS * error + 1e-5,
        f"{what} is {value:.3g} on average, but {expected:.3g} in the structure",
    )


def _check_bandit(probe: Probe, bandit: BernoulliBandit) -> str:
    _require_actions(probe.family, bandit.num_arms)
    space = probe.family.task_space
    if bandit.prior == "uniform":
        unit = spaces.Box(0.0, 1.0, (bandit.num_arms,), np.float64)
        require(space == unit, f"task_space must be {unit} for the prior 'uniform', is {space}")
    if bandit.prior == "mirrored":
        require(bandit.num_arms == 2, f"a mirrored bandit has 2 arms, not {bandit.num_arms}")
    run = _Run(probe)
    _require_constant(run)
    binary = (run.rewards == 0) | (run.rewards == 1)
    require(bool(binary.all()), "rewards of a Bernoulli bandit must be 0 or 1")
    for task, row in enumerate(probe.tasks):
        arms = [_check_arm(run, task, arm) for arm in range(bandit.num_arms)]
        if bandit.prior == "uniform":
            for arm, (mean, error) in enumerate(arms):
                pulls = max(1, int((run.actions[:, task] == arm).sum()))
                stated = float(row[arm])
                allowed = max(error, (stated * (1 - stated) / pulls) ** 0.5 + 1 / pulls)
                _require_close(mean, stated, allowed, f"the reward of arm {arm} in task {task}")
        if bandit.prior == "mirrored":
            (first, error), (second, other_error) = arms
            error = float(np.hypot(error, other_error))
            _require_close(first + second, 1.0, error, f"the sum of both arms of task {task}")
    return f"{bandit.num_arms} arms, {run.size}"


def _check_arm(run: _Run, task: int, arm: int) -> tuple[float, float]:
    """Mean reward of an arm and its standard error, after a check that they are stationary."""
    pulled = run.actions[:, task] == arm  # [T, E]
    rewards = run.rewards[:, task].double()
    earned = rewards.cumsum(0) - rewards
    typical = (torch.arange(len(rewards)) / 2).unsqueeze(1)
    late = (torch.arange(len(rewards)) >= len(rewards) // 2).unsqueeze(1).expand_as(pulled)
    for split, what in ((late, "late in an episode"), (earned > typical, "after many rewards")):
        (mean, error), (other, other_error) = (
            _mean(rewards[pulled & split]),
            _mean(rewards[pulled & ~split]),
        )
        require(
            abs(mean - other) <= _MAX_DEVIATIONS * np.hypot(error, other_error),
            f"arm {arm} of task {task} gives {mean:.3g} {what} and {other:.3g} otherwise: its "
            "reward must depend only on arm and task",
        )
    return _mean(rewards[pulled])


def _mean(rewards: Tensor) -> tuple[float, float]:
    """Mean of binary values, and its standard error with one additional 0 and one additional 1."""
    count, ones = len(rewards), float(rewards.sum())
    smoothed = (ones + 1) / (count + 2)
    error = (smoothed * (1 - smoothed) / (count + 1)) ** 0.5
    return (ones / count if count else 0.5), error


def _check_informative_arm(probe: Probe, bandit: InformativeArm) -> str:
    _require_actions(probe.family, bandit.num_targets + 1)
    space, needed = probe.family.task_space, spaces.Discrete(bandit.num_targets)
    require(space == needed, f"task_space must be {needed}, is {space}")
    run = _Run(probe)
    _require_constant(run)
    for task, target in enumerate(probe.tasks[:, 0].astype(int)):
        rewards = run.rewards[:, task]
        seen = [rewards[run.actions[:, task] == arm] for arm in range(bandit.num_targets + 1)]
        for arm, values in enumerate(seen):
            fixed = bool((values == values[:1]).all())
            require(fixed, f"the rewards of arm {arm} in task {task} are not all equal")
        revealed, expected = seen[-1][:1], bandit.reward_step * (target + 1)
        require(
            bool(((revealed - expected).abs() < 1e-4).all()),
            f"the last arm of task {task} gives {revealed.tolist()}, but {expected:g} "
            "in the structure",
        )
        best = max((arm for arm in range(len(seen)) if len(seen[arm])), key=lambda a: seen[a][0])
        require(
            best == target or not len(seen[target]),
            f"arm {best} of task {task} gives more than its target, arm {target}",
        )
    return f"{bandit.num_targets} arms and an informative one, {run.size}"


def _check_tabular(probe: Probe, mdp: TabularMDP) -> str:
    states, pairs = mdp.num_states, mdp.num_states * mdp.num_actions
    _require_actions(probe.family, mdp.num_actions)
    shape = probe.family.task_space.shape
    needed = (pairs * (1 + states),)
    require(shape == needed, f"task_space must have shape {needed}, has {shape}")
    run = _Run(probe)
    one_hot = ((run.observations == 0) | (run.observations == 1)).all() & (
        run.observations.sum(-1) == 1
    ).all()
    size = run.observations.shape[-1]
    require(
        bool(one_hot) and size == states, f"observations must be one-hot rows of {states} numbers"
    )
    visited = run.observations.argmax(-1)
    require(bool((visited[0] == 0).all()), "every episode must start in state 0")
    for task, row in enumerate(torch.from_numpy(probe.tasks)):
        rows = (visited[:-1, task] * mdp.num_actions + run.actions[:, task]).flatten()
        noise = run.rewards[:, task].double().flatten() - row[:pairs][rows]
        _require_close(float(noise.mean()), 0.0, len(noise) ** -0.5, f"reward noise of task {task}")
        spread = float(noise.square().mean())
        error = (2 / len(noise)) ** 0.5
        _require_close(spread, 1.0, error, f"squared reward noise of task {task}")
        _check_transitions(row[pairs:].view(pairs, states), rows, visited[1:, task].flatten(), task)
    return f"{states} states, {mdp.num_actions} actions, {run.size}"


def _check_transitions(probabilities: Tensor, rows: Tensor, arrivals: Tensor, task: int) -> None:
    """Compare how often each state is reached from each pair with the task's probabilities."""
    pairs, states = probabilities.shape
    counts = torch.zeros(pairs, states, dtype=torch.float64)
    counts.index_put_((rows, arrivals), torch.ones(len(rows), dtype=torch.float64), accumulate=True)
    visits = counts.sum(-1, keepdim=True)
    expected = visits * probabilities
    allowed = (
        _MAX_DEVIATIONS * (expected * (1 - probabilities)).clamp(min=0).sqrt() + _MAX_DEVIATIONS
    )
    excess = (counts - expected).abs() - allowed
    if bool((excess > 0).any()):
        pair, state = divmod(int(excess.argmax()), states)
        require(
            False,
            f"task {task} reaches state {state} from pair {pair} (state · actions + action) "
            f"{int(counts[pair, state])} times of {int(visits[pair])}, but "
            f"{float(expected[pair, state]):.3g} times in the structure",
        )


def _check_grid(probe: Probe, grid: HiddenGoalGrid) -> str:
    _require_actions(probe.family, len(grid.moves))
    space, needed = probe.family.task_space, spaces.Discrete(len(grid.goals))
    require(space == needed, f"task_space must be {needed}, is {space}")
    run = _Run(probe)
    start = run.observations.new_tensor(grid.start)
    require(run.observations.shape[-1] == 2, "observations must be the cell (x, y)")
    require(bool((run.observations[0] == start).all()), f"episodes must start at {grid.start}")
    moves = run.observations.new_tensor(grid.moves)
    next_cells = (run.observations[:-1] + moves[run.actions]).clamp(0, grid.size - 1)
    differs = (next_cells != run.observations[1:]).any(-1)
    require(not bool(differs.any()), "a move leads to another cell than in the structure")
    goals = run.observations.new_tensor(grid.goals)[torch.from_numpy(probe.tasks[:, 0]).long()]
    on_goal = (run.observations[1:] == goals.unsqueeze(1)).all(-1)
    wrong = (run.rewards > 0) != on_goal
    require(not bool(wrong.any()), "rewards must be above 0 on the goal's cell and only there")
    return f"{grid.size} × {grid.size} cells, {run.size}"
