"""Benchmarks of Meta-World with their tasks and goals, without its simulator.

Meta-World resets each environment of a benchmark twice per goal to sample 50 goals, although they
do not depend on physics. This takes 14 s for ML10. Here the same random stream gives the same
goals in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["BENCHMARKS", "NUM_GOALS", "TASK_NAMES", "VARIANTS", "sample_goals", "parse_variant"]

Array = NDArray[np.float64]

NUM_GOALS = 50
"""Goals of each task in a split, of every benchmark."""

_MIN_DISTANCES = {
    "assembly": 0.1,
    "basketball": 0.15,
    "bin-picking": 0.0,
    "box-close": 0.25,
    "button-press": 0.0,
    "button-press-topdown": 0.0,
    "button-press-topdown-wall": 0.0,
    "button-press-wall": 0.0,
    "coffee-button": 0.0,
    "coffee-pull": 0.15,
    "coffee-push": 0.15,
    "dial-turn": 0.0,
    "disassemble": 0.1,
    "door-close": 0.0,
    "door-lock": 0.0,
    "door-open": 0.0,
    "door-unlock": 0.0,
    "drawer-close": 0.0,
    "drawer-open": 0.0,
    "faucet-close": 0.0,
    "faucet-open": 0.0,
    "hammer": 0.0,
    "hand-insert": 0.15,
    "handle-press": 0.0,
    "handle-press-side": 0.0,
    "handle-pull": 0.0,
    "handle-pull-side": 0.0,
    "lever-pull": 0.0,
    "peg-insert-side": 0.1,
    "peg-unplug-side": 0.0,
    "pick-out-of-hole": 0.15,
    "pick-place": 0.15,
    "pick-place-wall": 0.15,
    "plate-slide": 0.0,
    "plate-slide-back": 0.0,
    "plate-slide-back-side": 0.0,
    "plate-slide-side": 0.0,
    "push": 0.15,
    "push-back": 0.15,
    "push-wall": 0.15,
    "reach": 0.15,
    "reach-wall": 0.15,
    "shelf-place": 0.1,
    "soccer": 0.15,
    "stick-pull": 0.1,
    "stick-push": 0.1,
    "sweep": 0.0,
    "sweep-into": 0.15,
    "window-close": 0.0,
    "window-open": 0.0,
}
"""Minimum distance between object and goal in the plane, meters, by task; goals that are nearer are
sampled again. 0 accepts all."""

TASK_NAMES = tuple(_MIN_DISTANCES)

BENCHMARKS = ("ml10", "ml25", "ml45")
"""Benchmarks with several tasks."""

_ALSO_WITH_V1_REWARDS = ("ml1-reach", "ml1-push", "ml1-pick-place", *BENCHMARKS)
_V1_SUFFIX = "-reward-v1"

VARIANTS = (
    *_ALSO_WITH_V1_REWARDS,
    *(f"{name}{_V1_SUFFIX}" for name in _ALSO_WITH_V1_REWARDS),
    *(f"ml1-{name}" for name in TASK_NAMES if f"ml1-{name}" not in _ALSO_WITH_V1_REWARDS),
)
"""All benchmarks: ML1 for each task, and ML10, ML25, ML45; six of them also with the v1 rewards."""

_FIXED_GOALS = {"sweep-into": np.array([0.0, 0.84])}  # in the plane, meters; otherwise sampled


def parse_variant(variant: str) -> tuple[str, str]:
    """Split a variant into benchmark and version of the rewards.

    >>> parse_variant("ml10"), parse_variant("ml1-push-reward-v1")
    (('ml10', 'v2'), ('ml1-push', 'v1'))
    """
    benchmark = variant.removesuffix(_V1_SUFFIX)
    return benchmark, "v2" if benchmark == variant else "v1"


def sample_goals(
    task_names: Sequence[str], bounds: Mapping[str, tuple[Array, Array]], seed: int
) -> list[Array]:
    """Sample the goals of a Meta-World benchmark, task by task.

    A goal contains all random values of a task: positions of object and goal, in the order of the
    task's class.

    Args:
        task_names: from `TASK_NAMES`, in the benchmark's order: all share one random stream.
        bounds: low and high of each task's random vector, shapes [G].
        seed: seed of the stream.

    Returns:
        The goals of each task, shape [NUM_GOALS, G] with G = 3 or 6.
    """
    rng = np.random.RandomState(seed)
    return [_sample_task_goals(name, *bounds[name], rng) for name in task_names]


def _sample_task_goals(
    name: str,
    low: Array,
    high: Array,
    rng: np.random.RandomState,
) -> Array:
    """Goals [NUM_GOALS, G]; Meta-World resets twice for each goal and keeps the second sample."""
    sampled = [_sample_goal(name, low, high, rng) for _ in range(2 * NUM_GOALS)]
    return np.array(sampled[1::2])


def _sample_goal(
    name: str,
    low: Array,
    high: Array,
    rng: np.random.RandomState,
) -> Array:
    distance = _MIN_DISTANCES[name]
    while True:
        vector: Array = rng.uniform(low, high, low.size)
        if not distance:
            return vector
        goal = _FIXED_GOALS.get(name, vector[-3:-1])
        if np.linalg.norm(vector[:2] - goal) >= distance:
            return vector
