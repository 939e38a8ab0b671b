"""Turns: who speaks when."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """A stretch of audio in which one speaker speaks; turns of different speakers may overlap."""

    start: int  # sample index at 16 kHz
    end: int  # sample index after the last one
    speaker: int  # a number of its own for each speaker
    settled: bool = False  # no later audio will change it
    confidence: float | None = None  # 0..1
