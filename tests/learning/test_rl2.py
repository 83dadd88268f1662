"""RL² learns to learn: unseen tasks, three seeds, margins against simpler policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tiny_environments import Lock

from metarl.agents import RL2, RL2Config
from metarl.envs import make_family
from metarl.envs.bandits import Bandit
from metarl.evaluation.evaluator import evaluate
from metarl.evaluation.protocol import EvaluationProtocol
from metarl.evaluation.results import Evaluation
from metarl.tasks.family import TaskFamily

pytestmark = pytest.mark.slow

three_seeds = pytest.mark.parametrize("seed", [0, 1, 2])


def trained(
    family: TaskFamily, num_iterations: int, *, seed: int, num_tasks: int = 1000, **settings: Any
) -> Evaluation:
    """Train for some iterations; the return of each episode in unseen trials."""
    given = {
        "meta_batch_size": 2000,
        "memory_size": 64,
        "num_epochs": 4,
        "num_minibatches": 8,
        "learning_rate": 5e-3,
        "gae_lambda": 0.3,
        "entropy_coefficient": 0.005,
        "privileged_critic": True,
        **settings,
    }
    config = RL2Config(**given)
    agent = RL2(family, config, seed=seed).learn(num_iterations)
    protocol = EvaluationProtocol(
        num_tasks=num_tasks,
        exploration_episodes=1,
        adaptation_steps=config.num_episodes - 1,
        evaluation_episodes=1,
        seed=seed,
    )
    return evaluate(agent, family, protocol)


def last(evaluation: Evaluation) -> float:
    """Mean return of the last episode."""
    return float(evaluation.scores(len(evaluation.stages) - 1).mean())


def beats_simpler(
    family: TaskFamily,
    num_iterations: int,
    margins: Mapping[str, float],
    *,
    simpler_iterations: int | None = None,
    **settings: Any,
) -> Evaluation:
    """Train with a memory; its last episode must earn more than simpler policies by the margins.

    The simpler ones: "random" actions; a "memoryless" policy; one whose memory is "cleared" at each
    episode's end. Both are trained as long, or for `simpler_iterations`. Where a trial is one
    episode, as on all bandits, none ends within it: a cleared memory is no different there.
    """
    remembering = trained(family, num_iterations, **settings)
    simpler = {"random": float(remembering.reference("random").mean())}
    ablations: dict[str, dict[str, Any]] = {
        "memoryless": {"memory": "none", "include_previous_step": False},
        "cleared": {"clear_each_episode": True},
    }
    for name in ablations.keys() & margins.keys():
        given = {**settings, **ablations[name]}
        simpler[name] = last(trained(family, simpler_iterations or num_iterations, **given))
    for name, margin in margins.items():
        assert last(remembering) > simpler[name] + margin, f"{name}: {simpler}"
    return remembering


@three_seeds
def test_ten_pulls_of_five_arms_are_learned_nearly_to_the_optimum(seed):
    """Measured: 6.4 with a memory, 5.0 without one and at random; the optimum is 6.66."""
    margins = {"random": 1.1, "memoryless": 1.0}
    remembering = beats_simpler(Bandit("n10-k5"), 25, margins, seed=seed, simpler_iterations=10)
    assert last(remembering) > 6.2


@three_seeds
def test_information_of_one_episode_is_used_in_the_next(seed):
    """Measured: .87 in the third episode, .06 if the memory is cleared, where .08 is the optimum
    of an episode of its own: (1 + ¾ + ½ + ¼ − 2) / 6."""
    settings = {"num_episodes": 3, "meta_batch_size": 1000}
    remembering = trained(Lock(), 12, seed=seed, **settings)
    forgetful = trained(Lock(), 12, seed=seed, clear_each_episode=True, **settings)
    assert last(remembering) > last(forgetful) + 0.5
    assert last(remembering) > float(remembering.scores(0).mean()) + 0.5
    assert last(remembering) > float(remembering.reference("random").mean()) + 0.7
    assert last(forgetful) < 0.2


@pytest.mark.parametrize(
    ("num_iterations", "settings"),
    [
        (15, {"memory": "lstm"}),
        (12, {"memory": "transformer", "memory_size": 32, "num_layers": 1, "learning_rate": 2e-3}),
        (15, {"head": "hypernetwork"}),
        (15, {"optimizer": "trpo"}),
    ],
    ids=["lstm", "transformer", "hypernetwork", "trpo"],
)
def test_every_memory_head_and_optimizer_learns_bandits(num_iterations, settings):
    """Measured: 6.1, where 5.0 is the return without a memory."""
    evaluation = trained(Bandit("n10-k5"), num_iterations, seed=0, **settings)
    assert last(evaluation) > float(evaluation.reference("random").mean()) + 0.7
    assert last(evaluation) > 5.7


ACTOR: dict[str, Any] = {
    "memory": "lstm",
    "encoder_sizes": (64,),
    "hidden_sizes": (64,),
    "gae_lambda": 0.9,
    "normalize_observations": True,
}


@pytest.mark.parametrize(
    ("variant", "num_iterations", "least", "margin"),
    [
        ("easy", 20, 78, 25),
        ("medium", 40, 70, 18),
        ("hard", 40, 55, 4),
        ("uniform", 40, 70, 18),
        ("independent", 40, 61, 9),
    ],
)
def test_two_arms_are_learned_whether_or_not_they_are_dependent(
    variant, num_iterations, least, margin
):
    """Measured on seeds 0, 1 and 2, of 100 pulls: 82 to 88 easy, 73.5 to 73.9 medium, 56.9 to 57.3
    hard, 72.9 to 74.5 uniform, 63.3 to 64.8 independent. Random pulls and a policy without
    memory get 49.4 to 51.1; whoever knows the better arm gets 90, 75, 60, 75 and 66.7."""
    settings = {"memory": "lstm", "memory_size": 32, "meta_batch_size": 200, "gamma": 0.95}
    settings |= {"gae_lambda": 0.9, "learning_rate": 8e-3, "entropy_coefficient": 0.02}
    settings |= {"use_expected_rewards": True, "num_epochs": 2, "simpler_iterations": 5}
    family = make_family(f"DependentBandit:{variant}")
    margins = {"random": margin, "memoryless": margin}
    remembering = beats_simpler(family, num_iterations, margins, seed=0, **settings)
    assert last(remembering) > least


def test_the_informative_arm_is_pulled_first():
    """Measured on seeds 0, 1 and 2: 20.3 to 20.4 of 20.55. Trying new arms until the target is
    found gives 11.35 at most, random arms 7.1, a policy without memory 7.4."""
    settings = {"encoder_sizes": (64,), "gae_lambda": 1.0, "gamma": 1.0, "meta_batch_size": 500}
    settings |= {"learning_rate": 8e-3, "entropy_coefficient": 0.4, "anneal_iterations": 150}
    margins = {"random": 10, "memoryless": 10}
    family = make_family("ElevenArmBandit:wang16")
    remembering = beats_simpler(family, 150, margins, seed=0, simpler_iterations=20, **settings)
    assert last(remembering) > 18


def test_the_goal_of_a_grid_is_found_once_and_revisited():
    """Measured on seeds 0, 1 and 2: 2.4 to 2.9 in the first episode and 8.6 to 9.4 in the fourth,
    2.7 to 3.4 if each is forgotten, −.9 without memory, −1.1 at random. A known goal is worth
    11.1."""
    settings = {"num_episodes": 4, "gamma": 0.95, "gae_lambda": 0.95, "meta_batch_size": 250}
    settings |= {"num_epochs": 3, "entropy_coefficient": 0.02}
    margins = {"random": 8, "memoryless": 8, "cleared": 4}
    grid = make_family("GridNavigation:varibad")
    remembering = beats_simpler(grid, 30, margins, seed=0, **settings)
    assert last(remembering) > float(remembering.scores(0).mean()) + 4
    assert float(remembering.scores(0).mean()) > float(remembering.reference("random").mean()) + 2.5


def test_the_goal_of_a_dark_room_is_found_and_revisited():
    """Measured on goals never trained on: 66 to 69 in the third episode, 28 if each is forgotten,
    .7 without memory and at random."""
    settings = {**ACTOR, "num_episodes": 3, "meta_batch_size": 100, "num_epochs": 2}
    settings |= {"gamma": 0.98, "learning_rate": 4e-3, "entropy_coefficient": 0.03}
    margins = {"random": 30, "memoryless": 30, "cleared": 12}
    room = make_family("DarkRoom:dpt")
    remembering = beats_simpler(room, 35, margins, seed=0, **settings)
    assert last(remembering) > float(remembering.scores(0).mean()) + 12


def test_hidden_rewards_and_transitions_are_learned_over_ten_episodes():
    """Measured: the tenth episode earns 15 to 16 after 1.3 M steps, random actions 10, and so do
    policies without memory and with a cleared one, after 65 iterations as after 20."""
    settings = {"memory": "transformer", "include_previous_step": True, "num_episodes": 10}
    settings |= {"meta_batch_size": 200, "gamma": 0.9, "gae_lambda": 0.5, "num_epochs": 2}
    settings |= {"learning_rate": 1.5e-3, "entropy_coefficient": 0.09, "use_expected_rewards": True}
    margins = {"random": 3, "memoryless": 3, "cleared": 3}
    family = make_family("TabularMDP:rl2")
    remembering = beats_simpler(family, 65, margins, seed=0, simpler_iterations=20, **settings)
    assert last(remembering) > float(remembering.scores(0).mean()) + 2.5


CHEETAH = {**ACTOR, "num_episodes": 2, "meta_batch_size": 32, "initial_std": 0.6, "gamma": 0.97}
CHEETAH |= {"entropy_coefficient": 0.003, "num_tasks": 40}


def test_a_cheetah_learns_in_which_direction_to_run():
    """Measured on seeds 0, 1 and 2: 98, 67 and 126 in the second episode, random actions −10, −22
    and −7, policies without memory near 0 (−7 on seed 0).

    A cleared memory earns as much (99 and 86 in its two episodes, against 79 and 98): a few steps
    reveal the direction, so little is lost by exploring again in each episode of 200.
    """
    margins = {"random": 40, "memoryless": 40}
    family = make_family("HalfCheetahDir:varibad")
    remembering = beats_simpler(family, 16, margins, seed=0, learning_rate=2e-3, **CHEETAH)
    assert last(remembering) > 40


def test_a_cheetah_starts_to_run_at_the_target_speed():
    """Measured on seeds 0, 1 and 2: 124, 116 and 67 above random actions (−382, −356, −350).

    A memory does not help yet after 30 iterations, probably because most targets are still too
    fast: policies without one have −285, −271 and −244, policies with one −257, −240 and −283.
    """
    family = make_family("HalfCheetahVel:varibad")
    beats_simpler(family, 30, {"random": 40}, seed=0, learning_rate=4e-3, **CHEETAH)
