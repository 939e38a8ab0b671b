"""Where a text has spaces between its words: by the script they are written in, not by what language it is said to be."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

# Scripts that put no space between words, by ranges of code points: first, last.
_CLOSE = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # radicals
    (0x2FF0, 0x312F),  # CJK punctuation, kana, Bopomofo
    (0x31A0, 0x9FFF),  # Bopomofo, kana, ideographs
    (0xAA60, 0xAA7F),  # Myanmar
    (0xF900, 0xFAFF),  # ideographs
    (0xFE30, 0xFE4F),  # CJK punctuation
    (0xFF00, 0xFF9F),  # full-width forms, half-width kana
    (0x1B000, 0x1B16F),  # kana
    (0x20000, 0x3FFFF),  # ideographs
)
_FIRSTS = [first for first, _ in _CLOSE]
_OPENING = "「『（《〈【〔［｛“‘([{¿¡"  # stand before the word they belong to


def close(character: str) -> bool:
    """Whether it is of a script without spaces between words."""
    at = bisect_right(_FIRSTS, ord(character)) - 1
    return at >= 0 and ord(character) <= _CLOSE[at][1]


def joined(words: Iterable[str]) -> str:
    """The words as a text, spaces where the script has them; what is joined does not change when more words follow."""
    text = ""
    for word in words:
        apart = text and word and not (close(text[-1]) or close(word[0]))
        text += f" {word}" if apart else word
    return text


def begins_word(spelled: bytes) -> bool:
    """Whether these bytes of a UTF-8 text, wherever they stand in it, begin a word: after a space, or in such a script."""
    if spelled.startswith(b" "):
        return True
    first = spelled.decode("utf-8", "ignore")[:1]
    if first and not spelled.startswith(first.encode()):
        return False  # in the middle of a character
    return bool(first) and close(first) and (first.isalpha() or first in _OPENING)


def opens(character: str) -> bool:
    """Whether it stands before the word it belongs to, as a bracket does."""
    return character in _OPENING
