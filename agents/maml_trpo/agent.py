"""MAML-TRPO: a policy whose gradient steps on a new task go far, trained with a trust region."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.bilevel.adaptation import adapt, inner_step, meta_gradient
from metarl.bilevel.inner_loop import InnerLoop, PerStep
from metarl.bilevel.linearized import linearize_adaptation
from metarl.bilevel.rules import sgd
from metarl.finite import in_iteration, require_finite_params, require_finite_tasks
from metarl.optim.trust_region import backtracking_line_search, trust_region_step
from metarl.parameters import Params, flatten, unflatten
from metarl.rl.objectives import (
    PolicyBatch,
    adapted_fisher_product,
    log_prob_loss,
    mean_kl,
    policy_batch,
    ratio_loss,
)
from metarl.rl.players import GradientPlayer
from metarl.rl.policies import make_policy
from metarl.rollouts.episodes import Actor, Episodes, collect
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

from .config import MAMLTRPOConfig

__all__ = ["MAMLTRPO"]

_REMEDY = "a smaller inner_lr keeps adapted policies near their data"

Metrics = dict[str, float]
Callback = Callable[["MAMLTRPO", Metrics], bool | None]


class MAMLTRPO:
    """Model-agnostic meta-learning for policies, with TRPO as the outer optimiser.

    One iteration: sample tasks, collect episodes, adapt to each task by policy gradient, collect
    again with the adapted policies, and move the shared parameters so that the adapted policies
    get better, within a trust region of the adapted policies.

    Source: Finn et al. 2017 (arXiv:1703.03400), alg. 3, with the outer step of Schulman et al.
    2015 (arXiv:1502.05477).
    """

    score: ClassVar[str] = "rollout/query_return"
    config_type: ClassVar[type[MAMLTRPOConfig]] = MAMLTRPOConfig
    remembers: ClassVar[bool] = False

    def __init__(
        self,
        family: TaskFamily,
        config: MAMLTRPOConfig | None = None,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        """An untrained agent.

        Args:
            family: where tasks come from.
            config: settings; `action_scale` None becomes the variant's.
            seed: of parameters, tasks, initial states and actions.
            device: where policy and updates are computed.
        """
        config = config or MAMLTRPOConfig()
        if config.action_scale is None:
            config = replace(config, action_scale=family.action_scale)
        self.family, self.config, self.seed = family, config, seed
        self.device = torch.device(device)
        self.policy = make_policy(
            family.observation_space,
            family.action_space,
            hidden_sizes=config.hidden_sizes,
            activation=config.activation,
            initial_std=config.initial_std,
            min_std=config.min_std,
            action_scale=config.action_scale or family.action_scale,
        )
        initial = self.policy.init(torch_generator(seed, "parameters"))  # the same on any device
        self.params: Params = {name: p.to(self.device) for name, p in initial.items()}
        self.num_iterations = 0
        self.num_env_steps = 0
        self._training = TrainingBatch(family, num_envs=config.num_episodes, device=self.device)
        objective = {"log_prob": log_prob_loss, "likelihood_ratio": ratio_loss}
        self._inner = InnerLoop(
            loss=objective[config.inner_objective](self.policy),
            rule=sgd(config.inner_lr),
            num_steps=config.num_inner_steps,
            mode="first_order" if config.first_order else "unrolled",
            batching="explicit",
            chunk_size=config.chunk_size,
        )
        later_lr = config.inner_lr * config.later_lr_factor
        self._later_inner = replace(self._inner, rule=sgd(later_lr))
        self._surrogate = ratio_loss(self.policy)

    def learn(self, num_iterations: int, *, callback: Callback | None = None) -> MAMLTRPO:
        """Train for more iterations.

        Args:
            num_iterations: how many.
            callback: called after each with the agent and its metrics; False ends training.

        Returns:
            The agent itself.

        Raises:
            FloatingPointError: if an observation, a reward, a loss, a gradient or a parameter is
                not finite; the parameters stay as they were.
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
        with in_iteration(self.num_iterations + 1, tasks):
            return self._iterate(tasks)

    def _iterate(self, tasks: Tasks) -> Metrics:
        started = time.perf_counter()
        config, key = self.config, self.num_iterations
        resets = torch_generator(self.seed, "resets", key)
        noise = torch_generator(self.seed, "actions", key, device=self.device)
        phases: list[Episodes] = []
        batches: list[PolicyBatch] = []
        adapted = self.initial_state(config.meta_batch_size)
        with self._training.posing(tasks) as env:
            require_finite_params("parameter", self.params)
            for _ in range(config.num_inner_steps):
                phases.append(collect(env, self.actor(adapted, noise), resets))
                batches.append(self._process(adapted, phases[-1]))
                adapted = inner_step(adapted, batches[-1], self._inner)
                require_finite_tasks("adapted parameters", *adapted.values(), remedy=_REMEDY)
            phases.append(collect(env, self.actor(adapted, noise), resets))
        query = self._process(adapted, phases[-1])
        collected = time.perf_counter()

        params, update = self._update(batches, query, adapted)
        steps = sum(episodes.num_steps for episodes in phases)
        metrics = {
            "rollout/support_return": float(phases[0].returns.mean()),
            "rollout/query_return": float(phases[-1].returns.mean()),
            **update,
            "time/env_steps": self.num_env_steps + steps,
            "time/env_steps_per_second": steps / (time.perf_counter() - started),
            "time/sampling_seconds": collected - started,
            "time/update_seconds": time.perf_counter() - collected,
        }
        # Last and together: whatever stops an iteration leaves the one before.
        self.params, self.num_iterations = params, key + 1
        self.num_env_steps += steps
        return metrics

    def close(self) -> None:
        """Free the training environments; the next iteration makes them anew."""
        self._training.close()

    def _update(
        self, supports: Sequence[PolicyBatch], query: PolicyBatch, adapted: Params
    ) -> tuple[Params, Metrics]:
        """Gradient of the adapted surrogate, direction, line search; parameters after it."""
        config, inner, start = self.config, self._inner, flatten(self.params)
        with torch.no_grad():
            old = self.policy.distribution(adapted, query.observations)
        # Without inner steps any batch does: it only tells the number of tasks.
        support = PerStep(supports) if supports else query
        losses, grads = meta_gradient(
            self.params, support, query, inner, query_loss=self._surrogate
        )
        require_finite_tasks("query loss", losses, remedy=_REMEDY)
        require_finite_params("meta-gradient of", grads, remedy=_REMEDY)
        gradient = flatten(grads)
        step, expected = trust_region_step(
            gradient,
            self._fisher_product(supports, query),
            max_kl_nats=config.max_kl_nats,
            cg_iterations=config.cg_iterations,
            cg_damping=config.cg_damping,
        )

        @torch.no_grad()
        def evaluate(candidate: Tensor) -> tuple[Tensor, Tensor]:
            moved = adapt(unflatten(candidate, self.params), support, inner)
            kl = mean_kl(self.policy, moved, query, old)
            return self._surrogate(moved, query).mean(), kl.mean()

        found = backtracking_line_search(
            evaluate,
            start,
            step,
            initial_loss=losses.mean(),
            max_kl_nats=config.max_kl_nats,
            max_steps=config.line_search_steps,
            backtrack_ratio=config.backtrack_ratio,
        )
        params = unflatten(found.params, self.params) if found.accepted else self.params
        return params, {
            "meta/gradient_norm": float(gradient.norm()),
            "meta/kl_nats": found.kl_nats,
            "meta/improvement": float(losses.mean()) - found.loss,
            "meta/expected_improvement": -float(expected),
            "meta/line_search_steps": found.num_evaluations,
            "meta/accepted": float(found.accepted),
        }

    def _fisher_product(
        self, supports: Sequence[PolicyBatch], query: PolicyBatch
    ) -> Callable[[Tensor], Tensor]:
        """The Fisher product of the adapted policies on a share of each task's episodes."""
        num_episodes = math.ceil(self.config.fisher_fraction * self.config.num_episodes)
        parts = [batch.first_envs(num_episodes) for batch in (*supports, query)]
        support = PerStep(parts[:-1]) if supports else parts[-1]
        near = linearize_adaptation(self.params, support, self._inner)
        return adapted_fisher_product(self.policy, near, parts[-1], self.params)

    def _process(self, state: Params, episodes: Episodes) -> PolicyBatch:
        config = self.config
        with torch.no_grad():
            behaviour = self.policy.distribution(state, episodes.observations[:, :, :-1])
        return policy_batch(
            episodes,
            behaviour,
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
            baseline=config.baseline,
            normalize=config.normalize_advantages,
            bootstrap_truncated=config.bootstrap_truncated,
        )

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> GradientPlayer:
        """Begin with tasks it knows nothing of; `adapt` of the player is one inner step."""
        del num_envs  # the policy of a task is one for all its environments
        return GradientPlayer(self, num_tasks, generator)

    def initial_state(self, num_tasks: int) -> Params:
        """The policy before adaptation, once for each task: parameters [tasks, ...]."""
        return {name: p.expand(num_tasks, *p.shape) for name, p in self.params.items()}

    def actor(
        self, state: Params, generator: torch.Generator, *, deterministic: bool = False
    ) -> Actor:
        """The policies of all tasks as one function of observations, in environment units.

        Args:
            state: parameters [tasks, ...], from `initial_state` or `adapt_step`.
            generator: of the actions, on the agent's device.
            deterministic: act with the mode.
        """

        @torch.no_grad()
        def act(observations: Tensor) -> Tensor:
            distribution = self.policy.distribution(state, observations)
            return distribution.mode() if deterministic else distribution.sample(generator)

        return act

    def adapt_step(self, state: Params, episodes: Episodes, *, step: int = 0) -> Params:
        """Parameters of all tasks after one more inner step on episodes they collected.

        Args:
            state: parameters [tasks, ...].
            episodes: collected with them.
            step: how many steps led to `state`; from the number trained for on, the learning rate
                is multiplied by `later_lr_factor`.
        """
        trained_for = step < max(1, self.config.num_inner_steps)
        inner = self._inner if trained_for else self._later_inner
        return inner_step(state, self._process(state, episodes), inner)

    def adapt(self, episodes: Sequence[Episodes]) -> Params:
        """Parameters of all tasks, adapted step by step.

        Args:
            episodes: one batch per inner step, [tasks, envs, ...], each collected with the policy
                that the steps before it led to. Any number of steps.

        Returns:
            Parameters [tasks, ...], for `predict` and `actor`.

        Raises:
            ValueError: if `episodes` is empty.
        """
        if not episodes:
            raise ValueError("episodes must hold one batch per inner step, got none")
        state = self.initial_state(episodes[0].rewards.shape[0])
        for step, batch in enumerate(episodes):
            state = self.adapt_step(state, batch, step=step)
        return state

    def predict(
        self,
        observations: Tensor | NDArray[np.floating],
        params: Params | None = None,
        *,
        deterministic: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Actions for observations, in environment units.

        Args:
            observations: [..., O], or [tasks, ..., O] with adapted parameters.
            params: what `adapt` returned; None acts before adaptation.
            deterministic: act with the mode of the policy.
            generator: of the actions if they are drawn, on the agent's device.

        Returns:
            Actions [..., A] on the agent's device.

        Raises:
            ValueError: if actions are to be drawn without a generator, or sizes do not fit.
        """
        inputs = torch.as_tensor(observations, dtype=torch.float32, device=self.device)
        size = self.family.observation_space.shape[0]
        if inputs.dim() < 1 or inputs.shape[-1] != size:
            raise ValueError(
                f"observations must have {size} features last, got shape {tuple(inputs.shape)}"
            )
        if params is not None and params["bias_0"].dim() > self.params["bias_0"].dim():
            num_tasks = params["bias_0"].shape[0]
            if inputs.dim() < 2 or inputs.shape[0] != num_tasks:
                raise ValueError(
                    f"observations must have {num_tasks} tasks first, as params has, "
                    f"got shape {tuple(inputs.shape)}"
                )
        if not deterministic and generator is None:
            raise ValueError("generator must be given to draw actions (deterministic=False)")
        with torch.no_grad():
            chosen = self.params if params is None else params
            distribution = self.policy.distribution(chosen, inputs)
            if deterministic:
                return distribution.mode()
            assert generator is not None
            return distribution.sample(generator)

    def save(self, path: Path | str) -> None:
        """Write a checkpoint: parameters and counters. The file is replaced in one step.

        Raises:
            FloatingPointError: if a parameter is not finite; nothing is written.
        """
        require_finite_params("parameter", self.params)
        counters = {"num_iterations": self.num_iterations, "num_env_steps": self.num_env_steps}
        header = {
            "agent": "maml-trpo",
            "environment": self.family.id,
            "seed": self.seed,
            "config": asdict(self.config),
            "counters": counters,
        }
        tensors = {f"parameters/{name}": p for name, p in self.params.items()}
        save_checkpoint(Path(path), tensors, header)

    @classmethod
    def load(
        cls, path: Path | str, family: TaskFamily, *, device: torch.device | str = "cpu"
    ) -> MAMLTRPO:
        """The agent of a checkpoint; it goes on as if it had never been stopped.

        Raises:
            ValueError: if the file is no checkpoint, of another agent or of another family.
        """
        path = Path(path)
        tensors, header = load_checkpoint(path, agent="maml-trpo", environment=family.id)
        config = read_settings(MAMLTRPOConfig, header["config"], where=f"checkpoint {path}")
        agent = cls(family, config, seed=header["seed"], device=device)
        agent.params = select_tensors(path, tensors, "parameters", agent.params)
        agent.num_iterations = read_counter(path, header, "num_iterations")
        agent.num_env_steps = read_counter(path, header, "num_env_steps")
        return agent
