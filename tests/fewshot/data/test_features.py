"""Hashed n-grams: which grams there are, where they go, and that no vocabulary is learned."""

import zlib

import pytest
import torch

from metarl.fewshot.data.features import hashed_counts, smiles_grams, word_grams


def test_a_gram_goes_to_its_place_with_its_sign():
    counts = hashed_counts(["a b b"], lambda text: iter(text.split()), 64)
    expected = torch.zeros(1, 64, dtype=torch.int8)
    for gram, count in (("a", 1), ("b", 2)):
        value = zlib.crc32(gram.encode())
        expected[0, (value >> 1) % 64] += count if value & 1 else -count
    assert counts.equal(expected)
    assert int(counts.abs().sum()) == 3


def test_features_of_a_text_do_not_depend_on_the_others():
    texts = [f"request number {i}" for i in range(2100)]  # more than one block
    together = hashed_counts(texts, word_grams, 128)
    for row in (0, 1023, 1024, 2099):
        assert together[row].equal(hashed_counts([texts[row]], word_grams, 128)[0])
    assert together.dtype == torch.int8


def test_large_counts_are_cut():
    counts = hashed_counts([" ".join(["word"] * 500), ""], lambda text: iter(text.split()), 8)
    assert int(counts[0].abs().max()) == 127
    assert int(counts[1].abs().max()) == 0


def test_texts_that_share_words_are_nearer():
    texts = ["what is my card balance", "tell me the balance of my card", "book a flight to rome"]
    vectors = torch.nn.functional.normalize(hashed_counts(texts, word_grams, 1024).float(), dim=1)
    similar = vectors @ vectors.T
    assert float(similar[0, 1]) > 0.3
    assert abs(float(similar[0, 2])) < 0.15


@pytest.mark.parametrize(
    ("smiles", "tokens"),
    [
        ("CCl", ["C", "Cl"]),
        ("[Na+].[Cl-]", ["[Na+]", ".", "[Cl-]"]),
        ("C[C@@H](Br)N", ["C", "[C@@H]", "(", "Br", ")", "N"]),
        ("C%12=O", ["C", "%12", "=", "O"]),
    ],
)
def test_an_atom_is_one_token(smiles, tokens):
    grams = list(smiles_grams(smiles))
    assert grams[: len(tokens)] == tokens
    longest = min(5, len(tokens))
    assert len(grams) == sum(len(tokens) - size + 1 for size in range(1, longest + 1))
    assert grams[-1] == " ".join(tokens[-longest:])


def test_letters_of_any_case_and_signs_do_not_matter_between_words():
    assert sorted(word_grams("Pay, BILL!")) == sorted(word_grams("pay bill"))
