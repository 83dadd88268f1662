"""The agent interface of evaluations, and players for policies, functions and user objects.

A player acts in a set of tasks and adapts to them. Players for Stable-Baselines3 models are in
`metarl.bridges.sb3_agent`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from metarl.finite import require_finite_tasks
from metarl.locations import describe_error
from metarl.parameters import Params
from metarl.rl.policies import Policy
from metarl.rollouts.actors import select_actions
from metarl.rollouts.episodes import Actor, Episodes
from metarl.rollouts.trials import ActorInput, TrialActor

__all__ = [
    "AdaptiveAgent",
    "AdaptStep",
    "Player",
    "PolicyPlayer",
    "StatelessPlayer",
    "as_agent",
    "begin_play",
    "can_adapt",
    "unadapted",
]

_REMEDY = "take fewer or smaller adaptation steps"


class Player(TrialActor, Protocol):
    """Acts for an agent in a batch of tasks, of which it has no data at the start."""

    def adapt(self, episodes: Episodes) -> None:
        """Learn from one batch of episodes of each task, [tasks, envs, ...].

        Does nothing for an agent with a memory, which learns while it acts.
        """


class AdaptiveAgent(Protocol):
    """An agent that acts and adapts; the interface that an evaluation uses.

    An agent that never adapts may have an attribute `adapts`, which is False: it is measured once
    instead of after each adaptation step. An agent with parameters may have a method
    `require_finite()`, called before it plays, which raises an error unless they are finite.
    """

    @property
    def remembers(self) -> bool:
        """Whether the agent has a memory: it learns while acting, one episode after another.

        An agent without a memory learns only in `Player.adapt`, from episodes that can run in
        parallel.
        """

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> Player:
        """Create a player for new tasks, without any data.

        Args:
            num_tasks: N.
            num_envs: E, environments of each task; each has a separate memory, if any.
            generator: samples the actions. On the agent's device.
        """


def can_adapt(agent: AdaptiveAgent) -> bool:
    """Whether an agent adapts, by memory or by steps."""
    return bool(getattr(agent, "adapts", True))


def begin_play(
    agent: AdaptiveAgent, num_tasks: int, num_envs: int, generator: torch.Generator
) -> Player:
    """The player of an agent, see `AdaptiveAgent.play`.

    Raises:
        TypeError: if `play` returns something that cannot act or, without a memory, adapt.
        NonFiniteError: a ValueError, if a parameter of the agent is not finite.
    """
    require_finite = getattr(agent, "require_finite", None)
    if callable(require_finite):
        require_finite()
    player = agent.play(num_tasks, num_envs, generator)
    for method in ("act",) if agent.remembers else ("act", "adapt"):
        if not callable(getattr(player, method, None)):
            raise TypeError(
                f"play of {type(agent).__name__} must return a player with a method {method}, "
                f"got one of type {type(player).__name__}"
            )
    return player


class AdaptStep(Protocol):
    """One adaptation step of the policies of all tasks."""

    def __call__(self, params: Params, episodes: Episodes, *, step: int) -> Params:
        """The parameters [tasks, ...] after the step.

        Args:
            params: parameters of each task, [tasks, ...].
            episodes: collected with `params`, [tasks, envs, ...].
            step: number of steps before this one.
        """


class PolicyPlayer:
    """Acts with one policy for each task; each batch of episodes adapts its parameters."""

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
            params: initial parameters of all tasks, without a task axis.
            num_tasks: N.
            generator: samples the actions. On the device of the parameters.
            adapt_step: one adaptation step.
        """
        self.params = {name: p.expand(num_tasks, *p.shape) for name, p in params.items()}
        """The adapted parameters of each task, [tasks, ...]."""
        self._policy, self._generator = policy, generator
        self._adapt_step, self._num_steps = adapt_step, 0

    @torch.no_grad()
    def actor(self, observations: Tensor) -> Tensor:
        """Actions sampled from the policies [tasks, envs, ...]; an `Actor` for `collect`."""
        return self._policy.distribution(self.params, observations).sample(self._generator)

    @torch.no_grad()
    def mode(self, observations: Tensor) -> Tensor:
        """The modes of the policies."""
        return self._policy.distribution(self.params, observations).mode()

    def act(self, actor_input: ActorInput) -> Tensor:
        """Sampled actions, or modes in environments that act deterministically."""
        return select_actions(actor_input, self.actor, self.mode)

    def adapt(self, episodes: Episodes) -> None:
        """Take one adaptation step.

        Raises:
            NonFiniteError: a ValueError, if it leaves a parameter that is not finite; naming the
                task.
        """
        adapted = self._adapt_step(self.params, episodes, step=self._num_steps)
        require_finite_tasks("adapted parameters", *adapted.values(), remedy=_REMEDY)
        self.params = adapted
        self._num_steps += 1


class StatelessPlayer:
    """Acts with a fixed function of the observations; never learns."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def act(self, actor_input: ActorInput) -> Tensor:
        """Actions of the function."""
        return self._actor(actor_input.observations)

    def adapt(self, episodes: Episodes) -> None:
        """Do nothing."""


class _UserPlayer:
    """Acts with an object that has `act(observations)` and may have `adapt(episodes)`."""

    def __init__(self, player: Any) -> None:
        self._player = player

    def act(self, actor_input: ActorInput) -> Tensor:
        with _named_failures("act"):
            found = self._player.act(actor_input.observations)
        try:
            return torch.as_tensor(found, device=actor_input.observations.device)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(
                "act of the agent must return an array or tensor of actions [tasks, envs, ...], "
                f"got one of type {type(found).__name__}"
            ) from None

    def adapt(self, episodes: Episodes) -> None:
        if hasattr(self._player, "adapt"):
            with _named_failures("adapt"):
                self._player.adapt(episodes)


@contextmanager
def _named_failures(method: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a user's own code may fail in any way
        raise ValueError(f"{method} of the agent failed: {describe_error(error)}") from error


class _UserAgent:
    def __init__(self, make_player: Callable[[int, int], Any]) -> None:
        self._make_player = make_player

    remembers = False

    @property
    def adapts(self) -> bool:
        """Whether the objects have a method adapt."""
        return hasattr(self._make_player(1, 1), "adapt")

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

    def act(self, actor_input: ActorInput) -> Tensor:
        return self._player.act(actor_input)

    def adapt(self, episodes: Episodes) -> None:
        """Do nothing."""


class _UnadaptedAgent:
    remembers = adapts = False

    def __init__(self, agent: AdaptiveAgent) -> None:
        self._agent = agent

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> Player:
        return _Unadapted(begin_play(self._agent, num_tasks, num_envs, generator))


def unadapted(agent: AdaptiveAgent) -> AdaptiveAgent:
    """The agent without adaptation: its players never learn.

    Raises:
        ValueError: if the agent has a memory, since it learns whenever it acts.
    """
    if agent.remembers:
        raise ValueError(
            "agent must not have a memory: an agent with a memory adapts whenever it acts"
        )
    return _UnadaptedAgent(agent)
