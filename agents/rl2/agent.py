"""RL²: a policy with a memory that learns a task by acting in it, over several episodes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from metarl.finite import require_finite_tasks
from metarl.nn.memories import MemoryState
from metarl.optim.optimizer import NamedOptimizer
from metarl.parameters import State
from metarl.rl.agent import Agent, Iteration
from metarl.rl.distributions import Distribution, sample_or_mode
from metarl.rl.masked import masked_mean, standardize
from metarl.rollouts.trial_inputs import TrialInputs
from metarl.rollouts.trials import ActorInput, Trials, collect_trials
from metarl.seeding import torch_generator
from metarl.tasks.family import TaskFamily
from metarl.tasks.observation_features import ObservationScaling
from metarl.tasks.spaces import Tasks

from .batch import (
    TrialBatch,
    keep_observations_only,
    require_expected_rewards,
    time_first,
    training_rewards,
    trial_gae,
)
from .config import RL2Config
from .normalizer import Normalizer
from .policy import make_policy, trial_steps
from .task_features import TaskEncoder
from .updates import METRICS, UpdateContext, ppo_update, trpo_update

__all__ = ["RL2"]

Metrics = dict[str, float]


class RL2(Agent[RL2Config]):
    """A policy with a memory, trained by reinforcement learning on whole trials.

    One iteration: sample tasks, collect one trial of each, and improve the policy by the rewards
    of whole trials. Only the memory adapts; it is cleared at the start of each trial.

    Source: Duan et al. 2016 (arXiv:1611.02779); Wang et al. 2016 (arXiv:1611.05763).
    """

    name = "rl2"
    config_type = RL2Config
    score = "rollout/trial_return"
    shown_metrics = ("rollout/support_return", "rollout/query_return")

    def __init__(
        self,
        family: TaskFamily,
        config: RL2Config | None = None,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        """An untrained agent; see `Agent`.

        Raises:
            ValueError: if the settings need something that the family does not have.
        """
        super().__init__(family, config, seed=seed, device=device)
        config = self.config
        if config.use_expected_rewards:
            require_expected_rewards(family)
        self.inputs = TrialInputs(
            family.observation_space,
            family.action_space,
            config.action_divisor,
            ObservationScaling(
                family.observation_space,
                family.observation_images,
                enabled=config.scale_observations,
            ),
        )
        self.policy = make_policy(family, config, self.inputs)
        initial = self.policy.init(torch_generator(seed, "parameters"))  # the same on any device
        self.params = {k: p.to(self.device).requires_grad_() for k, p in initial.items()}
        self._optimizer = NamedOptimizer(self.params, rate=config.learning_rate, epsilon=1e-5)
        self._normalizer = Normalizer(
            config, self.inputs, self.device, images=family.observation_images
        )
        self._encode_tasks = (
            TaskEncoder(family, seed=seed, device=self.device) if config.privileged_critic else None
        )

    @property
    def metrics(self) -> Mapping[str, str]:
        """Description of each metric; the metrics of the update depend on the optimizer."""
        return {
            "rollout/support_return": "mean return of the first episode of each trial",
            "rollout/query_return": "mean return of the last episode of each trial",
            "rollout/trial_return": "mean return of all episodes of a trial together",
            "meta/explained_variance": "fraction of the returns' variance that the critic explains",
            **METRICS[self.config.optimizer],
        }

    @property
    def remembers(self) -> bool:
        """Whether the agent learns while it acts; false without a memory."""
        return self.config.memory != "none"

    @property
    def adapts(self) -> bool:
        """Whether the agent adapts; only by its memory."""
        return self.remembers

    @property
    def num_episodes_per_trial(self) -> int | None:
        """Episodes of each trial; None without a memory."""
        return self.config.num_episodes if self.remembers else None

    def _iterate(self, tasks: Tasks) -> Iteration:
        config, key = self.config.at_iteration(self.num_iterations), self.num_iterations
        noise = torch_generator(self.seed, "actions", key, device=self.device)
        with self._training_envs(tasks, num_envs=1) as env:
            trials = collect_trials(
                env,
                self.play(env.num_tasks, env.num_envs, noise),
                torch_generator(self.seed, "resets", key),
                num_episodes=config.num_episodes,
            )
        self._normalizer.add_returns(trials, config.gamma)
        batch, metrics = self._process(trials, tasks, config)
        update = {"ppo": ppo_update, "trpo": trpo_update}[config.optimizer]
        context = UpdateContext(self.policy, self.params, self._optimizer, config)
        metrics |= update(context, batch, torch_generator(self.seed, "minibatches", key))
        self._normalizer.add_inputs(trials)
        returns = trials.episode_returns
        return Iteration(
            {
                "rollout/support_return": float(returns[..., 0].mean()),
                "rollout/query_return": float(returns[..., -1].mean()),
                "rollout/trial_return": float(returns.sum(-1).mean()),
                **metrics,
            },
            trials.num_steps,
        )

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> RL2Player:
        """A player for new tasks, with an empty memory for each environment."""
        del num_tasks, num_envs  # the first input has these axes
        return RL2Player(self, generator)

    @torch.no_grad()
    def policy_at(
        self, actor_input: ActorInput, state: MemoryState | None
    ) -> tuple[Distribution, MemoryState]:
        """The policies of all environments at one step, [N · E], and the memory after it.

        Args:
            actor_input: observations and the previous step.
            state: the memory, which may be changed in place; None at the start of a trial.
        """
        inputs = self.inputs.encode(actor_input).flatten(0, 1)
        if state is None:
            state = self.policy.start(self.params, len(inputs))
        cleared = None
        if self.config.clear_each_episode and actor_input.previous_actions is not None:
            cleared = actor_input.episode_ended.flatten()
            inputs = keep_observations_only(inputs, cleared, self.policy.observation_size)
        return self.policy.step(self.params, self._policy_inputs(inputs), state, cleared)

    def _policy_inputs(self, inputs: Tensor) -> Tensor:
        """Inputs [..., I] of the policy, normalized; only the observations without a memory."""
        inputs = self._normalizer.normalized(inputs)
        if not self.remembers:
            inputs = inputs[..., : self.policy.observation_size]
        return inputs.contiguous()

    @torch.no_grad()
    def _process(
        self, trials: Trials, tasks: Tasks, config: RL2Config
    ) -> tuple[TrialBatch, Metrics]:
        """The training data of an update, and the metric of the critic's fit."""
        params = self.params
        inputs = time_first(self.inputs.encode_trials(trials))
        cleared = None
        if config.clear_each_episode:
            ends = time_first(trials.episode_ends)
            cleared = torch.cat([torch.zeros_like(ends[:1]), ends[:-1]])
            inputs = keep_observations_only(inputs, cleared, self.policy.observation_size)
        inputs = self._policy_inputs(inputs)
        mask, actions = time_first(trials.mask), time_first(trials.actions)
        progress, encoded = self._trial_progress(*mask.shape), self._critic_tasks(tasks)
        start = self.policy.start(params, mask.shape[1])
        old, features, _ = self.policy.sequence(params, inputs, start, cleared)
        values = self.policy.values(
            params, inputs, features, progress, tasks=encoded, cleared=cleared
        )
        require_finite_tasks("value", values.T)
        rewards = time_first(training_rewards(trials, expected=config.use_expected_rewards))
        rewards = self._normalizer.normalized_rewards(rewards)
        advantages = trial_gae(trials, rewards, values, config.gamma, config.gae_lambda)
        returns = advantages + values
        unexplained = masked_mean((returns - values).square(), mask)
        spread = masked_mean((returns - masked_mean(returns, mask)).square(), mask)
        batch = TrialBatch(
            inputs=inputs,
            trial_progress=progress,
            tasks=encoded,
            cleared=cleared,
            actions=actions,
            log_probs=old.log_prob(actions),
            values=values,
            advantages=standardize(advantages, mask),
            returns=returns,
            mask=mask,
            old=old,
        )
        return batch, {"meta/explained_variance": float(1 - unexplained / (spread + 1e-8))}

    def _trial_progress(self, num_steps: int, num_trials: int) -> Tensor:
        """Step divided by the maximum length of a trial, [T, B, 1]."""
        steps = torch.arange(num_steps, dtype=torch.float32, device=self.device)
        progress = steps / trial_steps(self.family, self.config)
        return progress.view(-1, 1, 1).expand(num_steps, num_trials, 1)

    def _critic_tasks(self, tasks: Tasks) -> Tensor:
        """The encoded tasks for a privileged critic, [1, B, D]; D is 0 for other critics."""
        if self._encode_tasks is None:
            return torch.zeros(1, len(tasks), 0, device=self.device, dtype=torch.float32)
        return self._encode_tasks(tasks).unsqueeze(0)

    def _state(self) -> State:
        return {
            "parameters": self.params,
            "optimizer": self._optimizer.tensors(),
            **self._normalizer.state(),
        }

    def _set_state(self, state: State) -> None:
        super()._set_state(state)
        self._optimizer.restore(state["optimizer"])
        self._normalizer.set_state(state)


class RL2Player:
    """Acts in trials, with one memory for each environment."""

    def __init__(self, agent: RL2, generator: torch.Generator) -> None:
        self._agent, self._generator = agent, generator
        self._state: MemoryState | None = None

    def act(self, actor_input: ActorInput) -> Tensor:
        """Actions of all environments; updates the memory."""
        distribution, self._state = self._agent.policy_at(actor_input, self._state)
        actions = sample_or_mode(distribution, actor_input.deterministic.flatten(), self._generator)
        return actions.view(*actor_input.deterministic.shape, *actions.shape[1:])

    def adapt(self, episodes: object) -> None:
        """Do nothing: the memory learned from the episodes while acting in them."""
