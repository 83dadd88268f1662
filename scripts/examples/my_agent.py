"""An agent of your own: Reptile with policy gradients as its inner steps.

metarl train reptile --import my_agent --env Navigation2D:maml17 --out runs/reptile
metarl evaluate runs/reptile --import my_agent
"""

from dataclasses import dataclass
from typing import Any

from metarl import Agent, Episodes, InnerLoop, Iteration, collect, inner_step, register_agent, sgd
from metarl.parameters import Params
from metarl.rl.objectives import action_log_probs, log_prob_loss, policy_batch
from metarl.rl.players import PolicyPlayer
from metarl.rl.policies import make_policy
from metarl.seeding import torch_generator


@dataclass(frozen=True)
class ReptileConfig:
    meta_batch_size: int = 20
    """Tasks per iteration."""
    meta_lr: float = 0.5
    """Step size toward the mean of the adapted parameters; 1 replaces the parameters by it."""


class Reptile(Agent[ReptileConfig]):
    name, config_type, metrics = "reptile", ReptileConfig, {"rollout/return": "mean return"}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.policy = make_policy(self.family.observation_space, self.family.action_space)
        initial = self.policy.init(torch_generator(self.seed, "parameters"))
        self.params = {name: p.to(self.device) for name, p in initial.items()}
        self.inner = InnerLoop(log_prob_loss(self.policy), sgd(0.1), batching="explicit")

    def _iterate(self, tasks: Any) -> Iteration:
        resets = torch_generator(self.seed, "resets", self.num_iterations)
        noise = torch_generator(self.seed, "actions", self.num_iterations, device=self.device)
        player, num_steps = self.play(len(tasks), 20, noise), 0
        with self._training_envs(tasks, num_envs=20) as env:
            for _ in range(3):
                episodes = collect(env, player.actor, resets)
                player.adapt(episodes)
                num_steps += episodes.num_steps
        for name, p in self.params.items():
            p.lerp_(player.params[name].mean(0), self.config.meta_lr)
        return Iteration({"rollout/return": float(episodes.returns.mean())}, num_steps)

    def play(self, num_tasks: int, num_envs: int, generator: Any) -> PolicyPlayer:
        return PolicyPlayer(self.policy, self.params, num_tasks, generator, self.adapt_step)

    def adapt_step(self, params: Params, episodes: Episodes, *, step: int) -> Params:
        log_probs = action_log_probs(self.policy, params, episodes)
        return inner_step(params, policy_batch(episodes, log_probs).packed(), self.inner)


register_agent(Reptile, description="moves toward the mean of adapted policies")
