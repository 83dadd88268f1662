"""Data of an example: generated requests of many intents, and sentences as tokens."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from metarl.fewshot.datasets.intents import Request
from metarl.seeding import numpy_generator

__all__ = ["FIRST_TOKEN", "PADDING", "hashed_tokens", "invented_requests"]

PADDING = 0
"""Token that pads sentences; attention must ignore it."""
FIRST_TOKEN = 1
"""First token of every sentence, so that attention has a target in sentences without words."""
_SPECIAL = 2
_WORD = re.compile(r"\w+")

_OPENERS = (
    "please", "could you", "i want to", "can you help me", "i would like to", "hey", "i need to",
    "is it possible to", "help me to", "would you", "let us", "now",
)  # fmt: skip
_ENDINGS = (
    "", "today", "for me", "right away", "tomorrow morning", "if you can", "thanks", "this week",
    "as soon as possible", "before noon", "for my sister", "again",
)  # fmt: skip
_ACTIONS = (
    ("book", "reserve", "order"), ("cancel", "revoke", "annul"), ("change", "modify", "alter"),
    ("find", "locate", "seek"), ("describe", "explain", "detail"), ("rate", "review", "judge"),
    ("pay", "settle", "reimburse"), ("share", "forward", "send"), ("compare", "contrast", "weigh"),
    ("delay", "postpone", "defer"),
)  # fmt: skip
_THINGS = (
    ("flight", "plane", "airline"), ("hotel", "room", "lodging"), ("dinner", "meal", "supper"),
    ("taxi", "cab", "ride"), ("ticket", "pass", "entry"), ("doctor", "physician", "clinic"),
    ("film", "movie", "cinema"), ("parcel", "package", "delivery"), ("loan", "credit", "mortgage"),
    ("phone", "mobile", "handset"),
)  # fmt: skip


def invented_requests(num_requests: int, seed: int) -> list[Request]:
    """Generate requests of 100 intents with varying words.

    An intent combines one of ten actions with one of ten things, each with three synonyms; one of
    twelve openings and one of twelve endings carry no information. In a random split, unseen
    intents consist of words that occur in other intents.

    Args:
        num_requests: requests of each intent.
        seed: seed of the words.

    Returns:
        Requests and their intents, which are named "book flight" and so on.
    """
    rng = numpy_generator(seed, "requests")
    requests = []
    for action in _ACTIONS:
        for thing in _THINGS:
            columns = [
                rng.choice(np.array(words), num_requests)
                for words in (_OPENERS, action, thing, _ENDINGS)
            ]
            sentences = (
                f"{opener} {verb} the {noun} {ending}".strip()
                for opener, verb, noun, ending in zip(*columns, strict=True)
            )
            requests += [(sentence, f"{action[0]} {thing[0]}") for sentence in sentences]
    return requests


def hashed_tokens(sentences: Sequence[str], length: int, vocabulary: int) -> Tensor:
    """Hash words to tokens; no vocabulary is learned, so unseen classes do not leak into it.

    Args:
        sentences: N sentences.
        length: tokens per sentence, which is truncated or padded.
        vocabulary: number of tokens, including the two special ones.

    Returns:
        int64 [N, length]: FIRST_TOKEN, words, PADDING.

    >>> hashed_tokens(["Hi, you", ""], 4, 10).tolist()
    [[1, 6, 8, 0], [1, 0, 0, 0]]
    """
    tokens = torch.full((len(sentences), length), PADDING)
    tokens[:, 0] = FIRST_TOKEN
    for row, sentence in enumerate(sentences):
        words = _WORD.findall(sentence.lower())[: length - 1]
        numbers = [_SPECIAL + zlib.crc32(word.encode()) % (vocabulary - _SPECIAL) for word in words]
        tokens[row, 1 : 1 + len(numbers)] = torch.tensor(numbers)
    return tokens
