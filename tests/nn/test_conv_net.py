"""The convolutional net of all tasks is torch's layers, task by task; so are its derivatives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from metarl.nn.batch_norm import batch_moments, folds, normalize, normalized_convolution
from metarl.nn.conv_net import ConvNet
from metarl.nn.convolution import convolve, fold_patches, patches
from metarl.parameters import Params

SHAPE, FILTERS, TASKS, POINTS = (2, 9, 8), (5, 4), 3, 5  # 5: more than fold into their norm
NETS: dict[str, dict[str, Any]] = {
    "max": {"pooling": "max"},
    "stride": {"pooling": "stride"},
    "pooled once": {"pooling": "max", "num_pooled": 1},
}
nets = pytest.mark.parametrize("settings", NETS.values(), ids=NETS)
owners = pytest.mark.parametrize("own", [False, True], ids=["shared", "each task's own"])
strides = pytest.mark.parametrize("stride", [1, 2])


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


# Patches and convolutions.


@strides
@pytest.mark.parametrize("size", [(5, 4), (1, 1), (2, 7)])
def test_patches_are_torchs(stride: int, size: tuple[int, int]) -> None:
    maps = normal(2, *size, 3)
    found = patches(maps, stride).unflatten(-1, (9, 3)).movedim(-1, -2)  # channel, then place
    theirs = functional.unfold(maps.movedim(-1, 1), 3, padding=1, stride=stride).mT
    torch.testing.assert_close(found.flatten(1, 2).flatten(-2), theirs)


@strides
def test_folding_is_the_transpose_of_laying_out(stride: int) -> None:
    maps = normal(2, 5, 6, 3)
    rows = normal(*patches(maps, stride).shape, seed=1)
    left = (patches(maps, stride) * rows).sum()
    torch.testing.assert_close(left, (maps * fold_patches(rows, (5, 6), stride)).sum())


@strides
def test_convolutions_are_torchs_with_the_kernel_of_each_task(stride: int) -> None:
    maps, kernels = normal(TASKS, POINTS, 7, 6, 2), normal(TASKS, 4, 2, 3, 3, seed=1)
    found = convolve(maps, kernels, stride)
    for k in range(TASKS):
        theirs = functional.conv2d(maps[k].movedim(-1, 1), kernels[k], stride=stride, padding=1)
        torch.testing.assert_close(found[k], theirs.movedim(1, -1))
        torch.testing.assert_close(convolve(maps, kernels[k], stride)[k], found[k])


@strides
def test_derivatives_of_convolutions_are_finite_differences(stride: int) -> None:
    maps = normal(2, 2, 4, 3, 2).requires_grad_()
    kernels = normal(2, 2, 2, 3, 3, seed=1).requires_grad_()

    def convolved(*both: Tensor) -> Tensor:
        return convolve(*both, stride)

    assert torch.autograd.gradcheck(convolved, (maps, kernels))
    assert torch.autograd.gradgradcheck(convolved, (maps, kernels))


# Convolutions of few channels, with their batch norm in one product.


@strides
@owners
@pytest.mark.parametrize("counted", [False, True], ids=["all points", "some points"])
def test_a_norm_in_the_product_is_the_norm_after_it(stride: int, own: bool, counted: bool) -> None:
    batch_shape = (TASKS,) if own else ()
    maps, kernels = 3 + normal(TASKS, POINTS, 7, 6, 2), normal(*batch_shape, 4, 2, 3, 3, seed=1)
    scale, offset = normal(*batch_shape, 4, seed=2), normal(*batch_shape, 4, seed=3)
    counts = (torch.arange(POINTS) < torch.tensor([[1], [3], [4]])) if counted else None
    found = normalized_convolution(maps, kernels, scale, offset, stride=stride, counts=counts)
    convolved = convolve(maps, kernels, stride)
    moments = batch_moments(convolved, counts)
    torch.testing.assert_close(found.moments, moments)
    torch.testing.assert_close(found.maps, normalize(convolved, moments, scale, offset))


def test_derivatives_of_normalized_convolutions_are_finite_differences() -> None:
    maps, kernels = normal(2, 2, 4, 3, 1), normal(2, 2, 1, 3, 3, seed=1)
    scale, offset = normal(2, 2, seed=2), normal(2, 2, seed=3)
    inputs = [part.requires_grad_() for part in (maps, kernels, scale, offset)]

    def normalized(*parts: Tensor) -> Tensor:
        return normalized_convolution(*parts, stride=1).maps

    assert torch.autograd.gradcheck(normalized, inputs)
    assert torch.autograd.gradgradcheck(normalized, inputs)


def test_images_without_any_ink_give_the_offset() -> None:
    maps, offset = torch.ones(1, 2, 5, 5, 1), torch.tensor([1.0, -2.0])
    kernels = torch.zeros(2, 1, 3, 3)
    kernels[..., 1, 1] = 1.0  # the middle alone, which is one everywhere
    found = normalized_convolution(maps, kernels, torch.ones(2), offset, stride=1)
    torch.testing.assert_close(found.maps, offset.expand_as(found.maps))


# The net.


def sampled(settings: dict[str, Any], own: bool) -> tuple[ConvNet, Params, Tensor]:
    """A net, parameters of all tasks or of each, and inputs, in float64."""
    net = ConvNet(SHAPE, 5, FILTERS, **settings)
    batch_shape = (TASKS,) if own else ()
    initial = net.init(torch.Generator().manual_seed(0))
    params = {n: normal(*batch_shape, *p.shape, seed=k) for k, (n, p) in enumerate(initial.items())}
    return net, params, normal(TASKS, POINTS, *SHAPE, seed=99)


def of_task(params: Params, task: int, own: bool) -> Params:
    return {name: p[task] if own else p for name, p in params.items()}


def by_layers(net: ConvNet, params: Params, inputs: Tensor) -> Tensor:
    """Logits of one task's inputs [points, C, H, W] by torch's layers."""
    maps = inputs
    for k in range(len(FILTERS)):
        pooled = net.num_pooled is None or k < net.num_pooled
        stride = 2 if net.pooling == "stride" and pooled else 1
        maps = functional.conv2d(maps, params[f"weight_{k}"], stride=stride, padding=1)
        scale, offset = params[f"scale_{k}"][0], params[f"offset_{k}"][0]
        mean, variance = (params.get(f"running_{kind}_{k}") for kind in ("mean", "variance"))
        maps = functional.batch_norm(maps, mean, variance, scale, offset, training=mean is None)
        maps = torch.relu(maps)
        if net.pooling == "max" and pooled:
            maps = functional.max_pool2d(maps, 2)
    features = maps.mean((-2, -1)) if net.pooling == "stride" else maps.flatten(1)
    return functional.linear(features, params["head_weight"], params["head_bias"])


@nets
@owners
def test_logits_and_gradients_are_those_of_torchs_layers(settings: Any, own: bool) -> None:
    net, params, inputs = sampled(settings, own)
    for p in params.values():
        p.requires_grad_()
    found = net.logits(params, inputs)
    wanted = torch.stack([by_layers(net, of_task(params, k, own), inputs[k]) for k in range(TASKS)])
    torch.testing.assert_close(found, wanted)
    weights = normal(*found.shape, seed=1)
    one, other = (
        torch.autograd.grad((logits * weights).sum(), list(params.values()))
        for logits in (found, wanted)
    )
    for name, a, b in zip(params, one, other, strict=True):
        torch.testing.assert_close(a, b, msg=name)


@nets
@owners
def test_kept_statistics_replace_those_of_the_points(settings: Any, own: bool) -> None:
    net, params, inputs = sampled(settings, own)
    batch_shape = (TASKS, 1) if own else (1,)
    for k, channels in enumerate(FILTERS):
        kept = torch.linspace(-1, 1, channels, dtype=torch.float64)
        params[f"running_mean_{k}"] = kept.repeat(*batch_shape)
        params[f"running_variance_{k}"] = (kept + 2).repeat(*batch_shape)
    found = net.logits(params, inputs)
    for k in range(TASKS):
        wanted = by_layers(net, of_task(params, k, own), inputs[k])
        torch.testing.assert_close(found[k], wanted)


@nets
@owners
def test_points_that_do_not_count_leave_the_others_as_they_were(settings: Any, own: bool) -> None:
    net, params, inputs = sampled(settings, own)
    counts = torch.ones(TASKS, POINTS, dtype=torch.bool)
    counts[:, -1] = False
    found = net.features(params, inputs, counts)[:, :-1]
    torch.testing.assert_close(found, net.features(params, inputs[:, :-1]))
    assert not torch.allclose(found, net.features(params, inputs)[:, :-1])


@owners
def test_statistics_are_of_what_each_convolution_gives(own: bool) -> None:
    net, params, inputs = sampled(NETS["max"], own)
    found = net.statistics(params, inputs)
    assert {name: tuple(p.shape) for name, p in found.items()} == {
        f"running_{kind}_{k}": (TASKS, channels)
        for k, channels in enumerate(FILTERS)
        for kind in ("mean", "variance")
    }
    for task in range(TASKS):
        weight = of_task(params, task, own)["weight_0"]
        maps = functional.conv2d(inputs[task], weight, padding=1)
        variance, mean = torch.var_mean(maps, (0, 2, 3), correction=0)
        torch.testing.assert_close(found["running_mean_0"][task], mean)
        torch.testing.assert_close(found["running_variance_0"][task], variance)
    kept = net.features({**params, **found} if own else params, inputs)
    torch.testing.assert_close(kept, net.features(params, inputs))


def test_images_too_small_for_the_blocks_are_rejected() -> None:
    with pytest.raises(ValueError, match="filters must name fewer than 4 blocks for images of 9×8"):
        ConvNet(SHAPE, 5, (3, 3, 3, 3))


def test_a_context_modulates_pooled_maps() -> None:
    """As in CAVIA's code: with a negative factor, pooling afterwards would give other maps."""
    net = ConvNet((2, 8, 8), 3, (5, 4), "max", num_context=2)
    params = {k: p.double() for k, p in net.init(torch.Generator().manual_seed(0)).items()}
    params |= {"film_weight": normal(8, 2, seed=1), "context": normal(1, 2, seed=2)}
    params["film_bias"] = torch.tensor([-3.0] * 4 + [0.5] * 4, dtype=torch.float64)
    inputs = normal(1, POINTS, 2, 8, 8)
    maps = inputs[0]
    for k in range(2):
        maps = functional.conv2d(maps, params[f"weight_{k}"], padding=1)
        maps = functional.batch_norm(maps, None, None, training=True)
        maps = functional.max_pool2d(maps, 2)
        if k == 1:
            film = params["film_weight"] @ params["context"][0] + params["film_bias"]
            assert (film[:4] < -1).any()
            maps = maps * (1 + film[:4, None, None]) + film[4:, None, None]
        maps = torch.relu(maps)
    torch.testing.assert_close(net.maps(params, inputs)[0], maps)


