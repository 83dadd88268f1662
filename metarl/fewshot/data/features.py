"""Texts and molecules as fixed-length vectors: signed counts of hashed n-grams.

No vocabulary is learned, so no information about test classes leaks into the features.

Source: Weinberger et al. 2009 (arXiv:0902.2206): a hash gives the index of an n-gram, and one
more bit its sign, so that collisions cancel on average.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["hashed_counts", "smiles_grams", "word_grams"]

_WORD = re.compile(r"\w+")
_SMILES_TOKEN = re.compile(r"\[[^\]]*\]|Br|Cl|@@|%\d\d|.")
_CHARACTER_GRAMS = (3, 4, 5)
_LONGEST_SMILES_GRAM = 5
_BLOCK = 1024  # texts


def hashed_counts(
    texts: Sequence[str], grams: Callable[[str], Iterator[str]], width: int
) -> Tensor:
    """Signed counts of the n-grams of each text.

    Args:
        texts: N texts.
        grams: function that yields the n-grams of a text.
        width: number of features.

    Returns:
        int8 [N, width]; larger counts are clipped at ±127.
    """
    counts = np.empty((len(texts), width), np.int8)
    for start in range(0, len(texts), _BLOCK):  # the float64 counts of all texts would be large
        block = texts[start : start + _BLOCK]
        counts[start : start + _BLOCK] = _block_counts(block, grams, width)
    return torch.from_numpy(counts)


def word_grams(text: str) -> Iterator[str]:
    """Words, pairs of words, and 3- to 5-grams of the characters of each word with its borders.

    >>> sorted(word_grams("Hi you"))
    ['$hi', '$hi$', '$yo', '$you', '$you$', 'hi', 'hi you', 'hi$', 'ou$', 'you', 'you', 'you$']
    """
    words = _WORD.findall(text.lower())
    yield from words
    yield from (f"{first} {second}" for first, second in itertools.pairwise(words))
    for word in words:
        bordered = f"${word}$"
        for size in _CHARACTER_GRAMS:
            yield from (bordered[i : i + size] for i in range(len(bordered) - size + 1))


def smiles_grams(smiles: str) -> Iterator[str]:
    """1- to 5-grams of the tokens of a SMILES string; an atom in brackets is one token.

    >>> list(smiles_grams("CCl"))
    ['C', 'Cl', 'C Cl']
    """
    tokens = _SMILES_TOKEN.findall(smiles)
    for size in range(1, _LONGEST_SMILES_GRAM + 1):
        yield from (" ".join(tokens[i : i + size]) for i in range(len(tokens) - size + 1))


def _block_counts(
    texts: Sequence[str], grams: Callable[[str], Iterator[str]], width: int
) -> NDArray[np.int8]:
    places: list[int] = []
    signs: list[int] = []
    for row, text in enumerate(texts):
        for gram in grams(text):
            place, sign = _hashed(gram, width)
            places.append(row * width + place)
            signs.append(sign)
    weights = np.asarray(signs, np.float64)
    counts = np.bincount(np.asarray(places, np.int64), weights, len(texts) * width)
    return np.clip(counts, -127, 127).astype(np.int8).reshape(len(texts), width)


@lru_cache(maxsize=1 << 18)
def _hashed(gram: str, width: int) -> tuple[int, int]:
    value = zlib.crc32(gram.encode())
    return (value >> 1) % width, 1 if value & 1 else -1
