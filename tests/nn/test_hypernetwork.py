"""The hypernetwork: a network for each sample, all the same at first."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from metarl.nn.hypernetwork import Hypernetwork
from metarl.nn.mlp import init_mlp, mlp

FEATURES = 4


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def fresh(network: Hypernetwork) -> dict[str, Tensor]:
    return {name: p.double() for name, p in network.init(generator(0)).items()}


def trained(network: Hypernetwork) -> dict[str, Tensor]:
    """Parameters with a dependence on the features, as after training."""
    params = fresh(network)
    return {**params, "weight": 0.5 * randn(*params["weight"].shape, seed=1)}


def generated(flat: Tensor, sizes: tuple[int, ...]) -> dict[str, Tensor]:
    """The vector θ as the perceptron's weights and biases in turn."""
    params, used = {}, 0
    for k, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        params[f"weight_{k}"] = flat[used : used + fan_in * fan_out].view(fan_out, fan_in)
        used += fan_in * fan_out
        params[f"bias_{k}"] = flat[used : used + fan_out]
        used += fan_out
    assert used == len(flat)
    return params


@pytest.mark.parametrize("sizes", [(3, 2), (3, 5, 2), (3, 5, 4, 2)])
@pytest.mark.parametrize("batch_shape", [(6,), (2, 3)])
def test_each_sample_goes_through_the_network_that_its_features_generate(sizes, batch_shape):
    network = Hypernetwork(FEATURES, sizes)
    params = trained(network)
    features, observations = randn(*batch_shape, FEATURES, seed=2), randn(*batch_shape, 3, seed=3)
    outputs = network.outputs(params, features, observations, torch.tanh)
    assert outputs.shape == (*batch_shape, 2)
    rows = zip(
        features.view(-1, FEATURES), observations.view(-1, 3), outputs.view(-1, 2), strict=True
    )
    for feature, observation, output in rows:
        own = generated(params["weight"] @ feature + params["bias"], sizes)
        expected = mlp(own, observation.unsqueeze(0), torch.tanh).squeeze(0)
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)


def test_at_first_the_network_is_an_ordinary_perceptron_whatever_the_features():
    network = Hypernetwork(FEATURES, (3, 5, 2))
    params, observations = fresh(network), randn(6, 3, seed=3)
    expected = mlp(
        {name: p.double() for name, p in init_mlp((3, 5, 2), generator(0)).items()},
        observations,
        torch.relu,
    )
    assert expected.abs().max() > 0.1
    for seed in (2, 4):
        outputs = network.outputs(params, randn(6, FEATURES, seed=seed), observations, torch.relu)
        torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)
    changed = trained(network)
    one, other = (
        network.outputs(changed, randn(6, FEATURES, seed=seed), observations, torch.relu)
        for seed in (2, 4)
    )
    assert (one - other).abs().max() > 0.1


def test_the_first_gradient_depends_on_the_features():
    """Zero weights are no dead end: their gradient is not zero."""
    network = Hypernetwork(FEATURES, (3, 5, 2))
    params = {name: p.requires_grad_() for name, p in fresh(network).items()}
    outputs = network.outputs(params, randn(6, FEATURES, seed=2), randn(6, 3, seed=3), torch.tanh)
    (gradient,) = torch.autograd.grad(outputs.square().sum(), params["weight"])
    assert (gradient.abs().amax(-1) > 1e-6).all()


def test_gradients_agree_with_finite_differences():
    network = Hypernetwork(FEATURES, (3, 5, 2))
    params = trained(network)
    leaves = (params["weight"], params["bias"], randn(6, FEATURES, seed=2), randn(6, 3, seed=3))

    def outputs(weight: Tensor, bias: Tensor, features: Tensor, observations: Tensor) -> Tensor:
        both = {"weight": weight, "bias": bias}
        return network.outputs(both, features, observations, torch.tanh)

    assert torch.autograd.gradcheck(outputs, tuple(leaf.requires_grad_() for leaf in leaves))


def test_the_last_layer_may_begin_small():
    network = Hypernetwork(FEATURES, (3, 5, 2))
    plain, small = network.init(generator(0)), network.init(generator(0), last_factor=0.01)
    assert torch.equal(plain["weight"], small["weight"])
    one, other = (generated(made["bias"], network.sizes) for made in (plain, small))
    assert torch.equal(other.pop("weight_1"), 0.01 * one.pop("weight_1"))
    assert all(torch.equal(other[name], one[name]) for name in one)
