"""The exact Bayes optimum of small Bernoulli bandits with independent uniform arms.

Arms with equal counts are interchangeable, so a state is a multiset of (pulls, successes), one
entry for each arm. The number of states is small for a short horizon with any number of arms, and
for two arms with any horizon; for many arms and a long horizon it is too large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.validation import require_at_least

__all__ = ["BanditPlan", "num_plan_states", "optimal_bandit_plan"]

Ints = NDArray[np.int64]

_MOST_STATES = 5_000_000


@dataclass(frozen=True)
class BanditPlan:
    """The optimal arm in every state that can be reached, and the expected return."""

    value: float
    """Expected sum of rewards over the horizon."""
    horizon: int
    num_slots: int
    """Entries of a state: the number of arms that can be pulled before the last pull, plus one."""
    keys: Tensor  # [M] int64, ascending, one for each state
    slots: Tensor  # [M] int64, index of the entry whose arm is optimal

    def arms(self, successes: Tensor, failures: Tensor) -> Tensor:
        """The arm to pull, [...] int64, after counts [..., k] with a sum below the horizon."""
        pulls = (successes + failures).to(torch.int64)
        codes = pulls * (pulls + 1) // 2 + successes.to(torch.int64)
        ordered = codes.sort(dim=-1, descending=True)
        base = _key_base(self.horizon)
        key = torch.zeros_like(codes[..., 0])
        for slot in range(self.num_slots):  # the digits of a number
            key = key * base + ordered.values[..., slot]
        slots = self.slots[torch.searchsorted(self.keys, key)]
        return ordered.indices.gather(-1, slots.unsqueeze(-1)).squeeze(-1)

    def to(self, device: torch.device | str) -> BanditPlan:
        """The plan on a device."""
        keys, slots = self.keys.to(device), self.slots.to(device)
        return BanditPlan(self.value, self.horizon, self.num_slots, keys, slots)


def num_plan_states(num_arms: int, horizon: int) -> int:
    """States of `optimal_bandit_plan` in which an arm is chosen: multisets with t < n pulls.

    There are p + 1 outcomes (successes) of an arm that was pulled p times, so r arms of p pulls
    each have C(r + p, r) of them.
    """
    slots, last = min(num_arms, horizon), horizon - 1
    counts = [[0] * (last + 1) for _ in range(slots + 1)]  # [arms pulled][pulls]
    counts[0][0] = 1
    for pulls in range(1, last + 1):
        for arms in range(slots, 0, -1):
            for total in range(last, 0, -1):
                counts[arms][total] += sum(
                    math.comb(r + pulls, r) * counts[arms - r][total - r * pulls]
                    for r in range(1, min(arms, total // pulls) + 1)
                )
    return sum(map(sum, counts))


@lru_cache(maxsize=4)
def optimal_bandit_plan(num_arms: int, horizon: int) -> BanditPlan:
    """Backward induction over the states of a bandit whose arms have p ~ U(0, 1) independently.

        V_n = 0,   V_t(x) = max_a [ p_a (1 + V_{t+1}(x + success of a))
                                    + (1 − p_a) V_{t+1}(x + failure of a) ]

    with p_a = (s_a + 1) / (n_a + 2), the mean of arm a after s_a successes in n_a pulls.

    Args:
        num_arms: k.
        horizon: n, total number of pulls.

    Raises:
        ValueError: if a number is below 1, or there are more than 5 million states.

    Source: Berry & Fristedt 1985, sec. 2.4 (dynamic programming). Differs: merges interchangeable
    arms.
    """
    require_at_least("num_arms", num_arms, 1)
    require_at_least("horizon", horizon, 1)
    slots = min(num_arms, horizon)
    # Each unordered state corresponds to at most slots! ordered states, which are easy to count.
    fewest = math.comb(horizon - 1 + 2 * slots, 2 * slots) // math.factorial(slots)
    if fewest > _MOST_STATES or num_plan_states(num_arms, horizon) > _MOST_STATES:
        raise ValueError(
            f"the exact optimum needs at most {_MOST_STATES} states of counts, got more with "
            f"num_arms {num_arms} and horizon {horizon}; use a Gittins index instead"
        )
    levels = [np.zeros((1, slots), dtype=np.int64)]
    for _ in range(horizon - 1):
        levels.append(_distinct(np.concatenate(_successors(levels[-1])[0]), horizon))
    values: NDArray[np.float64] | None = None
    keys, choices = [], []
    for t in range(horizon - 1, -1, -1):
        after = None if values is None else (_keys(levels[t + 1], horizon), values)
        values, chosen = _backup(levels[t], after, horizon)
        keys.append(_keys(levels[t], horizon))
        choices.append(chosen)
    assert values is not None
    all_keys, all_choices = np.concatenate(keys), np.concatenate(choices)
    order = np.argsort(all_keys)
    assert np.all(np.diff(all_keys[order])), "two states have the same key"
    return BanditPlan(
        float(values[0]),
        horizon,
        slots,
        torch.from_numpy(all_keys[order]),
        torch.from_numpy(all_choices[order]),
    )


# A state is a row of codes, descending, one for each arm: n (n + 1) / 2 + s.


def _key_base(horizon: int) -> int:
    """The number of codes, plus one if it is even: an odd base loses no digit if keys overflow."""
    return (horizon + 1) * (horizon + 2) // 2 | 1


def _pulls(codes: Ints) -> Ints:
    pulls: Ints = ((np.sqrt(8 * codes + 1) - 1) / 2).astype(np.int64)
    return pulls


def _keys(states: Ints, horizon: int) -> Ints:
    """One number for each state, [M, slots] ↦ [M], modulo 2⁶⁴; callers check collisions."""
    keys = np.zeros(len(states), dtype=np.int64)
    for column in states.T:
        keys = keys * _key_base(horizon) + column
    return keys


def _distinct(states: Ints, horizon: int) -> Ints:
    """Each state once, in the order of the keys."""
    _, first, which = np.unique(_keys(states, horizon), return_index=True, return_inverse=True)
    distinct: Ints = states[first]
    for column, whole in zip(distinct.T, states.T, strict=True):
        assert np.array_equal(column[which], whole), "two states have the same key"
    return distinct


def _successors(states: Ints) -> tuple[list[Ints], NDArray[np.float64]]:
    """States after a failure and a success of each arm, 2 · slots of [M, slots]; p [slots, M]."""
    pulls = _pulls(states)
    means = (states - pulls * (pulls + 1) // 2 + 1) / (pulls + 2)
    after = []
    for slot in range(states.shape[1]):
        for success in (0, 1):
            moved = states.copy()
            moved[:, slot] += pulls[:, slot] + 1 + success
            after.append(-np.sort(-moved, axis=1))
    return after, means.T


def _backup(
    states: Ints, after: tuple[Ints, NDArray[np.float64]] | None, horizon: int
) -> tuple[NDArray[np.float64], Ints]:
    """Values and optimal entries of states, from the keys and values one pull later."""
    successors, returns = _successors(states)
    if after is not None:
        keys, values = after
        later = [values[np.searchsorted(keys, _keys(s, horizon))] for s in successors]
        failure, success = np.stack(later[0::2]), np.stack(later[1::2])
        returns = returns * (1 + success) + (1 - returns) * failure
    return returns.max(axis=0), returns.argmax(axis=0)
