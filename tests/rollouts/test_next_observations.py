"""The observation after each step of a trial, also at episode ends, for every kind of family."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
import torch
from tiny_environments import Counters, Lock
from torch import Tensor

from metarl.envs import make_family
from metarl.finite import NonFiniteError
from metarl.rollouts.actors import random_actor
from metarl.rollouts.trials import ActorInput, Trials, collect_trials
from metarl.tasks.family import BatchEnv, Step, TaskFamily

NUM_TASKS, NUM_ENVS, NUM_EPISODES = 2, 3, 3


class RandomTrialActor:
    """Acts at random."""

    def __init__(self, env: BatchEnv) -> None:
        self._act = random_actor(env, torch.Generator().manual_seed(1))

    def act(self, actor_input: ActorInput) -> Tensor:
        actions: Tensor = self._act(actor_input.observations)
        return actions.clamp(max=1)  # the highest actions of `Counters` are faults


@contextmanager
def recorded_trials(family: TaskFamily) -> Iterator[tuple[Trials, Tensor]]:
    """Trials, and all observations that the batch gave after steps. [N, E, T, O]."""
    tasks = family.sample_tasks(NUM_TASKS, seed=0)
    with closing(family.make_batch(tasks, num_envs=NUM_ENVS)) as env:
        led_to: list[Tensor] = []
        step = env.step

        def recording_step(actions: Tensor) -> Step:
            made = step(actions)
            led_to.append(made.observations.clone())
            return made

        env.step = recording_step
        generator = torch.Generator().manual_seed(2)
        trials = collect_trials(env, RandomTrialActor(env), generator, num_episodes=NUM_EPISODES)
        yield trials, torch.stack(led_to, dim=2)


FAMILIES = {
    "tensors": lambda: make_family("PointRobot:pearl"),
    "tensors that terminate": Lock,
    "MuJoCo": lambda: make_family("HalfCheetahVel:promp"),
    "MuJoCo that terminates": lambda: make_family("HopperRandParams:pearl"),
    "Gymnasium in this process": lambda: Counters(num_workers=0, horizon=6),
    "Gymnasium in workers": lambda: Counters(num_workers=2),
}


@pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)
def test_next_observations_are_those_before_any_reset(make):
    with recorded_trials(make()) as (trials, led_to):
        following = trials.next_observations
        assert following.shape == trials.observations.shape
        assert torch.equal(following[trials.mask], led_to[trials.mask])
        assert not following[~trials.mask].any()
        inside = trials.mask & ~trials.episode_ends
        inside[..., -1] = False
        after = torch.roll(inside, 1, dims=-1)
        assert torch.equal(following[inside], trials.observations[after])


@pytest.mark.parametrize("name", ["tensors that terminate", "MuJoCo that terminates"])
def test_final_observations_are_kept_for_ends_at_different_times(name):
    with recorded_trials(FAMILIES[name]()) as (trials, led_to):
        assert trials.final_observations.shape[:3] == (NUM_TASKS, NUM_ENVS, NUM_EPISODES)
        lengths = trials.mask.sum(-1)
        assert len(lengths.unique()) > 1
        ends = trials.episode_ends.nonzero()
        episodes = trials.episode_indices
        assert len(ends) == NUM_TASKS * NUM_ENVS * NUM_EPISODES
        for n, e, t in ends.tolist():
            final = trials.final_observations[n, e, episodes[n, e, t]]
            assert torch.equal(final, led_to[n, e, t])


def test_the_final_observation_differs_from_the_start_of_the_next_episode():
    with recorded_trials(FAMILIES["tensors"]()) as (trials, _):
        ends = trials.episode_ends.clone()
        ends[..., -1] = False
        begins = torch.roll(ends, 1, dims=-1)
        assert bool(ends.any())
        different = trials.next_observations[ends] != trials.observations[begins]
        assert bool(different.any(-1).all())


def test_memory_of_final_observations_is_one_entry_per_episode():
    with recorded_trials(FAMILIES["tensors"]()) as (trials, _):
        kept = trials.final_observations.untyped_storage().nbytes()
        whole = trials.observations.untyped_storage().nbytes()
        assert kept == whole * (NUM_EPISODES + 1) / trials.mask.shape[-1]


def test_a_final_observation_that_is_not_finite_is_rejected_with_its_episode():
    family = make_family("PointRobot:pearl")
    with closing(family.make_batch(family.sample_tasks(NUM_TASKS, seed=0), num_envs=1)) as env:
        step = env.step

        def broken_step(actions: Tensor) -> Step:
            made = step(actions)
            observations = made.observations.clone()
            observations[1] = observations[1].where(~made.truncated[1].unsqueeze(-1), torch.nan)
            return made._replace(observations=observations)

        env.step = broken_step
        message = "final_observations must be finite, got nan from task 1, environment 0, episode 0"
        with pytest.raises(NonFiniteError, match=message):
            collect_trials(
                env, RandomTrialActor(env), torch.Generator().manual_seed(0), num_episodes=2
            )
