"""The perceptron: by hand, and all tasks at once against a loop over tasks."""

import math

import pytest
import torch
from torch import Tensor

from metarl.nn.mlp import activation_function, init_mlp, mlp

SIZES = (3, 7, 5, 2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def task_params(num_tasks: int) -> dict[str, Tensor]:
    """Separate parameters for every task, nonzero biases, float64."""
    single = [init_mlp(SIZES, generator(seed)) for seed in range(num_tasks)]
    stacked = {name: torch.stack([p[name] for p in single]).double() for name in single[0]}
    noise = generator(99)
    return {
        name: p + 0.1 * torch.randn(p.shape, generator=noise, dtype=torch.float64)
        for name, p in stacked.items()
    }


def test_outputs_are_the_hand_computed_ones():
    params = {
        "weight_0": torch.tensor([[1.0, 2.0], [3.0, -1.0]]),
        "bias_0": torch.tensor([0.5, -4.0]),
        "weight_1": torch.tensor([[2.0, 10.0]]),
        "bias_1": torch.tensor([-1.0]),
    }
    # [1, 1] ↦ [3.5, −2] ↦ relu [3.5, 0] ↦ 6;   [2, 0] ↦ [2.5, 2] ↦ 24;   [−1, 0] ↦ 0 ↦ −1
    outputs = mlp(params, torch.tensor([[1.0, 1.0], [2.0, 0.0], [-1.0, 0.0]]), torch.relu)
    assert outputs.tolist() == [[6.0], [24.0], [-1.0]]


def test_a_perceptron_without_hidden_layers_is_linear():
    params = {"weight_0": torch.tensor([[2.0]]), "bias_0": torch.tensor([-1.0])}
    assert mlp(params, torch.tensor([[-3.0]]), torch.relu).tolist() == [[-7.0]]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_all_tasks_at_once_equal_a_loop_over_tasks(activation):
    params, function = task_params(4), activation_function(activation)
    inputs = torch.randn(4, 6, 3, generator=generator(1), dtype=torch.float64)
    expected = torch.stack(
        [mlp({k: p[i] for k, p in params.items()}, inputs[i], function) for i in range(4)]
    )
    torch.testing.assert_close(mlp(params, inputs, function), expected, rtol=1e-12, atol=1e-14)


def test_changing_one_task_leaves_the_others_bitwise_equal():
    params = task_params(3)
    inputs = torch.randn(3, 6, 3, generator=generator(1), dtype=torch.float64)
    changed = {name: p.clone() for name, p in params.items()}
    changed["weight_1"][1] += 1
    before, after = mlp(params, inputs, torch.tanh), mlp(changed, inputs, torch.tanh)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])


def test_gradients_agree_with_finite_differences_with_and_without_a_task_axis():
    params = {name: p.requires_grad_() for name, p in task_params(2).items()}
    inputs = torch.randn(2, 4, 3, generator=generator(1), dtype=torch.float64)
    names = list(params)

    def outputs(*values: Tensor) -> Tensor:
        return mlp(dict(zip(names, values, strict=True)), inputs, torch.tanh)

    assert torch.autograd.gradcheck(outputs, tuple(params.values()))
    single = {name: p[0].detach().requires_grad_() for name, p in params.items()}
    (gradient,) = torch.autograd.grad(
        mlp(single, inputs[0], torch.tanh).sum(), [single["weight_0"]]
    )
    (row,) = torch.autograd.grad(outputs(*params.values())[0].sum(), [params["weight_0"]])
    torch.testing.assert_close(gradient, row[0], rtol=1e-12, atol=1e-14)
    assert not row[1].any()


@pytest.mark.parametrize(
    ("scheme", "weight_bound", "bias_bound"),
    [("glorot", math.sqrt(6 / 100), 0.0), ("fan_in", 1 / math.sqrt(40), 1 / math.sqrt(40))],
)
def test_initial_parameters_fill_the_interval_of_the_scheme(scheme, weight_bound, bias_bound):
    params = init_mlp((40, 60, 2), generator(), scheme=scheme)
    assert {name: tuple(p.shape) for name, p in params.items()} == {
        "weight_0": (60, 40), "bias_0": (60,), "weight_1": (2, 60), "bias_1": (2,),
    }  # fmt: skip
    for name, bound, share in (("weight_0", weight_bound, 0.99), ("bias_0", bias_bound, 0.9)):
        values = params[name]
        assert values.abs().max() <= bound
        assert values.min() <= -share * bound
        assert values.max() >= share * bound
        # five standard errors of the mean of U(−b, b)
        assert abs(values.mean()) <= 5 * bound / math.sqrt(3 * values.numel())


def test_weights_are_glorots_by_default():
    plain, glorot = init_mlp(SIZES, generator()), init_mlp(SIZES, generator(), scheme="glorot")
    assert all(torch.equal(plain[name], glorot[name]) for name in plain)


def test_the_generator_alone_determines_the_initial_parameters():
    first, second, other = (init_mlp(SIZES, generator(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["weight_0"], other["weight_0"])


def test_an_unknown_activation_is_rejected():
    with pytest.raises(ValueError, match="activation must be one of relu, tanh, got 'gelu'"):
        activation_function("gelu")
