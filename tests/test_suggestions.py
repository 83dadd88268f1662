"""The sentence about an unknown name."""

import pytest

from metarl.suggestions import known, unknown_name


def test_the_sentence_names_the_kind_all_choices_and_what_came():
    sentence = unknown_name("split", "zzz", ["train", "test"])
    assert sentence == "split must be one of train, test, got 'zzz'"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("HalfCheetaVel", "HalfCheetahVel"),
        ("halfcheetahvel", "HalfCheetahVel"),
        ("NAVIGATION2D", "Navigation2D"),
        ("Navigation", "Navigation2D"),
    ],
)
def test_the_nearest_choice_is_suggested_whatever_the_case(typed, meant):
    sentence = unknown_name("environment", typed, ("Navigation2D", "HalfCheetahVel"))
    assert sentence.endswith(f"got {typed!r}; did you mean {meant!r}?")


def test_nothing_is_suggested_where_nothing_is_near():
    assert "did you mean" not in unknown_name("split", "walrus", ["train", "test"])


def test_choices_may_come_from_an_iterator_that_is_read_once():
    sentence = unknown_name("split", "tran", (name for name in ("train", "test")))
    assert sentence == "split must be one of train, test, got 'tran'; did you mean 'train'?"


def test_a_known_name_gives_what_it_names():
    assert known("variant", "far", {"near": 1, "far": 2}) == 2


def test_an_unknown_name_is_an_error_with_that_sentence():
    message = "^variant must be one of near, far, got 'fra'; did you mean 'far'\\?$"
    with pytest.raises(ValueError, match=message):
        known("variant", "fra", {"near": 1, "far": 2})
