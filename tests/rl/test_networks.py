"""Networks of policies: convolutional nets and modules, with and without a task axis."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1] / "support"))

from pixel_families import OBSERVATIONS, OddObservations

from metarl.rl import networks
from metarl.rl.module_network import ModuleNetwork
from metarl.rl.networks import Network, PixelNetwork
from metarl.rl.policy_nets import chosen_policy_net, make_network, require_policy_net
from metarl.tasks.observations import find_images, flat_box


class Flat(nn.Module):
    """A factory: sums linear maps of all inputs."""

    def __init__(self, space: spaces.Space[Any], num_outputs: int) -> None:
        super().__init__()
        parts = space.spaces if isinstance(space, spaces.Dict) else {"only": space}
        sizes = {name: int(np.prod(part.shape or ())) for name, part in parts.items()}
        self.parts = nn.ModuleDict(
            {name: nn.Linear(size, num_outputs) for name, size in sizes.items()}
        )

    def forward(self, inputs: Any) -> Tensor:
        named = inputs if isinstance(inputs, dict) else {"only": inputs}
        return sum(self.parts[name](x.flatten(1)) for name, x in named.items())


def made(kind: str, name: str) -> tuple[Network, int]:
    space = OBSERVATIONS[name]
    size, images = flat_box(space).shape[0], find_images(space)
    if kind == "module":
        return ModuleNetwork(Flat, size, images, 4), size
    return PixelNetwork(images, size, 4, (8,)), size


CASES = [
    ("cnn", "image"), ("cnn", "image and numbers"), ("cnn", "two images"),
    ("cnn", "grid of symbols"), ("module", "image"), ("module", "image and numbers"),
    ("module", "two images"), ("module", "unbounded"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_each_task_uses_its_own_parameters(kind, name):
    network, size = made(kind, name)
    tasks = [network.init(torch.Generator().manual_seed(k)) for k in range(3)]
    stacked = {key: torch.stack([params[key] for params in tasks]) for key in tasks[0]}
    observations = torch.rand(3, 2, 5, size)
    together = network.outputs(stacked, observations)
    assert together.shape == (3, 2, 5, 4)
    for k, params in enumerate(tasks):
        alone = network.outputs(params, observations[k])
        assert torch.allclose(together[k], alone, atol=1e-4)
        one = network.outputs(params, observations[k, 0, 0])
        assert torch.allclose(one, alone[0, 0], atol=1e-4)
    assert not torch.allclose(together[0], network.outputs(tasks[1], observations[0]))


@pytest.mark.parametrize("kind", ["cnn", "module"])
def test_initial_parameters_follow_from_the_generator_alone(kind):
    network, _ = made(kind, "image and numbers")
    before = torch.random.get_rng_state()
    first, same, other = (network.init(torch.Generator().manual_seed(k)) for k in (5, 5, 6))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("kind", ["cnn", "module"])
def test_chunks_without_gradients_give_the_same_outputs(kind, monkeypatch):
    network, size = made(kind, "image and numbers")
    params = network.init(torch.Generator().manual_seed(0))
    stacked = {name: p.expand(2, *p.shape) for name, p in params.items()}
    observations = torch.rand(2, 7, size)
    expected = network.outputs(stacked, observations)
    sizes: list[int] = []
    monkeypatch.setattr(networks, "_CHUNK", 6)
    if kind == "cnn":
        whole = PixelNetwork._outputs
        monkeypatch.setattr(
            PixelNetwork, "_outputs",
            lambda self, p, x: (sizes.append(x.shape[-2]), whole(self, p, x))[1],
        )  # fmt: skip
    with torch.no_grad():
        found = network.outputs(stacked, observations)
    assert torch.allclose(found, expected, atol=1e-6)
    assert sizes == ([3, 3, 1] if kind == "cnn" else [])


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_second_derivatives_of_each_task_are_correct(kind, name):
    network, size = made(kind, name)
    params = network.init(torch.Generator().manual_seed(0))
    observations = torch.rand(2, 3, size, dtype=torch.float64)
    leaves = {
        key: p.double().expand(2, *p.shape).clone().requires_grad_() for key, p in params.items()
    }

    def slope(shift: float) -> Tensor:
        """Derivative of the loss along all-ones, at parameters moved by `shift`."""
        moved = {key: p + shift for key, p in leaves.items()}
        loss = network.outputs(moved, observations).square().sum()
        grads = torch.autograd.grad(loss, list(moved.values()), create_graph=True)
        return sum(g.sum() for g in grads)

    curved = torch.autograd.grad(slope(0.0), list(leaves.values()), allow_unused=True)
    exact = sum(g.sum() for g in curved if g is not None)
    numeric = (slope(1e-8) - slope(-1e-8)) / 2e-8
    assert float(exact.detach()) == pytest.approx(float(numeric.detach()), rel=1e-3)


@pytest.mark.parametrize("kind", ["cnn", "module"])
def test_bytes_become_floats_for_one_chunk_at_a_time(kind, monkeypatch):
    space, sizes = OBSERVATIONS["image"], []
    size, images = flat_box(space).shape[0], find_images(space)

    def scaling(observations: Tensor) -> Tensor:
        sizes.append(observations.numel() // size)
        return observations.float() / 255

    made = {
        "cnn": lambda: PixelNetwork(images, size, 4, scaling=scaling),
        "module": lambda: ModuleNetwork(Flat, size, images, 4, scaling=scaling),
    }
    network = made[kind]()
    params = network.init(torch.Generator().manual_seed(0))
    pixels = torch.randint(0, 256, (5, 2, size), dtype=torch.uint8)
    expected = network.outputs(params, pixels)
    monkeypatch.setattr(networks, "_CHUNK", 4)
    sizes.clear()
    with torch.no_grad():
        assert torch.allclose(network.outputs(params, pixels), expected, atol=1e-5)
    assert sizes == [4, 4, 2]


def test_auto_chooses_by_the_images_of_the_observations():
    chosen = {name: chosen_policy_net("auto", OddObservations(name)) for name in OBSERVATIONS}
    cnn = {name for name, net in chosen.items() if net == "cnn"}
    assert cnn == {
        "image", "channels first", "gray image", "stack of frames", "float image",
        "image and numbers", "two images",
    }  # fmt: skip
    assert chosen_policy_net("mlp", OddObservations("image")) == "mlp"
    with pytest.raises(ValueError, match=r"must be mlp or module:factory .* no images, got cnn"):
        chosen_policy_net("cnn", OddObservations("unbounded"))


@pytest.mark.parametrize("name", ["conv", "", ":", "a:", ":b"])
def test_unknown_networks_are_rejected_with_the_choices(name):
    with pytest.raises(
        ValueError, match=r"policy_net must be one of auto, mlp, cnn, module:factory, got"
    ):
        require_policy_net(name)


def from_module(monkeypatch: pytest.MonkeyPatch, factory: Any, name: str = "make") -> Network:
    module = types.ModuleType("my_nets")
    module.make = factory  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_nets", module)
    return make_network(
        f"my_nets:{name}", observation_size=3, images=(), num_outputs=2, hidden_sizes=(),
        activation="relu",
    )  # fmt: skip


def test_a_factory_is_found_by_its_name(monkeypatch):
    network = from_module(monkeypatch, lambda space, n: nn.Linear(space.shape[0], n))
    params = network.init(torch.Generator())
    assert {name: tuple(p.shape) for name, p in params.items()} == {
        "module:weight": (2, 3), "module:bias": (2,),
    }  # fmt: skip


def failing(*_: Any) -> nn.Module:
    raise KeyError("no such layer")


FAULTS: dict[str, tuple[Callable[..., Any], str]] = {
    "raises": (failing, r"policy_net failed: failing\(.*\) raised KeyError: 'no such layer'"),
    "another object": (lambda *_: 3, r"policy_net must make a torch.nn.Module, got 3"),
    "dropout": (
        lambda s, n: nn.Sequential(nn.Linear(s.shape[0], n), nn.Dropout()),
        r"policy_net must make a module that can adapt: module part '1' drops random units",
    ),
    "outputs": (
        lambda s, n: nn.Linear(s.shape[0], n + 1),
        r"policy_net must return outputs of shape \(2, 2\) for 2 observations, got \(2, 3\)",
    ),
    "inputs": (lambda _, n: nn.Linear(7, n), r"policy_net failed on inputs of Box\(-inf, inf, \(3"),
}


@pytest.mark.parametrize(("factory", "message"), FAULTS.values(), ids=FAULTS)
def test_a_factory_that_does_not_fit_is_named_in_one_sentence(factory, message, monkeypatch):
    with pytest.raises(ValueError, match=message):
        from_module(monkeypatch, factory)


def test_a_factory_that_does_not_exist_is_named(monkeypatch):
    with pytest.raises(ValueError, match=r"policy_net must name a function or class .*, got 'mak'"):
        from_module(monkeypatch, Flat, "mak")
    with pytest.raises(ValueError, match=r"policy_net must .*mine"):
        make_network(
            "mine:make", observation_size=3, images=(), num_outputs=2, hidden_sizes=(),
            activation="relu",
        )  # fmt: skip
