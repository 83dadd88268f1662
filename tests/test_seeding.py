"""Random streams: frozen values, and no two purposes that share one."""

from itertools import product

import numpy as np
import pytest
import torch

from metarl.seeding import derive_seed, numpy_generator, torch_generator


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0,), 6197007067532723406),
        ((1,), 7818949063157315524),
        ((0, "tasks", "train"), 2531230619765529212),
        ((7, "a", 3), 6514329700519366993),
    ],
)
def test_seeds_are_the_same_on_every_machine(arguments, expected):
    assert derive_seed(*arguments) == expected


def test_generators_give_the_same_numbers_on_every_machine():
    np.testing.assert_allclose(
        numpy_generator(0, "a").random(2), [0.7873107914202967, 0.07312141026885555]
    )
    sampled = torch.rand(2, generator=torch_generator(0, "a"))
    torch.testing.assert_close(sampled, torch.tensor([0.1055, 0.0134]), rtol=0, atol=1e-4)


def test_seeds_fit_into_63_bits_and_use_them():
    seeds = [derive_seed(0, "k", i) for i in range(1, 300)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert any(seed >= 2**62 for seed in seeds)
    assert {seed % 2 for seed in seeds} == {0, 1}


def test_different_seeds_names_and_counters_give_different_seeds():
    keys = [(name, i) for name, i in product(("tasks", "resets", "actions"), range(1, 50))]
    seeds = {derive_seed(seed, *key) for seed in range(20) for key in keys}
    assert len(seeds) == 20 * len(keys)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0, "a", 3), (0, 3, "a")),  # order counts
        ((0, "ab"), (0, "a", "b")),
        ((1, "a", 1), (0, "a", 1)),
        ((0, "a"), (0, "a", 0)),  # a counter that starts at zero is a separate key
        ((0,), (0, 0, 0)),
        ((2**32 + 5, "a"), (5, 1, "a")),  # a large number is one part, not two
        ((5, 2**32 + 7), (5, 7, 1)),
    ],
)
def test_keys_that_look_alike_give_different_seeds(one, other):
    assert derive_seed(*one) != derive_seed(*other)


def test_generators_of_one_key_agree_and_of_two_keys_differ():
    draws = [torch.rand(4, generator=torch_generator(3, key)) for key in ("a", "a", "b")]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    arrays = [numpy_generator(3, key).random(4) for key in ("a", "a", "b")]
    assert np.array_equal(arrays[0], arrays[1])
    assert not np.array_equal(arrays[0], arrays[2])


def test_the_global_generators_are_not_changed():
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    torch.rand(3, generator=torch_generator(0, "a"))
    numpy_generator(0, "a").random(3)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_a_negative_seed_is_rejected():
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        derive_seed(-1, "a")


def test_a_seed_may_be_a_numpy_integer_but_not_a_fraction():
    assert derive_seed(np.int64(5), "a") == derive_seed(5, "a")
    with pytest.raises(ValueError, match=r"seed must be a whole number, 0 or more, got 1.5"):
        derive_seed(1.5, "a")
