"""A turn: a stretch of audio in which one speaker speaks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """Turns of different speakers may overlap."""

    start: int  # sample index of the session
    end: int  # after the last sample
    speaker: int  # 1, 2, 3 ... in order of appearance
    settled: bool = True  # the label will not change any more
    confidence: float | None = None  # similarity to the speaker's voice, -1..1, where it is known
