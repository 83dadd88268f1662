"""RL²: a policy with a memory that learns a task by acting in it, over several episodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from metarl.finite import in_iteration, require_finite_params, require_finite_tasks
from metarl.nn.memories import MemoryState, require_state
from metarl.optim.optimizer import NamedOptimizer
from metarl.parameters import Params
from metarl.rl.distributions import Distribution, draw
from metarl.rl.masked import masked_mean, standardized
from metarl.rl.normalization import RunningMoments
from metarl.rl.returns import discounted_returns
from metarl.rollouts.trial_inputs import TrialInputs
from metarl.rollouts.trials import ActorInput, Trials, collect_trials
from metarl.seeding import derive_seed, torch_generator
from metarl.storage.checkpoints import (
    load_checkpoint,
    read_counter,
    save_checkpoint,
    select_tensors,
)
from metarl.storage.settings import read_settings
from metarl.tasks.family import TaskFamily
from metarl.tasks.reused_batch import TrainingBatch
from metarl.tasks.spaces import Tasks
from metarl.validation import require_at_least

from .batch import (
    TrialBatch,
    forget_others,
    learnt_from,
    require_expected_rewards,
    time_first,
    trial_gae,
)
from .config import RL2Config
from .policy import make_policy, trial_steps
from .task_features import TaskNumbers
from .updates import Learner, ppo_update, trpo_update

__all__ = ["RL2"]

Metrics = dict[str, float]
Callback = Callable[["RL2", Metrics], bool | None]


class RL2:
    """A policy with a memory, trained by reinforcement learning on whole trials.

    One iteration: sample tasks, live through one trial of each, and make what went well across
    the trial more likely. Nothing is adapted but the memory, which is new in each trial.

    Source: Duan et al. 2016 (arXiv:1611.02779); Wang et al. 2016 (arXiv:1611.05763).
    """

    score: ClassVar[str] = "rollout/trial_return"
    config_type: ClassVar[type[RL2Config]] = RL2Config
    name: ClassVar[str] = "rl2"

    def __init__(
        self,
        family: TaskFamily,
        config: RL2Config | None = None,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        """An untrained agent.

        Args:
            family: where tasks come from.
            config: settings; `action_scale` None becomes the variant's.
            seed: of parameters, tasks, initial states, actions and minibatches.
            device: where policy and updates are computed.

        Raises:
            ValueError: if the settings ask for what the family does not have.
        """
        config = config or self.config_type()
        if config.action_scale is None:
            config = replace(config, action_scale=family.action_scale)
        if config.expected_rewards:
            require_expected_rewards(family)
        self.family, self.config, self.seed = family, config, seed
        self.device = torch.device(device)
        self.inputs = TrialInputs(family.observation_space, family.action_space)
        self.policy = make_policy(family, config, self.inputs)
        initial = self.policy.init(torch_generator(seed, "parameters"))  # the same on any device
        self.params: Params = {k: p.to(self.device).requires_grad_() for k, p in initial.items()}
        self._optimizer = NamedOptimizer(self.params, rate=config.learning_rate, epsilon=1e-5)
        self._seen = RunningMoments.empty(self.inputs.size, self.device)
        self._earned = RunningMoments.empty(1, self.device)
        self._task_numbers = (
            TaskNumbers(family, seed=seed, device=self.device) if config.value_sees_task else None
        )
        self.num_iterations = 0
        self.num_env_steps = 0
        self._training = TrainingBatch(family, num_envs=1, device=self.device)

    @property
    def remembers(self) -> bool:
        """Whether it learns while it acts: without a memory it does not."""
        return self.config.memory != "none"

    def learn(self, num_iterations: int, *, callback: Callback | None = None) -> RL2:
        """Train for more iterations.

        Args:
            num_iterations: how many.
            callback: called after each with the agent and its metrics; False ends training.

        Returns:
            The agent itself.

        Raises:
            FloatingPointError: if an observation, a reward, a loss or a parameter is not finite.
            ValueError: if there are fewer than no iterations.
        """
        require_at_least("num_iterations", num_iterations, 0)
        for _ in range(num_iterations):
            metrics = self.iterate()
            if callback is not None and callback(self, metrics) is False:
                break
        return self

    def iterate(self) -> Metrics:
        """One iteration of training; what happened, by name. Raises as `learn` does."""
        tasks = self.family.sample_tasks(
            self.config.meta_batch_size,
            seed=derive_seed(self.seed, "iteration", self.num_iterations),
        )
        before = self._snapshot()
        try:
            with in_iteration(self.num_iterations + 1, tasks):
                return self._iterate(tasks)
        except BaseException:  # an update may end half-way, for want of memory for instance
            self._restore(before)
            raise

    def _iterate(self, tasks: Tasks) -> Metrics:
        started = time.perf_counter()
        config, key = self.config.at(self.num_iterations), self.num_iterations
        noise = torch_generator(self.seed, "actions", key, device=self.device)
        require_finite_params("parameter", self.params)
        with self._training.posing(tasks) as env:
            trials = collect_trials(
                env,
                self.play(env.num_tasks, env.num_envs, noise),
                torch_generator(self.seed, "resets", key),
                num_episodes=config.num_episodes,
            )
        collected = time.perf_counter()
        self._see_returns(trials, config.gamma)
        batch, metrics = self._process(trials, tasks, config)
        update = {"ppo": ppo_update, "trpo": trpo_update}[config.optimizer]
        learner = Learner(self.policy, self.params, self._optimizer, config)
        metrics |= update(learner, batch, torch_generator(self.seed, "minibatches", key))
        self._see_inputs(trials)
        steps, returns = trials.num_steps, trials.episode_returns
        metrics = {
            "rollout/support_return": float(returns[..., 0].mean()),
            "rollout/query_return": float(returns[..., -1].mean()),
            "rollout/trial_return": float(returns.sum(-1).mean()),
            **metrics,
            "time/env_steps": self.num_env_steps + steps,
            "time/env_steps_per_second": steps / (time.perf_counter() - started),
            "time/sampling_seconds": collected - started,
            "time/update_seconds": time.perf_counter() - collected,
        }
        self.num_iterations, self.num_env_steps = key + 1, self.num_env_steps + steps
        return metrics

    def close(self) -> None:
        """Free the training environments; the next iteration makes them anew."""
        self._training.close()

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> RL2Player:
        """Begin with tasks it knows nothing of; each environment has a memory of its own."""
        del num_tasks, num_envs  # told by the first moment
        return RL2Player(self, generator)

    def predict(
        self,
        moment: ActorInput,
        state: MemoryState | None = None,
        *,
        deterministic: bool = True,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, MemoryState]:
        """Actions for one moment of trials, in environment units, and the memory after it.

        Args:
            moment: what is seen and what came before, [N, E, ...]; `deterministic` in it does
                not count here.
            state: the memory; None at the start of a trial. Go on with the one returned: this one
                may have been changed in place.
            deterministic: act with the mode of the policy.
            generator: of the actions if they are drawn, on the agent's device.

        Raises:
            ValueError: if actions are to be drawn without a generator, observations have another
                size than the family's, or the memory is of another number of trials.
        """
        if not deterministic and generator is None:
            raise ValueError("generator must be given to draw actions (deterministic=False)")
        lead = moment.observations.shape[:2]
        if state is not None:
            require_state(state, self.policy.start(self.params, lead.numel()))
        moment = moment._replace(observations=moment.observations.to(torch.float32))
        distribution, state = self.policy_at(moment, state)
        if deterministic:
            return distribution.mode().unflatten(0, lead), state
        assert generator is not None
        return distribution.sample(generator).unflatten(0, lead), state

    @torch.no_grad()
    def policy_at(
        self, moment: ActorInput, state: MemoryState | None
    ) -> tuple[Distribution, MemoryState]:
        """The policies of all environments at one moment, [N · E], and the memory after it."""
        inputs = self.inputs.encode(moment).flatten(0, 1)
        if state is None:
            state = self.policy.start(self.params, len(inputs))
        cleared = None
        if self.config.clear_each_episode and moment.previous_actions is not None:
            cleared = moment.episode_ended.flatten()
            inputs = forget_others(inputs, cleared, self.policy.observation_size)
        return self.policy.step(self.params, self._shown(inputs), state, cleared)

    def _shown(self, inputs: Tensor) -> Tensor:
        """What the policy sees of the inputs [..., I], normalised; without memory observations."""
        shown = self._normalized(inputs)
        if not self.remembers:
            shown = shown[..., : self.policy.observation_size]
        return shown.contiguous()

    @torch.no_grad()
    def _process(
        self, trials: Trials, tasks: Tasks, config: RL2Config
    ) -> tuple[TrialBatch, Metrics]:
        """Advantages and everything else that an update needs, from the policy that acted."""
        params = self.params
        inputs = time_first(self.inputs.encode_trials(trials))
        cleared = None
        if config.clear_each_episode:
            ends = time_first(trials.episode_ends)
            cleared = torch.cat([torch.zeros_like(ends[:1]), ends[:-1]])
            inputs = forget_others(inputs, cleared, self.policy.observation_size)
        inputs = self._shown(inputs)
        mask, actions = time_first(trials.mask), time_first(trials.actions)
        told, known = self._elapsed(*mask.shape), self._known_tasks(tasks)
        start = self.policy.start(params, mask.shape[1])
        old, features, _ = self.policy.sequence(params, inputs, start, cleared)
        values = self.policy.values(params, inputs, features, told, tasks=known, cleared=cleared)
        require_finite_tasks("value", values.T)
        rewards = (
            time_first(learnt_from(trials, expected=config.expected_rewards))
            * self._reward_factor()
        )
        advantages = trial_gae(trials, rewards, values, config.gamma, config.gae_lambda)
        returns = advantages + values
        unexplained = masked_mean((returns - values).square(), mask)
        spread = masked_mean((returns - masked_mean(returns, mask)).square(), mask)
        batch = TrialBatch(
            inputs=inputs,
            told=told,
            tasks=known,
            cleared=cleared,
            actions=actions,
            log_probs=old.log_prob(actions),
            values=values,
            advantages=standardized(advantages, mask),
            returns=returns,
            mask=mask,
            old=old,
        )
        return batch, {"meta/explained_variance": float(1 - unexplained / (spread + 1e-8))}

    def _elapsed(self, num_steps: int, num_trials: int) -> Tensor:
        """How much of the trial is over at each moment, [T, B, 1]."""
        over = torch.arange(num_steps, device=self.device) / trial_steps(self.family, self.config)
        return over.view(-1, 1, 1).expand(num_steps, num_trials, 1)

    def _known_tasks(self, tasks: Tasks) -> Tensor:
        """What the values are told of the tasks, [1, B, D]: nothing, unless it is wanted."""
        if self._task_numbers is None:
            return torch.zeros(1, len(tasks), 0, device=self.device)
        return self._task_numbers(tasks).unsqueeze(0)

    def _normalized(self, inputs: Tensor) -> Tensor:
        """Observation and reward normalised, if that is wanted; actions and flags as they are."""
        if not self.config.normalize_observations:
            return inputs
        size = self.policy.observation_size
        numbers = torch.ones(inputs.shape[-1], dtype=torch.bool, device=inputs.device)
        numbers[size:-2] = numbers[-1] = False
        return torch.where(numbers, self._seen.normalized(inputs), inputs)

    def _reward_factor(self) -> float:
        if not self.config.normalize_rewards:
            return 1.0
        return float((self._earned.variance + 1e-8).rsqrt())

    def _see_returns(self, trials: Trials, gamma: float) -> None:
        """Take the trials' returns into the statistics that rewards are divided by."""
        if self.config.normalize_rewards:
            never = torch.zeros_like(trials.mask)
            returns = discounted_returns(trials.rewards, never, gamma)
            self._earned = self._earned.updated(returns[trials.mask].unsqueeze(-1))

    def _see_inputs(self, trials: Trials) -> None:
        """Take what was observed into the statistics, for the iterations to come.

        Not before the update: it must see the inputs as the policy that acted saw them.
        """
        if self.config.normalize_observations:
            self._seen = self._seen.updated(self.inputs.encode_trials(trials)[trials.mask])

    def _snapshot(self) -> dict[str, Tensor]:
        return {name: t.detach().clone() for name, t in self._tensors().items()}

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        self._set_tensors(Path("memory"), tensors)

    def _tensors(self) -> dict[str, Tensor]:
        groups = {
            "parameters": self.params,
            "optimizer": self._optimizer.tensors(),
            "seen": self._seen.tensors(),
            "earned": self._earned.tensors(),
        }
        return {f"{group}/{name}": t for group, ts in groups.items() for name, t in ts.items()}

    def _set_tensors(self, path: Path, tensors: dict[str, Tensor]) -> None:
        held = select_tensors(path, tensors, "parameters", self.params)
        with torch.no_grad():
            for name, p in self.params.items():
                p.copy_(held[name])
        moments = select_tensors(path, tensors, "optimizer", self._optimizer.tensors())
        self._optimizer.restore(moments)
        for group in ("seen", "earned"):
            like: RunningMoments = getattr(self, f"_{group}")
            moments = select_tensors(path, tensors, group, like.tensors())
            setattr(self, f"_{group}", RunningMoments(**moments))

    def save(self, path: Path | str) -> None:
        """Write a checkpoint: parameters, optimiser, statistics and counters, in one step.

        Raises:
            FloatingPointError: if a parameter is not finite; nothing is written.
        """
        require_finite_params("parameter", self.params)
        counters = {"num_iterations": self.num_iterations, "num_env_steps": self.num_env_steps}
        header = {
            "agent": self.name,
            "environment": self.family.id,
            "seed": self.seed,
            "config": asdict(self.config),
            "counters": counters,
        }
        save_checkpoint(Path(path), self._tensors(), header)

    @classmethod
    def load(
        cls, path: Path | str, family: TaskFamily, *, device: torch.device | str = "cpu"
    ) -> RL2:
        """The agent of a checkpoint; it goes on as if it had never been stopped.

        Raises:
            ValueError: if the file is no checkpoint, of another agent or of another family.
        """
        path = Path(path)
        tensors, header = load_checkpoint(path, agent=cls.name, environment=family.id)
        config = read_settings(cls.config_type, header["config"], where=f"checkpoint {path}")
        agent = cls(family, config, seed=header["seed"], device=device)
        agent._set_tensors(path, tensors)
        agent.num_iterations = read_counter(path, header, "num_iterations")
        agent.num_env_steps = read_counter(path, header, "num_env_steps")
        return agent


class RL2Player:
    """Lives through trials, one memory for each environment."""

    def __init__(self, agent: RL2, generator: torch.Generator) -> None:
        self._agent, self._generator = agent, generator
        self._state: MemoryState | None = None

    def act(self, moment: ActorInput) -> Tensor:
        """Actions; the memory moves on."""
        distribution, self._state = self._agent.policy_at(moment, self._state)
        actions = draw(distribution, moment.deterministic.flatten(), self._generator)
        return actions.view(*moment.deterministic.shape, *actions.shape[1:])

    def adapt(self, episodes: object) -> None:
        """Nothing: it has learnt from them as it lived through them."""
