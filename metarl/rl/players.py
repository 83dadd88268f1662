"""Players of all kinds: agents that adapt by gradient steps, references, and objects of a user.

Each is what an evaluation plays with; see `metarl.agent`. Those of Stable-Baselines3 are in
`metarl.sb3_player`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from metarl.rl.agent import AdaptiveAgent, Player
from metarl.rollouts.actors import chosen
from metarl.rollouts.episodes import Actor, Episodes
from metarl.rollouts.trials import ActorInput

__all__ = ["GradientAgent", "GradientPlayer", "StatelessPlayer", "as_agent", "unadapted"]


class GradientAgent(Protocol):
    """An agent whose knowledge of the tasks is a value, replaced by each adaptation step."""

    def initial_state(self, num_tasks: int) -> Any:
        """The state before any data of the tasks."""

    def actor(
        self, state: Any, generator: torch.Generator, *, deterministic: bool = False
    ) -> Actor:
        """The policies of all tasks as one function of observations, in environment units."""

    def adapt_step(self, state: Any, episodes: Episodes, *, step: int = 0) -> Any:
        """The state after one more adaptation step on episodes of each task; `step` came before."""


class GradientPlayer:
    """Plays for an agent that adapts between batches of episodes."""

    def __init__(self, agent: GradientAgent, num_tasks: int, generator: torch.Generator) -> None:
        self._agent, self._generator = agent, generator
        self._state, self._steps = agent.initial_state(num_tasks), 0
        self._make_actors()

    def act(self, moment: ActorInput) -> Tensor:
        """Actions of the policies adapted so far."""
        return chosen(moment, self._stochastic, self._deterministic)

    def adapt(self, episodes: Episodes) -> None:
        """One adaptation step."""
        self._state = self._agent.adapt_step(self._state, episodes, step=self._steps)
        self._steps += 1
        self._make_actors()

    def _make_actors(self) -> None:
        self._stochastic = self._agent.actor(self._state, self._generator)
        self._deterministic = self._agent.actor(self._state, self._generator, deterministic=True)


class StatelessPlayer:
    """Plays a fixed function of the observations; it never learns."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def act(self, moment: ActorInput) -> Tensor:
        """The function's actions."""
        return self._actor(moment.observations)

    def adapt(self, episodes: Episodes) -> None:
        """Nothing is learnt."""


class _UserPlayer:
    """Plays for an object that has `act(observations)` and may have `adapt(episodes)`."""

    def __init__(self, player: Any) -> None:
        self._player = player

    def act(self, moment: ActorInput) -> Tensor:
        with _named_failures("act"):
            actions = torch.as_tensor(self._player.act(moment.observations))
        return actions.to(moment.observations.device)

    def adapt(self, episodes: Episodes) -> None:
        if hasattr(self._player, "adapt"):
            with _named_failures("adapt"):
                self._player.adapt(episodes)


@contextmanager
def _named_failures(method: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a user's own code may fail in any way
        raise ValueError(
            f"{method} of the agent failed: {type(error).__name__}: {error}"
        ) from error


class _UserAgent:
    def __init__(self, make_player: Callable[[int, int], Any]) -> None:
        self._make_player = make_player

    remembers = False

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> Player:
        del generator  # the object draws as it likes
        player = self._make_player(num_tasks, num_envs)
        if not callable(getattr(player, "act", None)):
            raise TypeError(
                "agent must make a player with a method act(observations), "
                f"got one of type {type(player).__name__}"
            )
        return _UserPlayer(player)


def as_agent(make_player: Callable[[int, int], Any]) -> AdaptiveAgent:
    """An agent of your own for an evaluation.

    Args:
        make_player: (num_tasks, num_envs) ↦ a new object with `act(observations)`, from
            observations [N, E, O] to actions [N, E, A] (int64 [N, E] for discrete ones), and, if
            it learns, `adapt(episodes)`, called with each batch of `Episodes` before the next.

    Example:
        >>> class Still:
        ...     def act(self, observations):
        ...         return torch.zeros(*observations.shape[:2], 2)
        >>> agent = as_agent(lambda num_tasks, num_envs: Still())
        >>> agent.remembers
        False
    """
    return _UserAgent(make_player)


class _Unadapted:
    """Plays as another does, and learns nothing."""

    def __init__(self, player: Player) -> None:
        self._player = player

    def act(self, moment: ActorInput) -> Tensor:
        return self._player.act(moment)

    def adapt(self, episodes: Episodes) -> None:
        """Nothing is learnt."""


class _UnadaptedAgent:
    remembers = False

    def __init__(self, agent: AdaptiveAgent) -> None:
        self._agent = agent

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> Player:
        return _Unadapted(self._agent.play(num_tasks, num_envs, generator))


def unadapted(agent: AdaptiveAgent) -> AdaptiveAgent:
    """The agent as it is before any data of a task, whatever it is shown.

    Raises:
        ValueError: if it remembers, so that it learns whenever it acts.
    """
    if agent.remembers:
        raise ValueError("agent must be without memory, one with memory adapts whenever it acts")
    return _UnadaptedAgent(agent)
