"""Points in the plane that look for a hidden goal where most places pay nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from metarl.tasks.family import listed_tasks, uniform_tasks
from metarl.tasks.spaces import Tasks
from metarl.validation import lookup

from ..simulators.tensor import TensorFamily, Transition
from .plane import both, distance, draw_point, moved, shortest_way, uniform_points, use_plane

__all__ = ["CornerPoint", "SparsePointRobot"]

Rectangle = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class _Sparse:
    source: str
    horizon: int
    radius: float = 0.2  # around the goal; outside nothing is paid
    distance_shaped: bool = True  # 1 − d inside the radius; otherwise 1
    start: Rectangle | None = None  # lowest and highest corner; None: the origin
    num_fixed: tuple[int, int] | None = None  # of fixed angles, to train on and to test
    warning: str = ""


_SPARSE = {
    "pearl": _Sparse(
        "Rakelly et al. 2019 (arXiv:1903.08254)",
        horizon=20,
        num_fixed=(80, 20),
        warning="PEARL trains its policy on the dense reward −d and takes the sparse one, which is "
        "the reward here, as context and in evaluation",
    ),
    "varibad": _Sparse("Zintgraf et al. 2020 (arXiv:1910.08348), their code", horizon=100),
    "borel": _Sparse(
        "Dorfman et al. 2021 (arXiv:2008.02598)",
        horizon=60,
        distance_shaped=False,
        start=((-1.5, -0.5), (1.5, 1.5)),
        warning="pays 1 anywhere within the radius and starts anywhere around the half circle, "
        "unlike the other variants",
    ),
    "metacure": _Sparse(
        "Zhang et al. 2021 (arXiv:2006.08170)", horizon=32, radius=0.3, num_fixed=(40, 20)
    ),
}


class SparsePointRobot(TensorFamily):
    """A point looks for a hidden goal on the unit half circle; it is paid near the goal only.

        r = 1 − d if d ≤ radius, else 0,   d = distance to the goal where the step leads

    Task: the goal's angle in radians, shape [1]. Observation: the position, [2]. Action: the
    displacement, [2], clipped. The start is the origin. "borel" pays 1 for 1 − d and starts
    uniformly in [−1.5, 1.5] × [−.5, 1.5]. "pearl" and "metacure" know a fixed list of equidistant
    angles, the first of which are their split "train" and the last "test".

    Source: the variants' code bases: oyster, varibad, BOReL, MetaCURE-Public.
    """

    name: ClassVar[str] = "SparsePointRobot"
    variants: ClassVar[tuple[str, ...]] = tuple(_SPARSE)
    action_scale = 10.0  # the sources' policies act in ±1, which is mapped to ±.1

    _STEP: ClassVar = 0.1

    def __init__(self, variant: str) -> None:
        self._numbers = numbers = lookup("variant of SparsePointRobot", variant, _SPARSE)
        self.variant, self.source, self.warning = variant, numbers.source, numbers.warning
        self.horizon = numbers.horizon
        self.task_space = spaces.Box(0.0, np.pi, (1,), np.float64)
        drawn = "U(0, π)"
        if numbers.num_fixed:
            train, test = numbers.num_fixed
            drawn = f"one of {train + test} in [0, π] ({test} kept for the test)"
        paid = f"paid within {numbers.radius:g}"
        self.task_description = f"goal on the unit half circle, angle {drawn}, {paid}"
        use_plane(self, self._STEP)

    def prepare(self, tasks: Tensor) -> Tensor:
        """The goals, shape [N, 1, 2]."""
        return torch.stack([tasks.cos(), tasks.sin()], dim=-1)

    def initial_states(
        self, parameters: Tensor, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        if self._numbers.start is None:
            return parameters.new_zeros(*shape, 2)
        return uniform_points(*self._numbers.start, shape, generator)

    def transition(
        self, states: Tensor, actions: Tensor, parameters: Tensor, generator: torch.Generator
    ) -> Transition:
        del generator
        positions = moved(states, actions, self._STEP)
        away = distance(positions, parameters)
        paid = 1 - away if self._numbers.distance_shaped else torch.ones_like(away)
        return Transition(positions, paid.masked_fill(away > self._numbers.radius, 0))

    def best_actions(self, states: Tensor, parameters: Tensor, time: Tensor) -> Tensor:
        del time
        return shortest_way(states, parameters, self._STEP)

    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        goal = [np.cos(task[0]), np.sin(task[0])]
        half_circle = [(np.cos(angle), np.sin(angle)) for angle in np.linspace(0, np.pi, 31)]
        radius = self._numbers.radius
        return draw_point(state, goal, half_width=2.0, paid_radius=radius, others=half_circle)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        if self._numbers.num_fixed is None:  # train and test goals come from one distribution
            return uniform_tasks(self.task_space, num_tasks, rng)
        train, test = self._numbers.num_fixed
        angles = _shuffled_angles(train + test)
        return listed_tasks(angles[:train] if split == "train" else angles[train:], num_tasks, rng)


def _shuffled_angles(num_angles: int) -> Tasks:
    """Equidistant angles from 0 to π in the order of oyster and MetaCURE, shape [num_angles, 1]."""
    angles = np.linspace(0, np.pi, num_angles)
    np.random.RandomState(1337).shuffle(angles)
    return angles[:, None]


def _taxicab(positions: Tensor) -> Tensor:
    """‖s‖₁, [N, E] of [N, E, 2]."""
    x, y = positions.abs().unbind(-1)
    return x + y


class CornerPoint(TensorFamily):
    """A point looks for the one paid corner of four: nearing it pays, in its quadrant only.

        r = d(s) − d(s')  if ‖s'‖₁ ≥ .5 and no corner is nearer to s' than the goal, else 0

    d is the distance to the goal, s → s' the step. Task: 0 to 3 for (−2, −2), (2, −2), (−2, 2),
    (2, 2), shape [1]. Observation: the position, [2]. Action: the displacement, [2], clipped. The
    start is uniform in [−.2, .2]².

    Source: Rothfuss et al. 2019 (arXiv:1810.06784), `MetaPointEnvCorner` of their code.
    """

    name: ClassVar[str] = "CornerPoint"
    _sources: ClassVar[dict[str, str]] = {"promp": "Rothfuss et al. 2019 (arXiv:1810.06784)"}
    variants: ClassVar[tuple[str, ...]] = tuple(_sources)
    same_tasks_in_splits = True
    task_description = "one of four corners (±2, ±2)"
    warning = (
        "steps back into the unpaid zone cost nothing: the oracle goes to and fro at its edge and "
        "earns 15, while walking to the corner, as is meant, earns 2.6"
    )
    horizon = 100
    action_scale = 50.0  # their policies act in ±10, which is mapped to ±.2

    _CORNERS: ClassVar = ((-2.0, -2.0), (2.0, -2.0), (-2.0, 2.0), (2.0, 2.0))
    _STEP: ClassVar = 0.2
    _UNPAID: ClassVar = 0.5

    def __init__(self, variant: str) -> None:
        self.source = lookup("variant of CornerPoint", variant, self._sources)
        self.variant = variant
        self.task_space = spaces.Discrete(4)
        use_plane(self, self._STEP)

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
        positions = moved(states, actions, self._STEP)
        nearing = distance(states, parameters) - distance(positions, parameters)
        in_quadrant = both(positions * parameters >= 0)
        far_out = _taxicab(positions) >= self._UNPAID
        return Transition(positions, nearing * (in_quadrant & far_out))

    def best_actions(self, states: Tensor, parameters: Tensor, time: Tensor) -> Tensor:
        """To and fro between (.2, .2), where nothing is paid, and (.4, .4); then to the corner.

        The points are those of the goal (2, 2), the others' are mirrored. A step pays .2 √2 at
        most and takes back no more where it is not paid, so that T steps from the origin earn at
        most .1 √2 T + √2 = 15.6; this way earns 53 or 54 times .2 √2, which is 15.0 or 15.3.
        """
        signs = parameters.sign()
        ahead = states * signs  # where the point is if the goal is (2, 2)
        unpaid = _taxicab(ahead) < self._UNPAID
        at_edge = unpaid & (ahead.amin(-1) > 0.2 - 1e-4)
        steps_to_corner = torch.ceil((2 - ahead.amin(-1)) / self._STEP - 1e-3)
        last = self.horizon - time <= steps_to_corner
        target = 0.2 + 0.2 * at_edge.to(states.dtype) + 2 * last.to(states.dtype)
        way = shortest_way(ahead, target.clamp(max=2).unsqueeze(-1), self._STEP)
        return way * signs

    def render_state(
        self, state: NDArray[np.float64], task: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        goal = self._CORNERS[int(task[0])]
        return draw_point(state, goal, half_width=2.5, others=self._CORNERS)

    def _sample_tasks(self, num_tasks: int, split: str, rng: np.random.Generator) -> Tasks:
        del split  # there are four tasks
        return uniform_tasks(self.task_space, num_tasks, rng)
