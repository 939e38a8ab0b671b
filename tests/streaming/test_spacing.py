from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.spacing import begins_word, joined


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["It's", "fine,", "thanks."], "It's fine, thanks."),
        (["今", "天", "很", "好。", "「你", "好」"], "今天很好。「你好」"),
        (["用", "AI", "写"], "用AI写"),
        (["안녕", "하세요"], "안녕 하세요"),
        (["สวัส", "ดี"], "สวัสดี"),
        ([], ""),
    ],
)
def test_scripts(words: list[str], text: str) -> None:
    """Spaces stand where the script has them."""
    assert joined(words) == text


@given(words=st.lists(st.text(min_size=1, max_size=4)), more=st.lists(st.text(min_size=1, max_size=4)))
def test_more_words(words: list[str], more: list[str]) -> None:
    """What is joined is the beginning of what is joined with more words: partials only grow."""
    assert joined([*words, *more]).startswith(joined(words))


def test_beginnings_of_words() -> None:
    """After a space, or in a script without; neither punctuation, nor the middle of a character or of a word."""
    for spelled in (" so", "好", "か", "「", " 好"):
        assert begins_word(spelled.encode())
    for spelled in ("so", "。", "」", "", "é", "์"):
        assert not begins_word(spelled.encode())
    assert not begins_word("好".encode()[1:])
    assert not begins_word("好".encode()[:2])
