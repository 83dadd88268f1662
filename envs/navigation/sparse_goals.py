"""Navigation with a sparse reward: a point in the plane searches for a hidden goal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from metarl.tasks.family import fixed_tasks, uniform_tasks
from metarl.tasks.spaces import Tasks
from metarl.validation import lookup

from ..simulators.tensor import TensorFamily, Transition
from .plane import (
    both_coordinates,
    distance,
    move,
    render_point,
    set_plane_spaces,
    shortest_step,
    uniform_points,
)

__all__ = ["CornerPoint", "SparsePointRobot"]

Rectangle = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class _Variant:
    source: str
    horizon: int
    radius: float = 0.2  # radius of the rewarded zone around the goal
    distance_shaped: bool = True  # whether the reward in the zone is 1 − d, not 1
    start: Rectangle | None = None  # lower and upper corner; None: the origin
    # Sizes of the fixed lists of goals for training and testing; None: goals are sampled.
    split_sizes: tuple[int, int] | None = None
    warning: str = ""


_SPARSE = {
    "pearl": _Variant(
        "Rakelly et al. 2019 (arXiv:1903.08254)",
        horizon=20,
        split_sizes=(80, 20),
        warning="PEARL trains its policy with the dense reward −d. This family has its sparse "
        "reward, which is the context and is used for evaluation",
    ),
    "varibad": _Variant("Zintgraf et al. 2020 (arXiv:1910.08348), their code", horizon=100),
    "borel": _Variant(
        "Dorfman et al. 2021 (arXiv:2008.02598)",
        horizon=60,
        distance_shaped=False,
        start=((-1.5, -0.5), (1.5, 1.5)),
        split_sizes=(80, 20),
        warning="unlike in the other variants, the reward is 1 everywhere within the radius, and "
        "starts are spread around the half circle",
    ),
    "metacure": _Variant(
        "Zhang et al. 2021 (arXiv:2006.08170)", horizon=32, radius=0.3, split_sizes=(40, 20)
    ),
}


class SparsePointRobot(TensorFamily):
    """A point searches for a hidden goal on the unit half circle, rewarded only near the goal.

        r = 1 − d if d ≤ radius, else 0,   d = distance to the goal after the step

    Task: the goal's angle in radians, shape [1]. Observation: the position, [2]. Action: the
    displacement, [2], clipped. The start is the origin. "borel" gives reward 1 instead of 1 − d
    and starts uniformly in [−1.5, 1.5] × [−0.5, 1.5]. "pearl" and "metacure" use a fixed list of
    equidistant angles in random order, "borel" of random angles (point_robot.py, line 109, and
    args_point_robot_sparse.py, lines 13 and 14); the first are the split "train", the last "test".

    Source: code of the variants' papers: oyster, varibad, BOReL, MetaCURE-Public.
    """

    name: ClassVar[str] = "SparsePointRobot"
    variants: ClassVar[tuple[str, ...]] = tuple(_SPARSE)
    action_divisor = 10.0  # policies in the sources act in ±1, which is mapped to ±0.1

    _MAX_DISPLACEMENT: ClassVar = 0.1

    def __init__(self, variant: str) -> None:
        self._params = params = lookup("variant of SparsePointRobot", variant, _SPARSE)
        self.variant, self.source, self.warning = variant, params.source, params.warning
        self.horizon = params.horizon
        self.task_space = spaces.Box(0.0, np.pi, (1,), np.float64)
        angles = "U(0, π)"
        if params.split_sizes:
            train, test = params.split_sizes
            angles = f"one of {train + test} in [0, π] ({test} held out for testing)"
        zone = f"rewarded within {params.radius:g}"
        self.task_description = f"goal on the unit half circle, angle {angles}, {zone}"
        set_plane_spaces(self, self._MAX_DISPLACEMENT)

    def prepare(self, tasks: Tensor) -> Tensor:
        """The goals, shape [N, 1, 2]."""
        return torch.stack([tasks.cos(), tasks.sin()], dim=-1)

    def initial_states(
        self, parameters: Tensor, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        if self._params.start is None:
            return parameters.new_zeros(*shape, 2)
        return uniform_points(*self._params.start, shape, generator)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Tensor, generator: torch.Generator
    ) -> Transition:
        del generator
        positions = move(states, actions, self._MAX_DISPLACEMENT)
        away = distance(positions, parameters)
        rewards = 1 - away if self._params.distance_shaped else torch.ones_like(away)
        return Transition(positions, rewards.masked_fill(away > self._params.radius, 0))

    def best_actions(self, states: Tensor, parameters: Tensor, time: Tensor) -> Tensor:
        del time
        return shortest_step(states, parameters, self._MAX_DISPLACEMENT)

    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        goal = [np.cos(task[0]), np.sin(task[0])]
        half_circle = [(np.cos(angle), np.sin(angle)) for angle in np.linspace(0, np.pi, 31)]
        radius = self._params.radius
        return render_point(state, goal, half_width=2.0, reward_radius=radius, others=half_circle)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        if self._params.split_sizes is None:  # train and test goals come from one distribution
            return uniform_tasks(self.task_space, num_tasks, rng)
        num_angles = sum(self._params.split_sizes)
        angles = _angles(num_angles) if self.variant == "borel" else _shuffled_angles(num_angles)
        return fixed_tasks(angles, self._params.split_sizes, split, num_tasks, rng)


def _angles(num_angles: int) -> Tasks:
    """Angles U(0, π) of a fixed seed, which BOReL leaves open. Shape [num_angles, 1]."""
    return np.random.RandomState(1337).uniform(0, np.pi, (num_angles, 1))


def _shuffled_angles(num_angles: int) -> Tasks:
    """Equidistant angles in [0, π], shuffled as in oyster and MetaCURE. Shape [num_angles, 1]."""
    angles = np.linspace(0, np.pi, num_angles)
    np.random.RandomState(1337).shuffle(angles)
    return angles[:, None]


def _taxicab(positions: Tensor) -> Tensor:
    """‖s‖₁, [N, E, 2] ↦ [N, E]."""
    x, y = positions.abs().unbind(-1)
    return x + y


class CornerPoint(TensorFamily):
    """A point searches for the one corner of four that rewards progress inside its quadrant.

        r = d(s) − d(s')  if ‖s'‖₁ ≥ 0.5 and no corner is nearer to s' than the goal, else 0

    d is the distance to the goal, and s' follows s. Task: 0 to 3 for (−2, −2), (2, −2), (−2, 2),
    (2, 2), shape [1]. Observation: the position, [2]. Action: the displacement, [2], clipped. The
    start is uniform in [−0.2, 0.2]².

    Source: Rothfuss et al. 2019 (arXiv:1810.06784), `MetaPointEnvCorner` of their code.
    """

    name: ClassVar[str] = "CornerPoint"
    _sources: ClassVar[dict[str, str]] = {"promp": "Rothfuss et al. 2019 (arXiv:1810.06784)"}
    variants: ClassVar[tuple[str, ...]] = tuple(_sources)
    shared_tasks = "all"
    task_description = "one of four corners (±2, ±2)"
    warning = (
        "steps back into the unrewarded zone cost nothing: the oracle alternates at its edge for a "
        "return of 15, while moving to the corner, as intended, has a return of 2.6"
    )
    horizon = 100
    action_divisor = 50.0  # policies in the source act in ±10, which is mapped to ±0.2

    _CORNERS: ClassVar = ((-2.0, -2.0), (2.0, -2.0), (-2.0, 2.0), (2.0, 2.0))
    _MAX_DISPLACEMENT: ClassVar = 0.2
    _UNREWARDED_RADIUS: ClassVar = 0.5

    def __init__(self, variant: str) -> None:
        self.source = lookup("variant of CornerPoint", variant, self._sources)
        self.variant = variant
        self.task_space = spaces.Discrete(4)
        set_plane_spaces(self, self._MAX_DISPLACEMENT)

    def prepare(self, tasks: Tensor) -> Tensor:
        """The goals, shape [N, 1, 2]."""
        return tasks.new_tensor(self._CORNERS)[tasks.long()]

    def initial_states(
        self, parameters: Tensor, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        del parameters
        return uniform_points((-0.2, -0.2), (0.2, 0.2), shape, generator)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Tensor, generator: torch.Generator
    ) -> Transition:
        del generator
        positions = move(states, actions, self._MAX_DISPLACEMENT)
        progress = distance(states, parameters) - distance(positions, parameters)
        in_quadrant = both_coordinates(positions * parameters >= 0)
        far_out = _taxicab(positions) >= self._UNREWARDED_RADIUS
        return Transition(positions, progress * (in_quadrant & far_out))

    def best_actions(self, states: Tensor, parameters: Tensor, time: Tensor) -> Tensor:
        """Alternate between (0.2, 0.2), which is unrewarded, and (0.4, 0.4); then go to the corner.

        The points are for the goal (2, 2); other goals are mirrored. A step has reward at most
        0.2 √2, and each must be followed by an unrewarded step back, so T steps from the origin
        have a return of at most 0.1 √2 T + √2 = 15.6. This policy collects a reward of 0.2 √2, 53
        or 54 times, for a return of 15.0 or 15.3.
        """
        signs = parameters.sign()
        mirrored = states * signs  # positions as if the goal were (2, 2)
        is_unrewarded = _taxicab(mirrored) < self._UNREWARDED_RADIUS
        at_edge = is_unrewarded & (mirrored.amin(-1) > 0.2 - 1e-4)
        steps_to_corner = torch.ceil((2 - mirrored.amin(-1)) / self._MAX_DISPLACEMENT - 1e-3)
        last = self.horizon - time <= steps_to_corner
        target = 0.2 + 0.2 * at_edge.to(states.dtype) + 2 * last.to(states.dtype)
        steps = shortest_step(mirrored, target.clamp(max=2).unsqueeze(-1), self._MAX_DISPLACEMENT)
        return steps * signs

    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        goal = self._CORNERS[int(task[0])]
        return render_point(state, goal, half_width=2.5, others=self._CORNERS)
