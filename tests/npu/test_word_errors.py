"""Words of texts, and how many of them are wrong."""

from __future__ import annotations

import pytest

from npu.word_errors import plain_words, word_errors


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It’s ONE-two, three_four!", ("it's", "one", "two", "three", "four")),
        ("Größe: œuvre 12", ("größe", "œuvre", "12")),
        (" … ", ()),
    ],
)
def test_plain_words(text: str, words: tuple[str, ...]) -> None:
    """Neither case nor punctuation; letters of every language."""
    assert plain_words(text) == words


@pytest.mark.parametrize(
    ("heard", "errors"), [("a b c", 0), ("", 3), ("a c", 1), ("a x c", 1), ("a b b c", 1), ("c b a", 2)]
)
def test_word_errors(heard: str, errors: int) -> None:
    """Substitutions, deletions and insertions."""
    assert word_errors(("a", "b", "c"), tuple(heard.split())) == errors
