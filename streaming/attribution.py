"""Words to speakers: who said which words, by how long each speaker's turns overlap them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Generic, TypeVar

from streaming.events import SpokenWord
from streaming.turns import Turn
from streaming.window import SAMPLE_RATE, Word

SWITCH_S = 0.35  # overlap that a change of speaker must gain where no pause suggests one ...
SWITCH_IN_PAUSE_S = 0.1  # ... and where one does
PAUSE_S = 0.25  # between two words
NEAR_S = 0.5  # a word in nobody's turn goes to a speaker so near ...
NEAR_GAIN_S = 0.05  # ... as if it overlapped by so much, less the further it is
SENTENCE_ENDS = (".", "?", "!", "…")

_TIE_S = 1e-6  # a difference that is none: then the change comes as late as it can

W = TypeVar("W", Word, SpokenWord)


@dataclass(frozen=True)
class Part(Generic[W]):
    """Words in a row that one speaker said."""

    speaker: int | None  # None where nobody's turn is near
    words: tuple[W, ...]


def attribute(words: Sequence[W], turns: Sequence[Turn]) -> list[Part[W]]:
    """The words, whose times count, in parts by speaker.

    Of all ways to give each word to a speaker, the one whose words overlap their speakers' turns for longest, less a
    price for each change of speaker: where two speak at once, the one who was speaking keeps the word.
    """
    if not words:
        return []
    speakers = sorted({turn.speaker for turn in turns})
    if not speakers:
        return [Part(None, tuple(words))]
    best = [_gain(words[0], turns, speaker) for speaker in speakers]
    came_from: list[list[int]] = []
    for before, word in pairwise(words):
        price = SWITCH_IN_PAUSE_S if _pauses(before, word) else SWITCH_S
        champion = max(range(len(speakers)), key=best.__getitem__)
        origins = [i if best[i] > best[champion] - price + _TIE_S else champion for i in range(len(speakers))]
        best = [
            best[origin] - (price if origin != i else 0.0) + _gain(word, turns, speaker)
            for i, (origin, speaker) in enumerate(zip(origins, speakers, strict=True))
        ]
        came_from.append(origins)
    path = [max(range(len(speakers)), key=best.__getitem__)]
    for origins in reversed(came_from):
        path.append(origins[path[-1]])
    path.reverse()
    if max(best) <= 0.0:
        return [Part(None, tuple(words))]
    grouped = groupby(zip(path, words, strict=True), key=lambda each: each[0])
    return [Part(speakers[index], tuple(word for _, word in each)) for index, each in grouped]


def dominant(turns: Sequence[Turn], start: int, end: int) -> int | None:
    """Whose turns fill most of a stretch; None where nobody speaks. Sample indices."""
    spoken: dict[int, int] = {}
    for turn in turns:
        overlap = min(turn.end, end) - max(turn.start, start)
        if overlap > 0:
            spoken[turn.speaker] = spoken.get(turn.speaker, 0) + overlap
    return max(spoken, key=lambda speaker: (spoken[speaker], -speaker)) if spoken else None


def _gain(word: Word | SpokenWord, turns: Sequence[Turn], speaker: int) -> float:
    """Seconds of the word within the speaker's turns; a little where one is near."""
    overlap, distance = 0.0, NEAR_S
    for turn in turns:
        if turn.speaker != speaker:
            continue
        start, end = turn.start / SAMPLE_RATE, turn.end / SAMPLE_RATE
        overlap += max(0.0, min(word.end, end) - max(word.start, start))
        distance = min(distance, max(0.0, start - word.end, word.start - end))
    return overlap or NEAR_GAIN_S * (1 - distance / NEAR_S)


def _pauses(before: Word | SpokenWord, word: Word | SpokenWord) -> bool:
    return word.start - before.end >= PAUSE_S or before.text.endswith(SENTENCE_ENDS)
