"""The comparison of estimators against published-scale numbers, within their sampling noise."""

from __future__ import annotations

import pytest
import torch

from metarl.estimators.laboratory import Credit, Measurement
from metarl.estimators.study import (
    Row,
    compare,
    derivative_errors,
    median_derivative_errors,
    random_problems,
)

PAIR_ROWS = {
    "first_order": Row("first_order"),
    "log_prob": Row("log_prob"),
    "lvc": Row("lvc"),
    "dice": Row("dice", has_baseline=False),
    "loaded_dice": Row("loaded_dice"),
    "taypo2": Row("taypo2"),
    "exact": Row(None),
    "credit": Row("log_prob", credit=Credit()),
    "small credit": Row("log_prob", credit=Credit(1 / 6)),
    "twice": Row("loaded_dice", credit=Credit()),
    "tmaml": Row("tmaml"),
}
EXPECTED_OF_PAIRS = {
    "first_order": (0.122, 0.130, 0.115),
    "log_prob": (0.123, 0.130, 0.172),
    "lvc": (0.040, 0.035, 0.274),
    "dice": (0.15, 0.055, 0.70),
    "loaded_dice": (0.034, 0.016, 0.38),
    "exact": (0.016, 0.014, 0.141),
    "credit": (0.022, 0.0, 0.52),
    "small credit": (0.106, 0.108, 0.182),
    "twice": (0.132, 0.144, 0.82),
}
"""Bias to both objectives and standard deviation, medians of another sample of 20 to 30 MDPs."""


@pytest.fixture(scope="module")
def pairs() -> dict[str, Measurement]:
    generator = torch.Generator().manual_seed(0)
    problems = random_problems(20, generator)
    found = compare(
        list(PAIR_ROWS.values()),
        problems,
        inner_lr=0.5,
        num_episodes=2,
        num_sets=1,
        generator=generator,
    )
    return dict(zip(PAIR_ROWS, found, strict=True))


@pytest.mark.parametrize("name", EXPECTED_OF_PAIRS)
def test_support_sets_of_two_episodes_give_the_known_errors(pairs, name):
    found, (bias_exact, bias_sampled, std) = pairs[name], EXPECTED_OF_PAIRS[name]
    assert found.bias_exact_step == pytest.approx(bias_exact, rel=0.6, abs=0.025)
    assert found.bias_sampled_step == pytest.approx(bias_sampled, rel=0.6, abs=0.025)
    assert found.std == pytest.approx(std, rel=0.6)


def test_the_credit_is_unbiased_and_the_other_estimators_are_not(pairs):
    assert pairs["credit"].bias_sampled_step < 1e-10
    others = [pairs[name].bias_sampled_step for name in pairs if name != "credit"]
    assert min(others) > 1e-3


def test_taypo2_equals_loaded_dice(pairs):
    assert pairs["taypo2"].std == pytest.approx(pairs["loaded_dice"].std, rel=1e-10)


def test_log_prob_is_first_order_with_noise(pairs):
    assert pairs["log_prob"].bias_exact_step == pytest.approx(
        pairs["first_order"].bias_exact_step, abs=0.02
    )
    assert pairs["log_prob"].std > 1.2 * pairs["first_order"].std


def test_the_relative_error_is_the_root_mean_square_of_bias_and_noise():
    measurement = Measurement(0.3, 0.0, 0.0, 0.8)
    assert measurement.relative_error(4) == pytest.approx(0.5)


def test_larger_support_sets_have_less_noise_but_for_the_credit():
    generator = torch.Generator().manual_seed(1)
    problems = random_problems(5, generator)
    rows = [Row("loaded_dice"), Row("log_prob", credit=Credit())]
    few, many = (
        compare(rows, problems, inner_lr=0.5, num_episodes=size, num_sets=2000, generator=generator)
        for size in (1, 20)
    )
    assert few[0].std / many[0].std == pytest.approx(20**0.5, rel=0.4)
    assert few[1].std / many[1].std < 2


@pytest.mark.parametrize(("name", "bias"), [("log_prob", 1.0), ("lvc", 0.3), ("taypo2", 0.0)])
def test_hessians_have_the_known_bias(name, bias):
    generator = torch.Generator().manual_seed(0)
    problems = random_problems(20, generator)
    zeros = [torch.zeros(3, 2, dtype=torch.float64)] * 20
    found = median_derivative_errors(name, problems, zeros)
    assert found.gradient_bias < 1e-10
    assert found.hessian_bias == pytest.approx(bias, rel=0.6, abs=1e-10)


def test_tmaml_as_published_is_biased_by_several_times_the_hessian(pairs):
    problems = random_problems(20, torch.Generator().manual_seed(0))
    zeros = [torch.zeros(3, 2, dtype=torch.float64)] * 20
    assert median_derivative_errors("tmaml", problems, zeros).hessian_bias > 3
    assert pairs["tmaml"].bias_exact_step > 3 * pairs["first_order"].bias_exact_step


def test_only_the_doubly_robust_estimator_is_unbiased_off_policy():
    [problem] = random_problems(1, torch.Generator().manual_seed(0))
    noise = 0.5 * torch.randn(3, 2, generator=torch.Generator().manual_seed(1)).double()
    errors = {
        name: derivative_errors(name, problem, problem.logits + noise)
        for name in ("lvc", "taypo2", "dr")
    }
    assert errors["dr"].gradient_bias < 1e-10
    assert errors["dr"].hessian_bias < 1e-10
    assert 1e-4 < errors["taypo2"].gradient_bias < errors["lvc"].gradient_bias
    assert 1e-4 < errors["taypo2"].hessian_bias < errors["lvc"].hessian_bias
