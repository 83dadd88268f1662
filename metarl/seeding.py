"""Independent random streams, identified by their purpose.

Every stream is derived from the run's seed and a key, never from the position of another stream.
Therefore an iteration draws the same numbers whether or not the run was resumed before it, and
tasks do not change if a policy draws one more number.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch

from metarl.validation import require_at_least

__all__ = ["derive_seed", "draw_key", "numpy_generator", "torch_generator"]


def derive_seed(seed: int, *key: str | int) -> int:
    """A seed for one purpose: the same on every machine, different for every key.

    Args:
        seed: the run's seed, 0 or more.
        key: names and counters of the purpose.

    Returns:
        A number in [0, 2⁶³).

    Raises:
        ValueError: if `seed` is negative or not a whole number.
    """
    require_at_least("seed", seed, 0)
    digest = hashlib.blake2b(json.dumps([int(seed), *key]).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def numpy_generator(seed: int, *key: str | int) -> np.random.Generator:
    """A NumPy generator for one purpose."""
    return np.random.default_rng(derive_seed(seed, *key))


def torch_generator(
    seed: int, *key: str | int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A torch generator for one purpose on a device."""
    return torch.Generator(device).manual_seed(derive_seed(seed, *key))


def draw_key(draw: int) -> tuple[str | int, ...]:
    """Part of the key of an independent repetition; the first repetition, 0, has none.

    >>> derive_seed(5, "evaluation", *draw_key(0)) == derive_seed(5, "evaluation")
    True
    """
    return ("draw", draw) if draw else ()
