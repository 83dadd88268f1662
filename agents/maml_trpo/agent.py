"""MAML-TRPO: meta-learned initial parameters of a policy, trained with a trust region."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from metarl.bilevel.adaptation import adapt_path
from metarl.bilevel.inner_loop import InnerLoop, PerStep
from metarl.bilevel.linearized import linearize_adaptation
from metarl.bilevel.meta_gradients import OuterLoss, TaskPath, meta_gradient
from metarl.bilevel.rules import sgd
from metarl.bilevel.steps import inner_step
from metarl.estimators.catalog import ESTIMATORS
from metarl.finite import require_finite_params, require_finite_tasks
from metarl.optim.trust_region import backtracking_line_search, trust_region_step
from metarl.parameters import Params, flatten, unflatten
from metarl.rl.agent import Agent, Iteration
from metarl.rl.objectives import (
    PolicyBatch,
    action_log_probs,
    adapted_fisher_product,
    mean_kl,
    policy_batch,
    ratio_loss,
    surrogate_loss,
)
from metarl.rl.players import PolicyPlayer
from metarl.rl.policies import make_policy
from metarl.rollouts.episodes import Episodes, collect
from metarl.seeding import torch_generator
from metarl.tasks.family import TaskFamily
from metarl.tasks.observation_features import ObservationScaling, RandomProjection
from metarl.tasks.spaces import Tasks

from .config import MAMLTRPOConfig
from .credited import credited_loss, credited_query

__all__ = ["MAMLTRPO"]

_REMEDY = "a smaller inner_lr keeps adapted policies near their data"

Metrics = dict[str, float]


class MAMLTRPO(Agent[MAMLTRPOConfig]):
    """Model-agnostic meta-learning for policies, with TRPO as the outer optimizer.

    One iteration: sample tasks, collect episodes, adapt to each task by policy gradient, collect
    again with the adapted policies, and improve the adapted policies by a step of the shared
    parameters, within a trust region around the adapted policies.

    Source: Finn et al. 2017 (arXiv:1703.03400), alg. 3, with the outer step of Schulman et al.
    2015 (arXiv:1502.05477).
    """

    name = "maml-trpo"
    config_type = MAMLTRPOConfig
    can_adapt_untrained = True
    metrics: Mapping[str, str] = {
        "rollout/support_return": "mean return of the episodes before adaptation",
        "rollout/query_return": "mean return of the episodes after adaptation",
        "meta/gradient_norm": "norm of the meta-gradient",
        "meta/kl_nats": "mean KL divergence of the adapted policies over the step",
        "meta/improvement": "decrease of the query loss over the step",
        "meta/expected_improvement": "decrease that the gradient predicts for the full step",
        "meta/line_search_steps": "number of steps that the line search tried",
        "meta/accepted": "1 if a step was accepted, else 0",
    }
    score = "rollout/query_return"
    shown_metrics = ("rollout/support_return", "rollout/query_return")

    def __init__(
        self,
        family: TaskFamily,
        config: MAMLTRPOConfig | None = None,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        """An untrained agent; see `Agent`."""
        super().__init__(family, config, seed=seed, device=device)
        config = self.config
        self.policy = make_policy(
            family.observation_space,
            family.action_space,
            policy_net=config.policy_net,
            images=family.observation_images,
            scale_observations=config.scale_observations,
            hidden_sizes=config.hidden_sizes,
            activation=config.activation,
            initial_std=config.initial_std,
            min_std=config.min_std,
            action_divisor=config.action_divisor,
        )
        initial = self.policy.init(torch_generator(seed, "parameters"))  # the same on any device
        self.params = {name: p.to(self.device) for name, p in initial.items()}
        scaling = ObservationScaling(
            family.observation_space,
            family.observation_images,
            enabled=config.scale_observations,
        )
        self._baseline_features: Callable[[Tensor], Tensor] | None = scaling
        if config.baseline == "projection":
            self._baseline_features = RandomProjection(family.observation_space.shape[0], scaling)
        estimator = ESTIMATORS[config.estimator]
        self._inner = InnerLoop(
            loss=surrogate_loss(self.policy, estimator.surrogate),
            rule=sgd(config.inner_lr),
            num_steps=config.num_inner_steps,
            mode="first_order" if estimator.is_first_order else "unrolled",
            batching="explicit",
            chunk_size=config.chunk_size,
        )
        later_lr = config.inner_lr * config.extra_step_lr_factor
        self._later_inner = replace(self._inner, rule=sgd(later_lr))
        self._surrogate = ratio_loss(self.policy)
        self._credited: OuterLoss | None = None
        if config.sampling_credit != "off":
            self._credited = credited_loss(self.policy, self._surrogate)

    def _iterate(self, tasks: Tasks) -> Iteration:
        config, key = self.config, self.num_iterations
        resets = torch_generator(self.seed, "resets", key)
        noise = torch_generator(self.seed, "actions", key, device=self.device)
        phases: list[Episodes] = []
        batches: list[PolicyBatch] = []
        player = self.play(config.meta_batch_size, config.num_episodes, noise)
        with self._training_envs(tasks, num_envs=config.num_episodes) as env:
            for _ in range(config.num_inner_steps):
                phases.append(collect(env, player.actor, resets))
                batches.append(self._process(player.params, phases[-1]))
                player.params = inner_step(player.params, batches[-1].packed(), self._inner)
                require_finite_tasks("adapted parameters", *player.params.values(), remedy=_REMEDY)
            phases.append(collect(env, player.actor, resets))
        query = self._process(player.params, phases[-1])
        self.params, update = self._update(batches, query, player.params)
        returns = {
            "rollout/support_return": float(phases[0].returns.mean()),
            "rollout/query_return": float(phases[-1].returns.mean()),
        }
        return Iteration(returns | update, sum(episodes.num_steps for episodes in phases))

    def _update(
        self, supports: Sequence[PolicyBatch], query: PolicyBatch, adapted: Params
    ) -> tuple[Params, Metrics]:
        """One trust-region step: gradient, direction and line search; the new parameters."""
        config, inner, start = self.config, self._inner, flatten(self.params)
        fisher_product = self._fisher_product(supports, query)
        is_credited = self._credited is not None
        outer_query: Any = credited_query(supports, query) if is_credited else query.packed()
        supports, query = [support.packed() for support in supports], query.packed()
        with torch.no_grad():
            old = self.policy.distribution(adapted, query.observations)
        # Without inner steps only the number of tasks of the support batch is used.
        support = PerStep(supports) if supports else query
        losses, grads = meta_gradient(
            self.params,
            support,
            outer_query,
            inner,
            query_loss=self._surrogate if self._credited is None else None,
            outer_loss=self._credited,
        )
        require_finite_tasks("query loss", losses, remedy=_REMEDY)
        require_finite_params("meta-gradient of", grads, remedy=_REMEDY)
        gradient = flatten(grads)
        step, expected = trust_region_step(
            gradient,
            fisher_product,
            max_kl_nats=config.max_kl_nats,
            cg_iterations=config.cg_iterations,
            cg_damping=config.cg_damping,
        )

        @torch.no_grad()
        def evaluate(candidate: Tensor) -> tuple[Tensor, Tensor]:
            path = adapt_path(unflatten(candidate, self.params), support, inner)
            kl = mean_kl(self.policy, path[-1], query, old)
            if self._credited is None:
                return self._surrogate(path[-1], query).mean(), kl.mean()
            losses = self._credited(TaskPath(path, tuple(supports), outer_query))
            return losses.mean(), kl.mean()

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
        """The Fisher product of the adapted policies on a fraction of each task's episodes."""
        num_episodes = math.ceil(self.config.fisher_fraction * self.config.num_episodes)
        parts = [batch.first_envs(num_episodes).packed() for batch in (*supports, query)]
        support = PerStep(parts[:-1]) if supports else parts[-1]
        near = linearize_adaptation(self.params, support, self._inner)
        return adapted_fisher_product(self.policy, near, parts[-1], self.params)

    def _process(self, params: Params, episodes: Episodes) -> PolicyBatch:
        """Advantages of episodes that were collected with parameters [tasks, ...]."""
        config = self.config
        return policy_batch(
            episodes,
            action_log_probs(self.policy, params, episodes),
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
            baseline="none" if config.baseline == "none" else "linear",
            features=self._baseline_features,
            normalize=config.normalize_advantages,
            bootstrap_truncated=config.bootstrap_truncated,
        )

    def play(self, num_tasks: int, num_envs: int, generator: torch.Generator) -> PolicyPlayer:
        """A player for new tasks; its `adapt` takes one inner step."""
        del num_envs  # a task has one policy for all its environments
        return PolicyPlayer(self.policy, self.params, num_tasks, generator, self.adapt_step)

    def adapt_step(self, params: Params, episodes: Episodes, *, step: int = 0) -> Params:
        """The parameters of all tasks after one more inner step.

        Args:
            params: parameters [tasks, ...].
            episodes: collected with `params`, [tasks, envs, ...].
            step: number of steps before this one; from `num_inner_steps` on, the learning rate is
                multiplied by `extra_step_lr_factor`.
        """
        trained_for = step < max(1, self.config.num_inner_steps)
        inner = self._inner if trained_for else self._later_inner
        return inner_step(params, self._process(params, episodes).packed(), inner)
