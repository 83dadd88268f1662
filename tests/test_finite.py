"""Numbers that are not finite: named with term, task and iteration."""

import math

import numpy as np
import pytest
import torch

from metarl.finite import NonFiniteError, in_iteration, require_finite_params, require_finite_tasks

TASKS = np.array([[0.5, 1.0], [2.0, -3.0]])


def test_finite_numbers_pass():
    require_finite_tasks("loss", torch.zeros(3), torch.ones(3, 2))
    require_finite_params("parameter", {"a": torch.zeros(2), "empty": torch.zeros(0)})
    require_finite_params("parameter", {})


def test_finite_numbers_of_infinite_norm_pass():
    large = torch.full((2,), 3e38)
    assert not torch.linalg.vector_norm(large).isfinite()
    require_finite_params("parameter", {"a": large, "b": torch.zeros(1, dtype=torch.float64)})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("shape", [(3,), (3, 2, 2)])
def test_the_first_task_whose_values_are_not_finite_is_named(bad, shape):
    values = torch.zeros(shape)
    values[1:] = bad
    with pytest.raises(
        NonFiniteError, match=r"^loss of task 1 must be finite; try less$"
    ) as caught:
        require_finite_tasks("loss", torch.zeros(3), values, remedy="try less")
    assert caught.value.task == 1


def test_the_first_tensor_that_is_not_finite_is_named():
    params = {"a": torch.zeros(2), "b": torch.tensor([0.0, math.nan]), "c": torch.tensor(math.inf)}
    with pytest.raises(NonFiniteError, match=r"^gradient of b must be finite$"):
        require_finite_params("gradient of", params)


def test_the_iteration_and_the_task_are_added():
    message = r"^iteration 4: bad; task 1 is \[2\.0, -3\.0\]$"
    with pytest.raises(NonFiniteError, match=message) as caught, in_iteration(4, TASKS):
        raise NonFiniteError("bad", 1)
    assert caught.value.task == 1


@pytest.mark.parametrize(("task", "tasks"), [(None, TASKS), (1, None)])
def test_without_a_task_only_the_iteration_is_added(task, tasks):
    with pytest.raises(NonFiniteError, match=r"^iteration 4: bad$"), in_iteration(4, tasks):
        raise NonFiniteError("bad", task)


def test_other_errors_pass_as_they_are():
    with pytest.raises(KeyError, match="cup"), in_iteration(1):
        raise KeyError("cup")


def test_it_is_a_value_error_and_a_floating_point_error():
    assert issubclass(NonFiniteError, ValueError)
    assert issubclass(NonFiniteError, FloatingPointError)
