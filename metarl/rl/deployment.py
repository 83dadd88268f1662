"""A trained agent in one real environment, one step at a time.

Evaluations act in batches of environments. Here the caller owns the environment, for example a
robot, and passes single observations and rewards.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike
from torch import Tensor

from metarl.rl.players import AdaptiveAgent, begin_play
from metarl.rollouts.episodes import Episodes
from metarl.rollouts.trials import ActorInput
from metarl.tasks.actions import ActionLayout
from metarl.tasks.family import TaskFamily

__all__ = ["DeployedAgent"]


class _Deployable(AdaptiveAgent, Protocol):
    """The part of an agent that this module uses."""

    family: TaskFamily
    device: torch.device


class _Step(NamedTuple):
    """One recorded step."""

    observation: Tensor  # [O], before the action
    action: Tensor  # [A], or [] int64
    reward: float
    next_observation: Tensor  # [O]
    terminated: bool
    truncated: bool


class DeployedAgent:
    """An agent that acts in one environment with one unknown task, and adapts to it.

    The caller alternates `act` and `record`. An agent with a memory learns while it acts. Other
    agents learn in `adapt`, from all complete episodes since the last adaptation.

    Example:
        >>> from metarl.agents import MAMLTRPO
        >>> from metarl.envs import make_env, make_family
        >>> env = make_env("PointRobot", variant="pearl", task=[0.5, 0.5])
        >>> deployed = DeployedAgent(MAMLTRPO(make_family("PointRobot:pearl")))
        >>> observation, _ = env.reset(seed=0)
        >>> for _ in range(20):
        ...     action = deployed.act(observation)
        ...     observation, reward, terminated, truncated, _ = env.step(action)
        ...     deployed.record(observation, reward, terminated, truncated)
        >>> deployed.num_episodes
        1
        >>> deployed.adapt()
    """

    def __init__(self, agent: _Deployable, *, seed: int = 0) -> None:
        """Start the agent without any data of the task.

        Args:
            agent: a trained agent; it is not changed.
            seed: seed of the sampled actions.
        """
        self._family, self._device = agent.family, agent.device
        self._remembers = agent.remembers
        self._layout = ActionLayout(agent.family.action_space)
        self._generator = torch.Generator(agent.device).manual_seed(seed)
        self._player = begin_play(agent, 1, 1, self._generator)
        self._steps: list[_Step] = []
        self._episodes: list[list[_Step]] = []
        self._last: _Step | None = None
        self._pending: tuple[Tensor, Tensor] | None = None
        self.num_episodes = 0
        """Complete episodes that were recorded."""

    def act(self, observation: ArrayLike, *, deterministic: bool = False) -> Any:
        """The action in a state, a point of the action space, clipped to its bounds.

        Args:
            observation: shape [O], as in the family's `observation_space`; flatten the
                observation of a Dict or Tuple space with `gymnasium.spaces.flatten`.
            deterministic: take the most likely action. For exploration, use sampled actions.

        Raises:
            ValueError: if the shape differs, a number is not finite, or the result of the last
                action was not recorded.
        """
        if self._pending is not None:
            raise ValueError("record must be called with the result of an action before act")
        seen = self._observation(observation)
        action = self._player.act(self._input(seen, deterministic))[0, 0]
        row = self._layout.clip(action.numpy(force=True))
        self._pending = (seen, action)
        return self._layout.from_row(np.asarray(row))

    def record(
        self, observation: ArrayLike, reward: float, terminated: bool, truncated: bool = False
    ) -> None:
        """Record the result of the last action, as `env.step` returns it.

        Args:
            observation: the next observation, shape [O].
            reward: reward of the step.
            terminated: whether the episode ended in a terminal state.
            truncated: whether the episode was stopped, for example by a time limit.

        Raises:
            ValueError: if there was no action, or a number is not finite or has another shape.
        """
        if self._pending is None:
            raise ValueError("act must be called before record")
        if not np.isfinite(reward):
            raise ValueError(f"reward must be finite, got {reward}")
        following = self._observation(observation)
        before, action = self._pending
        step = _Step(before, action, float(reward), following, bool(terminated), bool(truncated))
        self._last, self._pending = step, None
        if self._remembers:
            self.num_episodes += step.terminated or step.truncated
            return
        self._steps.append(step)
        if step.terminated or step.truncated:
            self._episodes.append(self._steps)
            self._steps, self.num_episodes = [], self.num_episodes + 1

    def adapt(self) -> None:
        """Take one adaptation step on the complete episodes since the last adaptation.

        Does nothing for an agent with a memory, which learns while it acts.

        Raises:
            ValueError: if no episode has ended since the last adaptation.
        """
        if self._remembers:
            return
        if not self._episodes:
            raise ValueError("adapt needs at least one complete episode since the last adaptation")
        self._player.adapt(_episodes(self._episodes))
        self._episodes = []

    def _input(self, observation: Tensor, deterministic: bool) -> ActorInput:
        last = self._last
        flag = torch.zeros(1, 1, dtype=torch.bool, device=self._device)
        return ActorInput(
            observation[None, None],
            None if last is None else last.action[None, None],
            torch.full(
                (1, 1),
                0.0 if last is None else last.reward,
                device=self._device,
                dtype=torch.float32,
            ),
            flag if last is None else flag | last.terminated | last.truncated,
            flag | deterministic,
        )

    def _observation(self, observation: ArrayLike) -> Tensor:
        space: spaces.Box = self._family.observation_space
        values = np.asarray(observation)
        if values.shape != space.shape or not np.isfinite(values).all():
            raise ValueError(
                f"observation must have shape {list(space.shape)} and finite numbers, got shape "
                f"{list(values.shape)}; flatten observations of other spaces first"
            )
        return torch.as_tensor(values.astype(np.float32), device=self._device)


def _episodes(recorded: list[list[_Step]]) -> Episodes:
    """Recorded episodes of one task as a batch [1, E, T, ...], padded to the longest one."""
    length = max(map(len, recorded))
    # Padding repeats the last step; the mask excludes it.
    padded = [steps + [steps[-1]] * (length - len(steps)) for steps in recorded]
    mask = torch.tensor([[t < len(steps) for t in range(length)] for steps in recorded])
    first = torch.stack([steps[0].observation for steps in recorded]).unsqueeze(1)
    device = first.device
    following = torch.stack(
        [torch.stack([step.next_observation for step in steps]) for steps in padded]
    )
    numbers = torch.tensor(
        [[(step.reward, step.terminated, step.truncated) for step in steps] for steps in padded],
        dtype=torch.float32,
    )
    rewards, terminated, truncated = numbers.unbind(-1)
    return Episodes(
        torch.cat([first, following], 1).unsqueeze(0),
        torch.stack([torch.stack([step.action for step in steps]) for steps in padded])[None],
        (rewards * mask).to(device)[None],
        ((terminated > 0) & mask).to(device)[None],
        ((truncated > 0) & mask).to(device)[None],
        mask.to(device)[None],
    )
