"""Players: agents that act in a set of tasks, and everything that an evaluation knows of them.

Here are the protocols, and players for policies with adapted parameters, for fixed policies and
for a user's object. Players of Stable-Baselines3 models are in `metarl.bridges.sb3_agent`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from metarl.parameters import Params
from metarl.rl.policies import Policy
from metarl.rollouts.actors import chosen
from metarl.rollouts.episodes import Actor, Episodes
from metarl.rollouts.trials import ActorInput, TrialActor

__all__ = [
    "AdaptiveAgent",
    "AdaptStep",
    "Player",
    "PolicyPlayer",
    "StatelessPlayer",
    "as_agent",
    "unadapted",
]


class Player(TrialActor, Protocol):
    """An agent that acts in tasks, all at once, of which it knows nothing at first."""

    def adapt(self, episodes: Episodes) -> None:
        """Learn from one batch of episodes of each task, [tasks, envs, ...].

        An agent whose memory learns while it acts does nothing here.
        """


class AdaptiveAgent(Protocol):
    """Something that acts and adapts: everything that an evaluation knows of an agent."""

    @property
    def remembers(self) -> bool:
        """Whether it learns while it acts, so that a task's episodes must follow one another.

        An agent without a memory learns in `Player.adapt` only, from episodes that may be played
        side by side.
        """

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> Player:
        """Start on tasks of which the agent knows nothing.

        Args:
            num_tasks: N.
            num_envs: E, environments of each task; each has a separate memory, if any.
            generator: draws the actions. On the agent's device.
        """


class AdaptStep(Protocol):
    """One adaptation step of the policies of all tasks."""

    def __call__(self, params: Params, episodes: Episodes, *, step: int) -> Params:
        """The parameters [tasks, ...] after the step.

        Args:
            params: of each task [tasks, ...].
            episodes: collected with them, [tasks, envs, ...].
            step: number of steps before this one.
        """


class PolicyPlayer:
    """Acts with one policy for each task, whose parameters each batch of episodes adapts."""

    def __init__(
        self,
        policy: Policy,
        params: Params,
        num_tasks: int,
        generator: torch.Generator,
        adapt_step: AdaptStep,
    ) -> None:
        """
        Args:
            policy: the policy as a function of its parameters.
            params: shared by all tasks before any data, no task axis.
            num_tasks: N.
            generator: draws the actions. On the device of the parameters.
            adapt_step: one adaptation step.
        """
        self.params = {name: p.expand(num_tasks, *p.shape) for name, p in params.items()}
        """The adapted parameters of each task, [tasks, ...]."""
        self._policy, self._generator = policy, generator
        self._adapt_step, self._num_steps = adapt_step, 0

    @torch.no_grad()
    def actor(self, observations: Tensor) -> Tensor:
        """Actions drawn from the policies [tasks, envs, ...]; what `collect` needs."""
        return self._policy.distribution(self.params, observations).sample(self._generator)

    @torch.no_grad()
    def mode(self, observations: Tensor) -> Tensor:
        """The modes of the policies."""
        return self._policy.distribution(self.params, observations).mode()

    def act(self, moment: ActorInput) -> Tensor:
        """Drawn actions, or modes in the environments that ask for them."""
        return chosen(moment, self.actor, self.mode)

    def adapt(self, episodes: Episodes) -> None:
        """One adaptation step."""
        self.params = self._adapt_step(self.params, episodes, step=self._num_steps)
        self._num_steps += 1


class StatelessPlayer:
    """The player of a fixed function of the observations; it never learns."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def act(self, moment: ActorInput) -> Tensor:
        """The function's actions."""
        return self._actor(moment.observations)

    def adapt(self, episodes: Episodes) -> None:
        """Does nothing."""


class _UserPlayer:
    """The player of an object that has `act(observations)` and may have `adapt(episodes)`."""

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
        del generator  # the object has its own randomness
        player = self._make_player(num_tasks, num_envs)
        if not callable(getattr(player, "act", None)):
            raise TypeError(
                "agent must make a player with a method act(observations), "
                f"got one of type {type(player).__name__}"
            )
        return _UserPlayer(player)


def as_agent(make_player: Callable[[int, int], Any]) -> AdaptiveAgent:
    """Make an agent for an evaluation from objects that act.

    Args:
        make_player: (num_tasks, num_envs) ↦ a new object with `act(observations)`, from
            observations [N, E, O] to actions [N, E, A] (int64 [N, E] for discrete ones), and, if
            it learns, `adapt(episodes)`, which is called with each batch of `Episodes`.

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
    """Acts like another player and never learns."""

    def __init__(self, player: Player) -> None:
        self._player = player

    def act(self, moment: ActorInput) -> Tensor:
        return self._player.act(moment)

    def adapt(self, episodes: Episodes) -> None:
        """Does nothing."""


class _UnadaptedAgent:
    remembers = False

    def __init__(self, agent: AdaptiveAgent) -> None:
        self._agent = agent

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> Player:
        return _Unadapted(self._agent.play(num_tasks, num_envs, generator))


def unadapted(agent: AdaptiveAgent) -> AdaptiveAgent:
    """The agent as it is before any data of a task; its players never learn.

    Raises:
        ValueError: if it has a memory, because it then learns whenever it acts.
    """
    if agent.remembers:
        raise ValueError("agent must be without memory, one with memory adapts whenever it acts")
    return _UnadaptedAgent(agent)
