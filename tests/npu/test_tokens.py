from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu.moonshine import TINY
from npu.tokens import ListedTokenizer, Signals, Tokenizer
from streaming.errors import ModelError

START, END = 1, 2  # Moonshine's signals

WORDS = [30, 887, 29871, 259, 32_005, 3 + 0xC3, 3 + 0xA9, 13, 266, 31_353]


def test_shipped_vocabulary(tokenizer: Tokenizer) -> None:
    """It has as many tokens as the model."""
    assert len(tokenizer) == TINY.vocabulary
    assert tokenizer.text([887]) == "You"


def test_signals(tokenizer: Tokenizer) -> None:
    """Tokens in angle brackets spell nothing."""
    assert tokenizer.text([START, 887, 32_005, END]) == "You"


def test_characters_of_several_bytes(tokenizer: Tokenizer) -> None:
    """Bytes that have no token of their own are put together."""
    cafe = [byte + 3 for byte in " café".replace(" ", "▁").encode()]
    assert tokenizer.text(cafe) == "café"
    assert tokenizer.text(cafe[:-1]) == "caf\ufffd"


def test_words(tokenizer: Tokenizer) -> None:
    """Punctuation stays with its word, blanks go to the word after them, at the end nowhere."""
    full_stop = 3 + ord(".")
    assert tokenizer.words([887, full_stop, 29871, 887, 259]) == [
        ("You.", (887, full_stop)),
        ("You", (29871, 887)),
    ]


def test_nothing_but_blanks(tokenizer: Tokenizer) -> None:
    """No words."""
    assert tokenizer.words([29871, 259, 32_005]) == []


@given(tokens=st.lists(st.sampled_from(WORDS) | st.integers(0, TINY.vocabulary - 1), max_size=30))
def test_any_tokens(tokens: list[int], tokenizer: Tokenizer) -> None:
    """The words' tokens are the tokens up to the last that spells, their texts joined are the text."""
    words = tokenizer.words(tokens)
    joined = [token for _, spelling in words for token in spelling]
    assert joined == tokens[: len(joined)]
    assert not tokenizer.text(tokens[len(joined) :])
    assert " ".join(text for text, _ in words).split() == tokenizer.text(tokens).split()
    assert all(text for text, _ in words)


@given(
    tokens=st.lists(st.sampled_from(WORDS), max_size=20),
    more=st.lists(st.sampled_from(WORDS), max_size=20),
)
def test_words_before_a_word_start(tokens: list[int], more: list[int], tokenizer: Tokenizer) -> None:
    """Words that are whole stay as they are, whatever word begins after them."""
    words = [spelling for _, spelling in tokenizer.words(tokens)]
    grown = [spelling for _, spelling in tokenizer.words([*tokens, 887, *more])]
    assert grown[: len(words)] == words


def test_file_cut_short(tmp_path: Path) -> None:
    """It is refused by name."""
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(b"\x03ab")
    with pytest.raises(ModelError, match=r"tokenizer\.bin is not a tokenizer file"):
        ListedTokenizer.read(path)


def test_spelling(tokenizer: Tokenizer) -> None:
    """Tokens that spell a text spell it back."""
    for text in (" Amanuensis", " the quick brown fox", " Zoë's 3.5"):
        assert tokenizer.text(tokenizer.spell(text)) == text.strip()


def test_openings() -> None:
    """A model says only what it was taught to say; what was said before comes first."""
    plain = Signals(start=1, end=2)
    assert plain.opening("en", "transcribe", before=(7, 8)) == (1,)
    rich = Signals(
        5, 6, languages={"en": 10, "de": 11}, tasks={"transcribe": 20, "translate": 21}, before=30, untimed=40
    )
    assert rich.opening("de", "translate") == (5, 11, 21, 40)
    assert rich.opening("en", "transcribe", timestamps=True, before=(7, 8)) == (30, 7, 8, 5, 10, 20)
