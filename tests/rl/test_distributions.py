"""Distributions against torch.distributions, autograd and the statistics of their samples."""

import math

import pytest
import torch
from torch import Tensor
from torch import distributions as reference

from metarl.rl.distributions import (
    Categorical,
    DiagonalGaussian,
    Distribution,
    MultiCategorical,
    sample_or_mode,
)

SHAPE = (2, 3, 4)  # tasks, envs, action dimensions or number of actions
SIZES = (2, 4, 3)  # options of each choice of a multi-discrete action


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def gaussian(seed: int) -> DiagonalGaussian:
    return DiagonalGaussian(randn(*SHAPE, seed=seed), 0.5 * randn(*SHAPE, seed=seed + 100))


def categorical(seed: int) -> Categorical:
    return Categorical(2 * randn(*SHAPE, seed=seed))


def multi_categorical(seed: int) -> MultiCategorical:
    return MultiCategorical(2 * randn(*SHAPE[:2], sum(SIZES), seed=seed), SIZES)


def with_outputs(like: Distribution, *outputs: Tensor) -> Distribution:
    """The same kind of distribution from other outputs."""
    if isinstance(like, MultiCategorical):
        return MultiCategorical(*outputs, like.sizes)
    return type(like)(*outputs)


def oracle(distribution: DiagonalGaussian | Categorical) -> reference.Distribution:
    if isinstance(distribution, Categorical):
        return reference.Categorical(logits=distribution.logits)
    std = distribution.log_std.exp().expand(distribution.mean.shape)
    return reference.Independent(reference.Normal(distribution.mean, std), 1)


