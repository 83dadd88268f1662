"""Base class of agents that train: iterations, checkpoints, copies, and recorded adaptation.

An evaluation needs only `metarl.rl.players.AdaptiveAgent`. The built-in agents are in
`metarl.agents`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, NoReturn, Self, TypeAlias, TypeVar

import torch
from torch import Tensor

from metarl.finite import in_iteration, require_finite_params, require_finite_state
from metarl.parameters import Params, State, copy_state
from metarl.rl.adapted import AdaptedState, Inputs, adapt_agent, predict_actions
from metarl.rl.declaration import (
    Iteration,
    checked_config,
    checked_outcome,
    require_batches,
    require_metrics,
)
from metarl.rl.players import Player
from metarl.rl.state import checked_state, require_same_layout
from metarl.rollouts.episodes import Episodes
from metarl.seeding import derive_seed
from metarl.storage.checkpoints import (
    load_checkpoint,
    read_counter,
    save_checkpoint,
    select_tensors,
)
from metarl.storage.settings import read_settings
from metarl.tasks.family import BatchEnv, TaskFamily
from metarl.tasks.reused_batch import TrainingBatch
from metarl.tasks.spaces import Tasks
from metarl.validation import require_at_least

__all__ = ["Agent", "Iteration"]

Config = TypeVar("Config")
Metrics: TypeAlias = dict[str, float]


class Agent(ABC, Generic[Config]):
    """An agent that trains on a family of tasks.

    A subclass sets `name`, `config_type`, `metrics` and `score`; creates `params` in its
    constructor, which takes the arguments of this one and calls it first; and defines `_iterate`
    and `play`. If the next iteration depends on more tensors than `params`, such as the moments of
    an optimizer, it extends `_state` and `_set_state`. The base class provides the rest: iterations
    that are checked and undone if they fail, counters, timing, checkpoints, copies, and adaptation
    to recorded data.

    Random numbers must come from generators derived from `seed`, their purpose and
    `num_iterations` (see `metarl.seeding`), so that a run that was stopped continues bitwise
    identically.
    """

    name: ClassVar[str]
    """The registered name of the agent, which is stored in checkpoints."""
    config_type: ClassVar[type[Any]]
    """Dataclass of the settings; its `meta_batch_size` is the number of tasks per iteration."""
    can_adapt_untrained: ClassVar[bool] = False
    """Whether an untrained agent can learn a task in `Player.adapt`, such as by gradient steps."""

    params: Params
    """The meta-learned parameters by name; every value must be finite."""

    def __init__(
        self,
        family: TaskFamily,
        config: Config | None = None,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        """An untrained agent.

        Args:
            family: family of the tasks.
            config: settings; None: the defaults. `action_divisor` None becomes the family's value.
            seed: seed of parameters, tasks, initial states and actions.
            device: device of parameters and updates.

        Raises:
            TypeError: if the class does not define all attributes, or `config` has the wrong type.
            ValueError: if the settings do not fit the family.
        """
        self._config: Config = checked_config(type(self), family, config)
        self.family, self.seed, self.device = family, seed, torch.device(device)
        self.num_iterations, self.num_env_steps = 0, 0
        self.params = {}
        self._training = TrainingBatch(family, device=self.device)
        require_metrics(self.name, self.metrics, score=self.score, shown=self.shown_metrics)

    # The declaration.

    @property
    def config(self) -> Config:
        """The resolved settings; they cannot be replaced."""
        return self._config

    @config.setter
    def config(self, _: Config) -> NoReturn:
        raise AttributeError(
            "config of an agent cannot be replaced; create another agent with other settings: "
            f"{type(self).__name__}(family, config)"
        )

    @property
    def metrics(self) -> Mapping[str, str]:
        """Description of each metric that `_iterate` returns, by name "group/name"."""
        return {}

    @property
    def score(self) -> str:
        """The metric that ranks checkpoints, higher is better; by default the first metric."""
        return next(iter(self.metrics), "")

    @property
    def shown_metrics(self) -> tuple[str, ...]:
        """The metrics in the progress line; by default the score."""
        return (self.score,)

    @property
    def remembers(self) -> bool:
        """Whether the agent has a memory; see `metarl.rl.players.AdaptiveAgent`."""
        return False

    @property
    def num_episodes_per_trial(self) -> int | None:
        """Episodes of each trial in training if the agent has a memory, else None."""
        return None

    def progress(self, metrics: Mapping[str, float]) -> str:
        """The progress line of an iteration: the shown metrics and the speed."""
        values = (f"{name.rsplit('/')[-1]} {metrics[name]:.4g}" for name in self.shown_metrics)
        return "  ".join([*values, f"{metrics['time/env_steps_per_second']:,.0f} steps/s"])

    # The algorithm, by the subclass.

    @abstractmethod
    def _iterate(self, tasks: Tasks) -> Iteration:
        """Train on the tasks of one iteration.

        Args:
            tasks: [meta_batch_size, D], sampled for the iteration `num_iterations`.
        """

    @abstractmethod
    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> Player:
        """Create a player for new tasks; see `metarl.rl.players.AdaptiveAgent`."""

    def _state(self) -> State:
        """All tensors that the next iteration depends on, by group and name."""
        return {"parameters": self.params}

    def _set_state(self, state: State) -> None:
        """Continue from a state whose tensors have the shapes, types and devices of `_state()`."""
        with torch.no_grad():  # in place, since optimizers refer to these tensors
            for name, values in state["parameters"].items():
                self.params[name].copy_(values)

    # Training.

    def learn(
        self,
        num_iterations: int,
        *,
        callback: Callable[[Self, Metrics], bool | None] | None = None,
    ) -> Self:
        """Train for more iterations.

        Args:
            num_iterations: number of iterations.
            callback: called after each iteration with the agent and its metrics; training ends if
                it returns False.

        Returns:
            The agent itself.

        Raises:
            FloatingPointError: if an observation, a reward, a loss, a metric or a parameter is not
                finite; the iteration is undone.
            ValueError: if `num_iterations` is negative, or metrics are not as declared.
        """
        require_at_least("num_iterations", num_iterations, 0)
        for _ in range(num_iterations):
            metrics = self.iterate()
            if callback is not None and callback(self, metrics) is False:
                break
        return self

    def iterate(self) -> Metrics:
        """Run one training iteration; if it raises, the agent is not changed.

        Returns:
            The declared metrics, time/env_steps (of all iterations), time/env_steps_per_second,
            time/sampling_seconds and time/update_seconds.

        Raises:
            FloatingPointError: as `learn` does.
            ValueError: if the metrics are not as declared.
        """
        key = self.num_iterations
        tasks = self.family.sample_tasks(
            self._config.meta_batch_size,  # type: ignore[attr-defined] # checked in __init__
            seed=derive_seed(self.seed, "iteration", key),
        )
        before, steps_before = copy_state(self._checked_state()), self.num_env_steps
        params, held = self.params, dict(self.params)
        try:
            with in_iteration(key + 1, tasks):
                require_finite_params("parameter", self.params)
                self._training.seconds, started = 0.0, time.perf_counter()
                metrics, steps = checked_outcome(self.name, self._iterate(tasks), self.metrics)
                seconds = time.perf_counter() - started
                require_same_layout(self.name, before, self._checked_state())
                require_finite_params("parameter", self.params)
            self.num_iterations, self.num_env_steps = key + 1, steps_before + steps
        except BaseException:  # an update can fail half-way, for example for lack of memory
            self.params = params  # the dict and the tensors that an optimizer may hold
            params.clear()
            params.update(held)
            self._set_state(before)
            self.num_iterations, self.num_env_steps = key, steps_before
            self.close()
            raise
        return {
            **metrics,
            "time/env_steps": self.num_env_steps,
            "time/env_steps_per_second": steps / seconds,
            "time/sampling_seconds": self._training.seconds,
            "time/update_seconds": seconds - self._training.seconds,
        }

    def _training_envs(self, tasks: Tasks, *, num_envs: int) -> AbstractContextManager[BatchEnv]:
        """Environments of the tasks; time inside the context counts as sampling time.

        They are kept from one iteration to the next.

        Args:
            tasks: [N, D].
            num_envs: E, environments of each task.
        """
        return self._training.with_tasks(tasks, num_envs=num_envs)

    def close(self) -> None:
        """Close the training environments; the next iteration opens them again."""
        self._training.close()

    def untrained(self, *, family: TaskFamily | None = None, device: Any = None) -> Self:
        """Create an untrained agent with the same settings and seed.

        Args:
            family: family of the tasks; None: this agent's family.
            device: device of the new agent; None: this agent's device.
        """
        family, device = family or self.family, device or self.device
        return type(self)(family, self.config, seed=self.seed, device=device)

    # Acting with recorded data.

    def adapt(self, episodes: Episodes | Sequence[Episodes]) -> AdaptedState:
        """The agent's state after adaptation to recorded episodes of all tasks.

        Args:
            episodes: recorded with this agent or another policy; one batch [N, E, ...] or several
                in order, on the agent's device. An agent without a memory takes one adaptation
                step on each batch. For an agent with a memory, the k-th batch is the k-th episode
                of N · E trials.

        Returns:
            An opaque state for `predict`, for the same number of tasks and, if the agent has a
            memory, of environments.

        Raises:
            TypeError: if `episodes` holds objects of another type.
            ValueError: if there are none, or their numbers of tasks or environments differ.
        """
        batches = [episodes] if isinstance(episodes, Episodes) else list(episodes)
        require_batches(batches, same_envs=self.remembers)
        return adapt_agent(self, batches)

    def predict(
        self,
        inputs: Inputs,
        adapted: AdaptedState | None = None,
        *,
        deterministic: bool = True,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, AdaptedState]:
        """Actions of the agent in all tasks.

        Args:
            inputs: observations [N, E, O], or an `ActorInput` with the previous step. A memory
                needs the latter, except at the start of a trial and right after `adapt`, where
                observations start a new episode. `ActorInput.deterministic` is not used.
            adapted: result of `adapt` or of the previous `predict`; None: before any data.
            deterministic: take the mode of the policy.
            generator: samples the actions if they are not deterministic. On the agent's device.

        Returns:
            Actions [N, E, A], or [N, E] int64, in environment units, and the state to continue
            with: the advanced memory; without a memory, the same state.

        Raises:
            TypeError: if `adapted` has another type.
            ValueError: if shapes do not fit, the generator is missing, or a memory lacks the
                previous step.
        """
        if not deterministic and generator is None:
            raise ValueError("generator must be given to draw actions (deterministic=False)")
        if not isinstance(adapted, AdaptedState | None):
            raise TypeError(
                f"adapted must be a state from adapt or predict, got {type(adapted).__name__}"
            )
        if adapted is not None and adapted.owner is not self:
            raise ValueError("adapted must be a state of this agent, got another agent's")
        return predict_actions(self, inputs, adapted, None if deterministic else generator)

    def require_finite(self) -> None:
        """Raise a FloatingPointError, also a ValueError, if a number of the state is not finite."""
        require_finite_state(self._checked_state())

    # Files and copies.

    def save(self, path: Path | str) -> None:
        """Write a checkpoint with the state, the settings and the counters; a file is replaced.

        Raises:
            FloatingPointError: if a number is not finite; nothing is written.
        """
        groups = self._checked_state().items()
        self.require_finite()
        header = {
            "agent": self.name,
            "environment": self.family.id,
            "seed": self.seed,
            "config": asdict(self.config),  # type: ignore[call-overload] # checked in __init__
            "counters": self._counters(),
        }
        tensors = {f"{group}/{n}": t for group, ts in groups for n, t in ts.items()}
        save_checkpoint(Path(path), tensors, header)

    @classmethod
    def load(
        cls, path: Path | str, family: TaskFamily, *, device: torch.device | str = "cpu"
    ) -> Self:
        """The agent of a checkpoint; training continues bitwise identically.

        Raises:
            ValueError: if the file is not a checkpoint, belongs to another agent or family, or
                holds numbers that are not finite.
        """
        path = Path(path)
        tensors, header = load_checkpoint(path, agent=cls.name, environment=family.id)
        config = read_settings(cls.config_type, header["config"], source=f"checkpoint {path}")
        agent = cls(family, config, seed=header["seed"], device=device)
        groups = agent._checked_state().items()
        state = {g: select_tensors(path, tensors, g, like) for g, like in groups}
        agent._set_state(state)
        agent.num_iterations = read_counter(path, header, "num_iterations")
        agent.num_env_steps = read_counter(path, header, "num_env_steps")
        return agent

    def __reduce__(self) -> tuple[Any, ...]:
        """Support copies and pickles, which call the constructor and then set the state."""
        keywords = {"seed": self.seed, "device": self.device}
        made = (type(self), (self.family, self.config), keywords)
        return _rebuilt, (*made, copy_state(self._checked_state()), self._counters())

    def _checked_state(self) -> State:
        return checked_state(self.name, self.params, self._state())

    def _counters(self) -> dict[str, int]:
        return {"num_iterations": self.num_iterations, "num_env_steps": self.num_env_steps}


def _rebuilt(
    agent_type: type[Agent[Any]],
    arguments: tuple[Any, ...],
    keywords: Mapping[str, Any],
    state: State,
    counters: Mapping[str, int],
) -> Agent[Any]:
    """Construct the agent of a copy or a pickle."""
    agent = agent_type(*arguments, **keywords)
    agent._set_state(state)
    agent.require_finite()
    agent.num_iterations, agent.num_env_steps = counters.values()
    return agent
