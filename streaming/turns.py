"""Turns: stretches in which one speaker speaks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming.listening import FRAME, frame_sample
from streaming.views import Tally
from streaming.window import SAMPLE_RATE


@dataclass(frozen=True)
class Turn:
    """A stretch in which one speaker speaks. Turns of different speakers may overlap."""

    start: int  # sample index of the session
    end: int
    speaker: int  # 1, 2, 3 ... in order of appearance
    settled: bool  # the label will not change any more
    confidence: float | None  # similarity to the speaker's voice, -1..1; None where it is not known


def stretches(active: NDArray[np.bool_], shortest: int = 1, gap: int = 0) -> list[tuple[int, int]]:
    """Where `active` [n] is true: [start, end) of each stretch; gaps up to `gap` are closed, then short ones dropped."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    joined: list[tuple[int, int]] = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if joined and start - joined[-1][1] <= gap:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return [(start, end) for start, end in joined if end - start >= shortest]


def frames(seconds: float) -> int:
    """Seconds as a number of frames."""
    return round(seconds * SAMPLE_RATE / FRAME)


def turns_of(tally: Tally, settled: bool, shortest_s: float, gap_s: float) -> list[Turn]:
    """The turns of a stretch, by start."""
    found = []
    for speaker, active in tally.active.items():
        for start, end in stretches(active, frames(shortest_s), frames(gap_s)):
            similar = tally.similarity[speaker][start:end][active[start:end]]
            found.append(
                Turn(
                    frame_sample(tally.first + start),
                    frame_sample(tally.first + end),
                    speaker,
                    settled,
                    round(float(similar.mean()), 3) if len(similar) else None,
                )
            )
    return sorted(found, key=lambda turn: (turn.start, turn.end, turn.speaker))


def join(before: Turn, after: Turn, gap_s: float) -> Turn | None:
    """One turn in place of two of a speaker that hardly a pause divides; None where they are two."""
    if before.speaker != after.speaker or after.start - before.end > gap_s * SAMPLE_RATE:
        return None
    known = [
        (turn.confidence, turn.end - turn.start) for turn in (before, after) if turn.confidence is not None
    ]
    total = sum(length for _, length in known)
    confidence = round(sum(value * length for value, length in known) / total, 3) if total else None
    return Turn(
        before.start, max(before.end, after.end), before.speaker, before.settled and after.settled, confidence
    )
