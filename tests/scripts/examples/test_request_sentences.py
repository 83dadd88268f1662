"""Invented requests and tokens of sentences."""

import torch

from metarl.scripts.examples.request_sentences import (
    FIRST_TOKEN,
    PADDING,
    hashed_tokens,
    invented_requests,
)


def test_there_are_a_hundred_intents_with_so_many_requests_each():
    requests = invented_requests(7, seed=0)
    assert len(requests) == 700
    intents = [intent for _, intent in requests]
    assert len(set(intents)) == 100
    assert intents.count("book flight") == 7


def test_every_request_names_the_action_and_the_thing_of_its_intent():
    for sentence, intent in invented_requests(5, seed=1):
        if intent == "cancel hotel":
            words = set(sentence.split())
            assert words & {"cancel", "revoke", "annul"}
            assert words & {"hotel", "room", "lodging"}
    assert len({sentence for sentence, _ in invented_requests(40, seed=1)}) > 3000


def test_the_same_seed_gives_the_same_requests_and_another_seed_others():
    assert invented_requests(3, seed=0) == invented_requests(3, seed=0)
    assert invented_requests(3, seed=0) != invented_requests(3, seed=1)


def test_tokens_are_cut_and_padded_and_case_does_not_matter():
    tokens = hashed_tokens(["Pay the loan", "pay THE loan, now please", "..."], 4, 1000)
    assert tokens.dtype == torch.int64
    assert torch.equal(tokens[0], tokens[1])
    assert tokens[2].tolist() == [FIRST_TOKEN, PADDING, PADDING, PADDING]
    assert tokens[:, 0].tolist() == [FIRST_TOKEN] * 3
    assert tokens[0, 1:].min() > FIRST_TOKEN
    assert tokens.max() < 1000


def test_the_smallest_vocabulary_has_one_word():
    assert hashed_tokens(["a b"], 3, 3).tolist() == [[1, 2, 2]]
