"""Vocabularies: tokens to text, to words that know their tokens, and the tokens that are no text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streaming.errors import ModelError
from streaming.spacing import begins_word, opens

_SPACE = "▁".encode()  # U+2581 stands for a space
_LONG = 128  # lengths from here on take two bytes


@dataclass(frozen=True)
class Signals:
    """The tokens that are no text: what a decoding begins and ends with, and what a model may say of the audio."""

    start: int
    end: int
    languages: Mapping[str, int] = field(default_factory=dict)  # by code; empty: it knows only one
    tasks: Mapping[str, int] = field(default_factory=dict)  # "transcribe", "translate"; empty: it knows one
    before: int | None = None  # what was said before follows
    silent: int | None = None  # how probable it is in place of a language says whether nobody speaks
    untimed: int | None = None  # no timestamps follow
    first_time: int | None = None  # 0 s; the tokens after it are further timestamps ...
    time_step_s: float = 0.02  # ... so far apart
    latest_first_time: int | None = None  # steps, the latest that a window may begin with
    never: tuple[int, ...] = ()  # tokens that no result holds
    never_first: tuple[int, ...] = ()  # tokens that no result begins with

    def opening(
        self, language: str, task: str, timestamps: bool = False, before: Sequence[int] = ()
    ) -> tuple[int, ...]:
        """What the decoding of a window begins with; `before`: tokens of what was said before it."""
        tokens = [self.before, *before] if before and self.before is not None else []
        tokens.append(self.start)
        tokens += [self.languages[language]] if self.languages else []
        tokens += [self.tasks[task]] if self.tasks else []
        tokens += [self.untimed] if self.untimed is not None and not timestamps else []
        return tuple(tokens)


class Tokenizer(Protocol):
    """A model's vocabulary."""

    signals: Signals
    languages: tuple[str, ...]  # codes of those it understands, e.g. ("en",)
    word_starts: NDArray[np.bool_]  # [vocabulary]: tokens that begin a word

    def text(self, tokens: Sequence[int]) -> str:
        """What the tokens spell, without signals and surrounding space."""

    def words(self, tokens: Sequence[int]) -> list[tuple[str, tuple[int, ...]]]:
        """The words with the tokens that spell them; joined, they are all tokens but those at the end that spell
        nothing.
        """

    def spell(self, text: str) -> tuple[int, ...]:
        """Tokens that spell the text as it stands, a leading space included where there is one."""


class ListedTokenizer:
    """Byte-level vocabulary: token i spells table[i]. Tokens in angle brackets are signals and spell nothing.

    It is Moonshine's, which is English.
    """

    signals = Signals(start=1, end=2)
    languages: tuple[str, ...] = ("en",)

    def __init__(self, table: Sequence[bytes]) -> None:
        signals = [len(entry) > 2 and entry.startswith(b"<") and entry.endswith(b">") for entry in table]
        self._table = [b"" if signal else entry for entry, signal in zip(table, signals, strict=True)]
        self.word_starts: NDArray[np.bool_] = np.array(
            [entry.startswith(_SPACE) for entry in self._table]
        )  # [vocabulary]
        self._ids = {entry: token for token, entry in reversed(list(enumerate(self._table))) if entry}
        self._longest = max(map(len, self._ids), default=0)

    @classmethod
    def read(cls, path: Path) -> ListedTokenizer:
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

    def spell(self, text: str) -> tuple[int, ...]:
        """The longest tokens first, from the left; bytes that no token spells are left out."""
        rest, found = text.encode().replace(b" ", _SPACE), []
        while rest:
            length = next(
                (n for n in range(min(len(rest), self._longest), 0, -1) if rest[:n] in self._ids), 0
            )
            if length:
                found.append(self._ids[rest[:length]])
            rest = rest[max(1, length) :]
        return tuple(found)


def spelled_words(table: Sequence[bytes], tokens: Sequence[int]) -> list[tuple[str, tuple[int, ...]]]:
    """The words of a byte-level text, token i spelling table[i], with the tokens that spell them.

    A word begins after a space, and with each token of a script without spaces. Tokens that spell nothing, or only
    space, belong to the word after them; where none follows they are left out.
    """
    found: list[list[int]] = []
    texts: list[str] = []
    blanks: list[int] = []  # read since the last token that spells something
    spaced = False  # one of them is a space
    for chunk in _characters(table, tokens):
        spelled = b"".join(table[token] for token in chunk)
        text = spelled.decode("utf-8", "replace")
        if not text.strip():
            blanks += chunk
            spaced |= bool(spelled)
            continue
        bracket = bool(texts) and all(map(opens, texts[-1])) and not spaced and not spelled.startswith(b" ")
        if not found or ((spaced or begins_word(spelled)) and not bracket):
            found.append([*blanks, *chunk])
            texts.append(text.lstrip())
        else:
            found[-1] += [*blanks, *chunk]
            texts[-1] += text
        blanks, spaced = [], False
    return [(text.rstrip(), tuple(word)) for text, word in zip(texts, found, strict=True)]


def _characters(table: Sequence[bytes], tokens: Sequence[int]) -> Iterator[list[int]]:
    """The tokens one by one, but those together that share a character."""
    chunk: list[int] = []
    spelled = b""
    for token in tokens:
        if chunk and table[token] and not 0x80 <= table[token][0] < 0xC0:  # the character is never completed
            yield chunk
            chunk, spelled = [], b""
        chunk.append(token)
        spelled += table[token]
        if not _cut(spelled):
            yield chunk
            chunk, spelled = [], b""
    if chunk:
        yield chunk


def _cut(spelled: bytes) -> bool:
    """Whether the bytes end within a character."""
    try:
        spelled.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False


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
