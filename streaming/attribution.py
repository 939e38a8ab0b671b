"""Which speaker said which words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from streaming.events import SpokenWord
from streaming.turns import Turn
from streaming.window import SAMPLE_RATE, Word


@dataclass(frozen=True)
class Part:
    """Consecutive words of one speaker."""

    speaker: int | None  # None where nobody was heard
    words: tuple[Word | SpokenWord, ...]


def attribute(words: Sequence[Word | SpokenWord], turns: Sequence[Turn]) -> list[Part]:
    """Each word goes to the speaker who is heard longest in it, else to whoever the word before went to."""
    chosen: list[int | None] = []
    for word in words:
        heard: dict[int, float] = {}
        for turn in turns:
            shared = min(turn.end, word.end * SAMPLE_RATE) - max(turn.start, word.start * SAMPLE_RATE)
            if shared > 0:
                heard[turn.speaker] = heard.get(turn.speaker, 0.0) + shared
        before = chosen[-1] if chosen else None
        chosen.append(max(heard, key=heard.__getitem__) if heard else before)
    pairs = groupby(zip(chosen, words, strict=True), key=lambda pair: pair[0])
    return [Part(speaker, tuple(word for _, word in group)) for speaker, group in pairs]
