"""CartPole and Pendulum masses: one step by hand, Gymnasium's own steps, and the oracles."""

import math

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.envs import make_family
from metarl.envs.classic_control import CartPoleMass, PendulumMass, pendulum_torques
from metarl.rollouts.episodes import collect

FAMILIES = [CartPoleMass, PendulumMass]


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request):
    made = request.param("rllib")
    made.num_workers = 0
    return made


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def reset_batch(family, tasks, num_envs: int = 1):
    family.num_workers = 0
    batch = family.make_batch(tasks, num_envs=num_envs)
    return batch, batch.reset(generator())


def random_actor(family):
    family.action_space.seed(0)
    draw = family.action_space.sample

    def act(observations: Tensor) -> Tensor:
        batch_shape = observations.shape[:2]
        sampled = np.array([draw() for _ in range(batch_shape.numel())])
        return torch.from_numpy(sampled).reshape(*batch_shape, *sampled.shape[1:])

    return act


def test_one_step_of_cart_and_pole_is_as_computed_by_hand():
    cart, pole, gravity, half_length, dt = 2.0, 0.2, 9.8, 0.5, 0.02
    batch, start = reset_batch(CartPoleMass("rllib"), [[cart, pole]])
    x, v, angle, spin = start[0, 0].double().tolist()
    got = batch.step(torch.ones(1, 1, dtype=torch.int64)).observations[0, 0]
    total = cart + pole
    pushed = (10.0 + pole * half_length * spin**2 * math.sin(angle)) / total
    turning = gravity * math.sin(angle) - math.cos(angle) * pushed
    turning /= half_length * (4 / 3 - pole * math.cos(angle) ** 2 / total)
    moving = pushed - pole * half_length * turning * math.cos(angle) / total
    expected = [x + dt * v, v + dt * moving, angle + dt * spin, spin + dt * turning]
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5)


def test_one_step_of_the_pendulum_is_as_computed_by_hand():
    mass, torque = 0.5, -1.5
    batch, start = reset_batch(PendulumMass("rllib"), [[mass]])
    cosine, sine, velocity = start[0, 0].double().tolist()
    step = batch.step(torch.full((1, 1, 1), torque))
    angle = math.atan2(sine, cosine)
    reward = -(angle**2 + 0.1 * velocity**2 + 0.001 * torque**2)
    assert float(step.rewards) == pytest.approx(reward, rel=1e-5)
    faster = velocity + (15.0 * sine + 3 / mass * torque) * 0.05
    turned = angle + faster * 0.05
    np.testing.assert_allclose(
        step.observations[0, 0].numpy(), [math.cos(turned), math.sin(turned), faster], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("family_class", "middle", "env_id"),
    [(CartPoleMass, [1.0, 0.1], "CartPole-v1"), (PendulumMass, [1.0], "Pendulum-v1")],
)
def test_the_masses_of_gymnasium_give_gymnasiums_episodes(family_class, middle, env_id):
    batch, start = reset_batch(family_class("rllib"), [middle])
    env = gymnasium.make(env_id)
    seed = int(torch.randint(2**31, (1,), generator=generator()))
    assert np.array_equal(env.reset(seed=seed)[0], start[0, 0].numpy())
    act = random_actor(family_class("rllib"))
    for _ in range(500):
        actions = act(start)
        step = batch.step(actions)
        seen, reward, terminated, truncated, _ = env.step(actions[0, 0].numpy())
        assert np.array_equal(seen, step.observations[0, 0].numpy())
        assert np.float32(reward) == step.rewards[0, 0].numpy()
        assert (terminated, truncated) == (bool(step.terminated), bool(step.truncated))
        if terminated or truncated:
            break
    assert terminated or truncated


@pytest.mark.parametrize(
    ("family_class", "tasks"),
    [
        (CartPoleMass, [[0.5, 0.1], [2.0, 0.1]]),  # RLlib's own cart mass changes nothing
        (CartPoleMass, [[1.0, 0.05], [1.0, 0.2]]),
        (PendulumMass, [[0.5], [2.0]]),
    ],
)
def test_other_masses_move_differently(family_class, tasks):
    batches = [reset_batch(family_class("rllib"), [task]) for task in tasks]
    (first, start), (second, same_start) = batches
    assert torch.equal(start, same_start)
    action = torch.ones(1, 1, *first.action_space.shape)
    steps = [batch.step(action).observations for batch in (first, second)]
    assert not torch.allclose(*steps, rtol=1e-4, atol=0)


def test_variants_have_the_parameters_of_their_source():
    cart_pole, pendulum = make_family("CartPoleMass:rllib"), make_family("PendulumMass:rllib")
    assert cart_pole.task_space.low.tolist() == [0.5, 0.05]
    assert cart_pole.task_space.high.tolist() == [2.0, 0.2]
    assert (pendulum.task_space.low.item(), pendulum.task_space.high.item()) == (0.5, 2.0)
    assert (cart_pole.horizon, pendulum.horizon) == (500, 200)
    with pytest.raises(ValueError, match="variant of CartPoleMass must be one of rllib, got 'x'"):
        CartPoleMass("x")


def test_the_oracle_beats_random_actions_on_every_task(family):
    edges = np.stack([family.task_space.low, family.task_space.high])
    tasks = np.concatenate([edges, family.sample_tasks(10, split="test", seed=0)])
    batch = family.make_batch(tasks, num_envs=2)
    oracle = collect(batch, lambda _: batch.oracle_actions(), generator())
    random_play = collect(batch, random_actor(family), generator())
    assert (oracle.returns.min(-1).values > random_play.returns.max(-1).values).all()
    if isinstance(family, CartPoleMass):
        assert (oracle.returns == 500).all()
        assert random_play.returns.mean() < 60
    else:
        assert oracle.returns.mean() > -250
        assert random_play.returns.mean() < -900
        upright = oracle.observations[:, :, -1, 0]
        assert (upright > 0.99).all()


def test_torques_of_the_pendulum_oracle_are_as_computed_by_hand():
    def torque(angle: float, velocity: float, mass: float) -> float:
        seen = torch.tensor([math.cos(angle), math.sin(angle), velocity], dtype=torch.float64)
        return float(pendulum_torques(seen, torch.tensor(mass, dtype=torch.float64)))

    held = -(15 * math.sin(0.05) + 10 * 0.05 - 6 * 0.1) / 3
    assert torque(0.05, -0.1, 1.0) == pytest.approx(held)
    assert torque(0.05, -0.1, 0.5) == pytest.approx(held / 2)
    assert torque(math.pi, 1.0, 1.0) == 2.0  # hanging: energy is added
    assert torque(math.pi, -1.0, 1.0) == -2.0
    assert torque(math.pi, 7.8, 1.0) == pytest.approx(-2 * (0.5 * 7.8**2 - 30))  # slightly too fast
    assert torque(0.4, 8.0, 2.0) == -2.0  # clipped
