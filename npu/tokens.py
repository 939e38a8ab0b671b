"""Moonshine's vocabulary: tokens to text, and to words that know their tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streaming.errors import ModelError

_SPACE = "▁".encode()  # U+2581 stands for a space
_LONG = 128  # lengths from here on take two bytes


class Tokenizer:
    """Byte-level vocabulary: token i spells table[i]. Tokens in angle brackets are signals and spell nothing."""

    def __init__(self, table: Sequence[bytes]) -> None:
        signals = [len(entry) > 2 and entry.startswith(b"<") and entry.endswith(b">") for entry in table]
        self._table = [b"" if signal else entry for entry, signal in zip(table, signals, strict=True)]
        self.word_starts: NDArray[np.bool_] = np.array(
            [entry.startswith(_SPACE) for entry in self._table]
        )  # [vocabulary]

    @classmethod
    def read(cls, path: Path) -> Tokenizer:
        """Reads a `tokenizer.bin`: for each token its length, in one or two bytes, and its bytes."""
        try:
            return cls(list(_entries(path.read_bytes())))
        except (OSError, IndexError) as error:
            raise ModelError(f"{path} is not a tokenizer file; install moonshine-voice again") from error

    def __len__(self) -> int:
        return len(self._table)

    def text(self, tokens: Sequence[int]) -> str:
        """What the tokens spell; bytes that are no UTF-8 become U+FFFD."""
        spelled = b"".join(self._table[token] for token in tokens)
        return spelled.replace(_SPACE, b" ").decode("utf-8", "replace").strip()

    def words(self, tokens: Sequence[int]) -> list[tuple[str, tuple[int, ...]]]:
        """The words with the tokens that spell them.

        Tokens that spell nothing, or only space, belong to the word after them; where none follows they are left
        out. So words stay as they are when others come after them.
        """
        found: list[tuple[str, tuple[int, ...]]] = []
        word: list[int] = []
        blanks: list[int] = []  # read since the last token that spells something
        for token in tokens:
            if not self.text([token]):
                blanks.append(token)
                continue
            begins = self.word_starts[token] or any(self.word_starts[blank] for blank in blanks)
            if begins and word:
                found.append((self.text(word), tuple(word)))
                word = []
            word += [*blanks, token]
            blanks = []
        return [*found, (self.text(word), tuple(word))] if word else found


def _entries(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        length, at = data[at], at + 1
        if length >= _LONG:
            length, at = data[at] * _LONG + length - _LONG, at + 1
        if at + length > len(data):
            raise IndexError("the last entry is cut off")
        yield data[at : at + length]
        at += length