def assert_equal(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


both = pytest.mark.parametrize("make", [gaussian, categorical])
every = pytest.mark.parametrize("make", [gaussian, categorical, multi_categorical])


@both
def test_log_prob_equals_the_reference(make):
    actions = make(1).sample(generator())
    assert_equal(make(0).log_prob(actions), oracle(make(0)).log_prob(actions))


@both
def test_entropy_equals_the_reference(make):
    assert_equal(make(0).entropy(), oracle(make(0)).entropy())


@both
def test_kl_from_is_the_divergence_of_the_old_distribution_from_the_new(make):
    new, old = make(0), make(1)
    assert_equal(new.kl_from(old), reference.kl_divergence(oracle(old), oracle(new)))


def test_kl_of_two_normals_is_the_hand_computed_one():
    # KL(N(1, 1) ‖ N(0, 2²)) = ln 2 + (1 + 1) / 8 − 1/2
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    new, old = DiagonalGaussian(zero, math.log(2) * one), DiagonalGaussian(one, zero)
    assert float(new.kl_from(old)) == pytest.approx(math.log(2) - 0.25, abs=1e-12)


def test_a_log_std_that_all_states_share_broadcasts():
    mean, log_std = randn(*SHAPE, seed=0), randn(1, 1, 4, seed=1)
    shared = DiagonalGaussian(mean, log_std)
    full = DiagonalGaussian(mean, log_std.expand(SHAPE))
    actions = randn(*SHAPE, seed=2)
    assert_equal(shared.log_prob(actions), full.log_prob(actions))
    assert_equal(shared.entropy(), full.entropy())
    assert_equal(shared.kl_from(gaussian(3)), full.kl_from(gaussian(3)))
    assert_equal(gaussian(3).kl_from(shared), gaussian(3).kl_from(full))
    assert_equal(shared.sample(generator(4)), full.sample(generator(4)))


@every
def test_fisher_metric_is_the_hessian_of_the_kl_in_the_outputs(make):
    old = make(0)

    def total_kl(*outputs: Tensor) -> Tensor:
        return with_outputs(old, *outputs).kl_from(old).sum()

    tangents = tuple(randn(*o.shape, seed=10 + k) for k, o in enumerate(old.outputs))
    _, expected = torch.autograd.functional.hvp(total_kl, old.outputs, tangents)
    for got, exact in zip(old.fisher_metric(tangents), expected, strict=True):
        assert exact.abs().max() > 0.1
        torch.testing.assert_close(got, exact, rtol=1e-9, atol=1e-9)


def test_normal_samples_have_the_mean_variance_and_independence_of_the_distribution():
    count, mean, std = 40_000, torch.tensor([-1.0, 2.0]), torch.tensor([0.5, 3.0])
    distribution = DiagonalGaussian(
        mean.double().expand(count, 2), std.double().log().expand(count, 2)
    )
    standardized = (distribution.sample(generator()) - mean) / std
    bound = 5 / math.sqrt(count)  # five standard errors
    assert standardized.mean(0).abs().max() < bound
    assert (standardized.square().mean(0) - 1).abs().max() < math.sqrt(2) * bound
    assert standardized.prod(-1).mean().abs() < bound
    assert (standardized.pow(4).mean(0) - 3).abs().max() < math.sqrt(96) * bound


def test_categorical_samples_have_the_frequencies_of_the_distribution():
    count, probs = 40_000, torch.tensor([0.6, 0.05, 0.3, 0.05], dtype=torch.float64)
    logits = (probs.log() + 7).expand(count, 4)  # a common shift changes nothing
    samples = Categorical(logits).sample(generator())
    assert samples.dtype == torch.int64
    frequencies = torch.bincount(samples, minlength=4) / count
    assert ((frequencies - probs).abs() < 5 * (probs * (1 - probs) / count).sqrt()).all()


def test_no_value_of_the_uniform_noise_selects_an_impossible_action(monkeypatch):
    """torch.rand is exactly 0 once in 2²⁴ numbers."""
    monkeypatch.setattr(
        torch, "rand", lambda shape, **kinds: torch.zeros(shape, dtype=kinds["dtype"])
    )
    for dtype in (torch.float32, torch.float64):
        logits = torch.tensor([-math.inf, 0.0, -60.0], dtype=dtype)
        assert Categorical(logits).sample(generator()) == 1


def test_categorical_samples_of_neighboring_entries_are_independent():
    pairs = Categorical(torch.zeros(40_000, 2, 2)).sample(generator()).double() - 0.5
    assert 4 * pairs.prod(-1).mean().abs() < 5 / math.sqrt(40_000)


@both
def test_the_same_generator_seed_gives_the_same_samples(make):
    distribution = make(0)
    first = distribution.sample(generator(5))
    assert torch.equal(first, distribution.sample(generator(5)))
    assert not torch.equal(first, distribution.sample(generator(6)))
    assert first.shape == oracle(distribution).batch_shape + oracle(distribution).event_shape


@every
def test_the_mode_has_the_highest_density(make):
    distribution = make(0)
    at_mode = distribution.log_prob(distribution.mode())
    for seed in range(20):
        assert (at_mode >= distribution.log_prob(distribution.sample(generator(seed)))).all()


@every
def test_a_detached_distribution_is_the_same_without_a_graph(make):
    outputs = tuple(o.requires_grad_() for o in make(0).outputs)
    attached = with_outputs(make(0), *outputs)
    assert all(o.requires_grad for o in attached.outputs)
    for got, exact in zip(attached.detach().outputs, outputs, strict=True):
        assert not got.requires_grad
        assert torch.equal(got, exact)


@every
def test_gradients_of_log_prob_agree_with_finite_differences(make):
    actions = make(1).sample(generator())
    outputs = tuple(o.requires_grad_() for o in make(0).outputs)
    assert torch.autograd.gradcheck(lambda *o: with_outputs(make(0), *o).log_prob(actions), outputs)


# Several choices at once.


def choices(distribution: MultiCategorical) -> list[reference.Categorical]:
    """Torch's distribution of each choice."""
    return [reference.Categorical(logits=part) for part in distribution.logits.split(SIZES, -1)]


def test_independent_choices_add_up():
    new, old = multi_categorical(0), multi_categorical(1)
    actions = old.sample(generator())
    parts, others = choices(new), choices(old)
    log_probs = [part.log_prob(actions[..., k]) for k, part in enumerate(parts)]
    assert_equal(new.log_prob(actions), torch.stack(log_probs).sum(0))
    assert_equal(new.entropy(), torch.stack([part.entropy() for part in parts]).sum(0))
    divergences = [
        reference.kl_divergence(other, part) for part, other in zip(parts, others, strict=True)
    ]
    assert_equal(new.kl_from(old), torch.stack(divergences).sum(0))


def test_one_choice_is_a_categorical():
    logits, tangent = randn(*SHAPE, seed=0), randn(*SHAPE, seed=1)
    one, many = Categorical(logits), MultiCategorical(logits, (4,))
    actions = one.sample(generator())
    assert torch.equal(many.sample(generator()).squeeze(-1), actions)
    assert_equal(many.log_prob(actions.unsqueeze(-1)), one.log_prob(actions))
    assert_equal(many.fisher_metric((tangent,))[0], one.fisher_metric((tangent,))[0])


def test_samples_of_several_choices_have_their_joint_frequencies():
    count = 40_000
    probs = [torch.tensor(p, dtype=torch.float64) for p in ([0.9, 0.1], [0.2, 0.5, 0.3])]
    logits = torch.cat([p.log() for p in probs]).expand(count, 5)
    samples = MultiCategorical(logits, (2, 3)).sample(generator())
    assert samples.dtype == torch.int64
    assert samples.shape == (count, 2)
    joint = torch.outer(*probs).flatten()
    frequencies = torch.bincount(3 * samples[:, 0] + samples[:, 1], minlength=6) / count
    assert ((frequencies - joint).abs() < 5 * (joint * (1 - joint) / count).sqrt()).all()


def test_the_mode_of_several_choices_is_that_of_each():
    logits = torch.tensor([[0.0, 1.0, 5.0, -1.0, 4.0], [2.0, 1.0, 0.0, 3.0, -4.0]])
    assert MultiCategorical(logits, (2, 3)).mode().tolist() == [[1, 0], [0, 1]]


# Samples or modes.


@every
def test_sample_or_mode_takes_the_mode_where_requested_and_samples_elsewhere(make):
    distribution = make(0)
    wanted = torch.tensor([[True, False, False], [False, True, False]])
    actions = sample_or_mode(distribution, wanted, generator(5))
    assert torch.equal(actions[wanted], distribution.mode()[wanted])
    assert torch.equal(actions[~wanted], distribution.sample(generator(5))[~wanted])


@every
def test_sample_or_mode_is_either_if_all_request_the_same(make):
    distribution = make(0)
    everywhere = torch.ones(2, 3, dtype=torch.bool)
    sample = distribution.sample(generator(5))
    assert torch.equal(sample_or_mode(distribution, ~everywhere, generator(5)), sample)
    source = generator(5)
    assert torch.equal(sample_or_mode(distribution, everywhere, source), distribution.mode())
    assert torch.equal(distribution.sample(source), sample)  # the modes used no random numbers
