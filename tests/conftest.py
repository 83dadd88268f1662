"""Settings of the whole test run."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The nets of the tests are too small to gain from more threads, and lose on a busy machine."""
    torch.set_num_threads(1)
