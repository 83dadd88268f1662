"""The net of shared parameters gives what the net of one task gives, and the same gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from metarl.bilevel import Params
from metarl.fewshot.backbones import ConvNet
from metarl.fewshot.shared_conv import SharedConvNet

SHAPE, FILTERS = (2, 9, 8), (3, 4)
NETS: dict[str, dict[str, Any]] = {
    "max": {"pooling": "max"},
    "stride": {"pooling": "stride"},
    "pooled once": {"pooling": "max", "num_pooled": 1},
}
nets = pytest.mark.parametrize("settings", NETS.values(), ids=NETS)
many = pytest.mark.parametrize("num_tasks", [1, 3])
masks = pytest.mark.parametrize("masked", [False, True], ids=["all points", "some points"])


def drawn(settings: dict[str, Any], num_tasks: int) -> tuple[Params, Tensor, Tensor]:
    """Parameters, inputs and which points count, in float64."""
    chance = torch.Generator().manual_seed(0)
    params = ConvNet(SHAPE, 5, FILTERS, **settings).init(chance)
    params = {name: torch.randn(p.shape, generator=chance).double() for name, p in params.items()}
    inputs = torch.randn(num_tasks, 7, *SHAPE, generator=chance).double()
    counts = torch.rand(num_tasks, 7, generator=chance) < 0.7
    return params, inputs, counts


def both(settings: dict[str, Any], what: str, *arguments: Any) -> tuple[Any, Any]:
    """A function of both nets; that of one task is vectorised."""
    params, inputs, counts = arguments
    one, shared = ConvNet(SHAPE, 5, FILTERS, **settings), SharedConvNet(SHAPE, 5, FILTERS, **settings)
    axes = (None, 0, None if counts is None else 0)
    return (
        torch.func.vmap(getattr(one, what), axes)(params, inputs, counts),
        getattr(shared, what)(params, inputs, counts),
    )


@nets
@many
@masks
@pytest.mark.parametrize("what", ["maps", "features", "logits"])
def test_outputs_and_gradients_are_those_of_the_net_of_one_task(
    settings: dict[str, Any], num_tasks: int, masked: bool, what: str
) -> None:
    params, inputs, counts = drawn(settings, num_tasks)
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    one, shared = both(settings, what, leaves, inputs, counts if masked else None)
    torch.testing.assert_close(shared, one)
    weights = torch.randn(one.shape, generator=torch.Generator().manual_seed(1)).double()
    wanted, found = (
        torch.autograd.grad((out * weights).sum(), list(leaves.values()), allow_unused=True)
        for out in (one, shared)
    )
    for name, a, b in zip(leaves, wanted, found, strict=True):
        if a is None:
            assert b is None
        else:
            torch.testing.assert_close(b, a, msg=name)


@nets
@many
@masks
def test_statistics_are_those_of_each_task(
    settings: dict[str, Any], num_tasks: int, masked: bool
) -> None:
    params, inputs, counts = drawn(settings, num_tasks)
    one, shared = both(settings, "statistics", params, inputs, counts if masked else None)
    assert one.keys() == shared.keys()
    for name, values in one.items():
        torch.testing.assert_close(shared[name], values, msg=name)


@nets
def test_kept_statistics_replace_those_of_the_points(settings: dict[str, Any]) -> None:
    params, inputs, _ = drawn(settings, 3)
    kept = {}
    for k, channels in enumerate(FILTERS):
        kept[f"running_mean_{k}"] = torch.linspace(-1, 1, channels).double()
        kept[f"running_variance_{k}"] = torch.linspace(0.5, 2, channels).double()
    one, shared = both(settings, "features", params | kept, inputs, None)
    torch.testing.assert_close(shared, one)
    alone = SharedConvNet(SHAPE, 5, FILTERS, **settings).features(params | kept, inputs[:, :1])
    torch.testing.assert_close(alone, shared[:, :1])  # no point depends on the others
