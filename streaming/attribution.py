"""Which speaker said which words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from streaming.events import SpokenWord
from streaming.turns import Turn
from streaming.window import SAMPLE_RATE, Word

NEAR_S = 1.0  # further away nobody is near


@dataclass(frozen=True)
class Part:
    """Consecutive words of one speaker."""

    speaker: int | None  # None where nobody was heard
    words: tuple[Word | SpokenWord, ...]


def attribute(words: Sequence[Word | SpokenWord], turns: Sequence[Turn]) -> list[Part]:
    """Each word goes to the speaker who is heard longest in it, else to who is heard nearest to it."""
    chosen: list[int | None] = []
    for word in words:
        start, end = word.start * SAMPLE_RATE, word.end * SAMPLE_RATE
        nearness: dict[int, float] = {}  # samples shared; of a turn that ends before or begins after, below 0
        for turn in turns:
            shared = min(turn.end, end) - max(turn.start, start)
            nearness[turn.speaker] = max(nearness.get(turn.speaker, -NEAR_S * SAMPLE_RATE), shared)
        nearness = {speaker: shared for speaker, shared in nearness.items() if shared > -NEAR_S * SAMPLE_RATE}
        chosen.append(max(nearness, key=nearness.__getitem__) if nearness else None)
    pairs = groupby(zip(chosen, words, strict=True), key=lambda pair: pair[0])
    return [Part(speaker, tuple(word for _, word in group)) for speaker, group in pairs]