# A loop over tasks, for large maps.


@nets
@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("is_running", [False, True])
def test_a_loop_over_tasks_gives_the_same_maps_statistics_and_gradients(
    monkeypatch, settings, is_masked, is_running
):
    net = ConvNet(SHAPE, 3, FILTERS, **settings)
    params = {k: p.double() for k, p in net.init(torch.Generator().manual_seed(0)).items()}
    own = {k: p + 0.1 * normal(TASKS, *p.shape, seed=i) for i, (k, p) in enumerate(params.items())}
    inputs = normal(TASKS, POINTS, *SHAPE)
    counts = torch.ones(TASKS, POINTS, dtype=torch.bool)
    counts[1, 2:] = False
    mask = counts if is_masked else None
    if is_running:
        own |= {k: v.mean(0) for k, v in net.statistics(own, inputs).items()}
    found = []
    for smallest in (10**12, 0):
        monkeypatch.setattr("metarl.nn.conv_net._LOOP_FROM", smallest)
        leaves = {k: p.clone().requires_grad_() for k, p in own.items()}
        logits = net.logits(leaves, inputs, mask)
        kernels = [leaves["weight_0"], leaves["weight_1"]]
        first = torch.autograd.grad(logits.square().sum(), kernels, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), kernels)
        statistics = net.statistics(own, inputs, mask)
        assert all(each.shape[0] == TASKS for each in statistics.values())
        found.append([logits, *first, *second, *statistics.values()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_large_maps_go_through_a_loop_over_tasks(monkeypatch):
    """Where it is faster: photographs, not characters."""
    seen = []

    def noted(maps: Tensor, kernels: Tensor, stride: int) -> Tensor:
        seen.append(kernels.dim())
        return convolve(maps, kernels, stride)

    monkeypatch.setattr("metarl.nn.conv_net.convolve", noted)
    for shape, pooling, dims in (((3, 84, 84), "max", 4), ((1, 28, 28), "stride", 5)):
        net = ConvNet(shape, 5, (32, 32, 32, 32), pooling)
        params = net.init(torch.Generator().manual_seed(0))
        own = {k: p.expand(2, *p.shape) for k, p in params.items()}
        seen.clear()
        net.features(own, torch.randn(2, 5, *shape))
        assert set(seen) == {dims}


def test_folding_of_color_images_changes_no_maps() -> None:
    shape, seed = (3, 9, 8), torch.Generator().manual_seed(0)
    net, other = (ConvNet(shape, 3, FILTERS, is_first_order=each) for each in (False, True))
    params = {k: p.double() for k, p in net.init(seed).items()}
    own = {k: p + 0.1 * normal(TASKS, *p.shape, seed=1) for k, p in params.items()}
    maps = normal(1, POINTS, 9, 8, 3)
    assert folds(maps)
    assert not folds(maps, is_first_order=True)
    assert not folds(normal(1, 75, 84, 84, 3))
    assert folds(normal(1, 75, 84, 84, 1))
    inputs = normal(TASKS, POINTS, *shape)
    torch.testing.assert_close(net.maps(own, inputs), other.maps(own, inputs))
