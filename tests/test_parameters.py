"""Parameters as one vector and back."""

import pytest
import torch
from torch import Tensor

from metarl.parameters import flatten, unflatten


def params() -> dict[str, Tensor]:
    return {
        "weight": torch.arange(6.0, dtype=torch.float64).view(2, 3),
        "scale": torch.tensor(7.0, dtype=torch.float64),
        "bias": torch.tensor([8.0, 9.0], dtype=torch.float64),
    }


def test_entries_are_in_the_order_of_the_names_row_by_row():
    assert flatten(params()).tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9]


def test_flatten_and_unflatten_are_inverse():
    original = params()
    restored = unflatten(flatten(original), original)
    assert list(restored) == list(original)
    for name, value in original.items():
        assert torch.equal(restored[name], value)
        assert restored[name].shape == value.shape


def test_a_transposed_parameter_is_flattened_by_its_own_rows():
    transposed = {"weight": params()["weight"].T}
    assert flatten(transposed).tolist() == [0, 3, 1, 4, 2, 5]


def test_the_parts_are_views_of_the_vector():
    vector = flatten(params())
    unflatten(vector, params())["bias"][0] = -1.0
    assert vector[7] == -1.0


def test_gradients_pass_in_both_directions():
    leaves = {name: p.requires_grad_() for name, p in params().items()}
    restored = unflatten(2 * flatten(leaves), leaves)
    (gradient,) = torch.autograd.grad(restored["weight"].square().sum(), [leaves["weight"]])
    torch.testing.assert_close(gradient, 8 * params()["weight"])


def test_leading_axes_are_kept_and_each_entry_is_its_own_vector():
    stacked = {name: torch.stack([p, -p, 2 * p]) for name, p in params().items()}
    vectors = flatten(stacked, batch_dims=1)
    assert vectors.shape == (3, 9)
    assert torch.equal(vectors[2], 2 * flatten(params()))
    restored = unflatten(vectors, stacked, batch_dims=1)
    assert all(torch.equal(restored[name], p) for name, p in stacked.items())
    with pytest.raises(ValueError, match=r"vector must have shape \(3, 9\), got \(27,\)"):
        unflatten(vectors.flatten(), stacked, batch_dims=1)


@pytest.mark.parametrize("shape", [(8,), (10,), (9, 1), (1, 9)])
def test_a_vector_of_another_size_is_rejected(shape):
    with pytest.raises(ValueError, match=r"vector must have shape \(9,\), got \([\d, ]*\)"):
        unflatten(torch.zeros(shape), params())
