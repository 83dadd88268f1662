"""Which modules become pure functions, which are rejected, and that the module is unchanged."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from metarl.nn.functional import functional_module

REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "batch norm 1d": (lambda: nn.BatchNorm1d(2), "updates running statistics"),
    "batch norm 2d": (lambda: nn.BatchNorm2d(2), "updates running statistics"),
    "instance norm 2d": (
        lambda: nn.InstanceNorm2d(2, affine=True, track_running_stats=True),
        "updates running statistics",
    ),
    "lstm": (lambda: nn.LSTM(2, 2), "fused recurrent layer"),
    "gru": (lambda: nn.GRU(2, 2), "fused recurrent layer"),
    "rnn": (lambda: nn.RNN(2, 2), "fused recurrent layer"),
    "attention": (lambda: nn.MultiheadAttention(2, 1), "fused attention"),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(2, 1, 4, 0.0), "fused attention"),
    "decoder layer": (lambda: nn.TransformerDecoderLayer(2, 1, 4, 0.0), "fused attention"),
    "dropout": (lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), "drops random unit"),
    "dropout 2d": (lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout2d()), "drops random units"),
    "alpha dropout": (
        lambda: nn.Sequential(nn.Linear(2, 2), nn.AlphaDropout()),
        "drops random units",
    ),
    "spectral norm by hook": (
        lambda: nn.utils.spectral_norm(nn.Linear(2, 2)),
        "reparametrizes its weights",
    ),
    "spectral norm": (
        lambda: parametrizations.spectral_norm(nn.Linear(2, 2)),
        "reparametrizes its weights",
    ),
    "weight norm": (
        lambda: parametrizations.weight_norm(nn.Linear(2, 2)),
        "reparametrizes its weights",
    ),
    "random slope": (lambda: nn.Sequential(nn.Linear(2, 2), nn.RReLU()), "use nn.LeakyReLU"),
    "random slope in evaluation": (
        lambda: nn.Sequential(nn.Linear(2, 2), nn.RReLU()).eval(),
        "not even in evaluation: use nn.LeakyReLU",
    ),
    "embedding bag": (lambda: nn.EmbeddingBag(3, 2), "has no second derivative: use nn.Embedding"),
    "hard sigmoid": (
        lambda: nn.Sequential(nn.Linear(2, 2), nn.Hardsigmoid()),
        "use nn.Sigmoid or nn.Hardtanh",
    ),
    "fractional pooling": (
        lambda: nn.Sequential(nn.Conv2d(1, 1, 1), nn.FractionalMaxPool2d(2, output_size=1)),
        "pools in random regions",
    ),
    "response norm over maps": (
        lambda: nn.Sequential(nn.Conv2d(1, 1, 1), nn.CrossMapLRN2d(1)),
        "use nn.LocalResponseNorm",
    ),
    "sparse embedding": (lambda: nn.Embedding(3, 2, sparse=True), "build it with sparse=False"),
    "embedding of a largest norm": (
        lambda: nn.Embedding(3, 2, max_norm=1.0),
        "build it with max_norm=None",
    ),
    "lazy linear": (lambda: nn.LazyLinear(2), "'LazyLinear' is lazy and has no parameters yet"),
    "lazy batch norm": (
        lambda: nn.Sequential(nn.Linear(2, 2), nn.LazyBatchNorm1d(track_running_stats=False)),
        "call the module on one batch of inputs first",
    ),
}

PERMITTED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "batch norm 1d in evaluation": (lambda: nn.BatchNorm1d(2).eval(), (3, 2)),
    "batch norm 2d in evaluation": (lambda: nn.BatchNorm2d(2).eval(), (3, 2, 4, 4)),
    "batch norm without statistics": (
        lambda: nn.BatchNorm1d(2, track_running_stats=False),
        (3, 2),
    ),
    "instance norm": (lambda: nn.InstanceNorm2d(2, affine=True), (3, 2, 4, 4)),
    "lstm cell": (lambda: nn.LSTMCell(2, 2), (3, 2)),
    "gru cell": (lambda: nn.GRUCell(2, 2), (3, 2)),
    "rnn cell": (lambda: nn.RNNCell(2, 2), (3, 2)),
    "dropout in evaluation": (
        lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).eval(),
        (3, 2),
    ),
    "dropout of nothing": (lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0)), (3, 2)),
    "linear": (lambda: nn.Linear(2, 2), (3, 2)),
    "response norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.LocalResponseNorm(2)),
        (3, 2, 4, 4),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_modules_that_adaptation_cannot_use_are_rejected(case):
    build, reason = REFUSED[case]
    with pytest.raises(ValueError, match=reason):
        functional_module(build())


def test_a_lazy_module_serves_once_it_has_seen_inputs():
    module = nn.LazyLinear(2)
    module(torch.ones(1, 3))
    assert functional_module(module)[1]["weight"].shape == (2, 3)


def test_an_embedding_is_adapted_for_several_tasks_at_once():
    apply, params = functional_module(nn.Embedding(3, 2, padding_idx=0))
    rows = torch.tensor([[0, 1], [2, 1]])

    def loss(values: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        return (apply(values, rows) ** 2).sum()

    gradients = torch.func.vmap(torch.func.grad(loss), (None, 0))(params, rows)["weight"]
    used = torch.tensor([[[0.0], [1.0], [0.0]], [[0.0], [1.0], [1.0]]])
    torch.testing.assert_close(gradients, 2 * used * params["weight"])


def test_a_rejected_part_is_named():
    with pytest.raises(ValueError, match=r"module part 'body\.1' drops random units"):
        functional_module(nn.ModuleDict({"body": nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))}))
    with pytest.raises(ValueError, match=r"module part 'GRU' is a fused recurrent layer"):
        functional_module(nn.GRU(2, 2))


def test_a_module_without_parameters_is_rejected():
    with pytest.raises(ValueError, match="module must have parameters to adapt, it has none"):
        functional_module(nn.Sequential(nn.Tanh(), nn.InstanceNorm2d(2)))


@pytest.mark.parametrize("case", PERMITTED)
def test_permitted_modules_give_the_same_outputs(case):
    build, shape = PERMITTED[case]
    module = build()
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = module(inputs)
    apply, params = functional_module(module)
    torch.testing.assert_close(apply(params, inputs), expected, rtol=0, atol=0)
    assert list(params) == [name for name, _ in module.named_parameters()]


def test_other_parameters_give_what_a_module_with_them_gives():
    apply, params = functional_module(nn.Linear(2, 1))
    values = {"weight": torch.tensor([[2.0, -3.0]]), "bias": torch.tensor([0.5])}
    outputs = apply(values, torch.tensor([[1.0, 1.0], [4.0, 2.0]]))
    assert outputs.tolist() == [[-0.5], [2.5]]
    assert params.keys() == values.keys()


def test_keywords_reach_the_module():
    apply, params = functional_module(nn.Bilinear(1, 1, 1, bias=False))
    values = {"weight": torch.full_like(params["weight"], 2.0)}
    assert apply(values, torch.ones(1, 1), input2=torch.full((1, 1), 5.0)).item() == 10


class Scaled(nn.Module):
    """A layer between two buffers, one of which its own pass would write."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("scale", torch.tensor(3.0))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs) * self.scale


def test_buffers_are_constants():
    module = Scaled()
    apply, params = functional_module(module)
    inputs = torch.ones(1, 2)
    before = apply(params, inputs)
    assert set(params) == {"layer.weight", "layer.bias"}
    torch.testing.assert_close(before, 3 * module.layer(inputs))
    module.scale.fill_(5.0)
    assert torch.equal(apply(params, inputs), before)


def test_the_module_stays_as_it_was():
    module = Scaled()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    apply, params = functional_module(module)
    for p in params.values():
        assert not p.requires_grad
        p.add_(1)
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    apply(leaves, torch.ones(1, 2)).sum().backward()
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert all(p.grad is not None for p in leaves.values())
    assert module.training


def test_tied_weights_stay_tied():
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    second.weight = first.weight
    apply, params = functional_module(nn.Sequential(first, second))
    assert list(params) == ["0.weight"]
    outputs = apply({"0.weight": 3 * torch.eye(2)}, torch.ones(1, 2))
    assert outputs.tolist() == [[9.0, 9.0]]
