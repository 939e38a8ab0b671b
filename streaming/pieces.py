"""Pieces: short stretches of one voice within a look, each with a voiceprint of its own.

The network that hears who speaks when may take two people for one within a window of ten seconds, and it does so
often in real rooms. Within a second or so it hardly ever does, so a recording's voices are compared by the piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming.listening import FRAME, FRAME_AT, LOCALS, MOMENT, MOMENT_AT, Array, speaking
from streaming.turns import frames, stretches
from streaming.window import SAMPLE_RATE

_LONGEST_S = 1.5  # of a piece
_LEAST_SHARE = 0.4  # of the longest, by which a cut stays away from the ends of a stretch
_GAP_S = 0.1  # a pause up to this long does not end a piece


class Piece(NamedTuple):
    """A stretch of one of a window's voices."""

    local: int  # which of the voices
    start: int  # frame of the window
    end: int


@dataclass(frozen=True, eq=False)
class Look:
    """What a window of a recording showed."""

    first: int  # frame of the recording
    activity: Array  # [frames, LOCALS]: probability that each of its voices speaks
    pieces: Sequence[Piece]
    voiceprints: Array  # [pieces, VOICEPRINT]: unit vectors
    clean: Array  # [pieces]: seconds of speech alone behind each voiceprint; 0 where there is none


def pieces_of(activity: Array, shift: float) -> list[Piece]:
    """The pieces of a window's voices; of long stretches, the cuts are moved by `shift`, 0..1 of a piece.

    Looks that overlap are to be given different shifts: then some cut lies near each change of speakers.
    """
    longest, active = _LONGEST_S * SAMPLE_RATE / FRAME, speaking(activity)
    found = []
    for local in range(LOCALS):
        for start, end in stretches(active[:, local], 1, frames(_GAP_S)):
            grid = np.round(np.arange(start + shift * longest, end, longest)).astype(int).tolist()
            inner = [at for at in grid if min(at - start, end - at) >= _LEAST_SHARE * longest]
            borders = [start, *(inner if end - start > longest else []), end]
            found += [Piece(local, *span) for span in pairwise(borders)]
    return found


def piece_weights(
    start: int, activity: Array, pieces: Sequence[Piece], moments: NDArray[np.int64]
) -> tuple[Array, Array]:
    """How much of each moment is speech alone of each piece: weights [pieces, moments], and seconds [pieces].

    start: sample index of the window.
    """
    active = speaking(activity)
    alone = active & (active.sum(axis=1, keepdims=True) == 1)
    summed = np.zeros((len(pieces), len(active) + 1), np.float32)  # speech alone up to each frame
    for row, piece in zip(summed, pieces, strict=True):
        row[piece.start + 1 : piece.end + 1] = alone[piece.start : piece.end, piece.local]
    np.cumsum(summed, axis=1, out=summed)
    middle = moments * MOMENT + MOMENT_AT - start - FRAME_AT  # samples from the first frame's beginning
    left, right = (np.clip((middle + side * MOMENT // 2) // FRAME, 0, len(active)) for side in (-1, 1))
    weights = (summed[:, right] - summed[:, left]) / np.maximum(right - left, 1).astype(np.float32)
    return weights, (weights.sum(axis=1) * MOMENT / SAMPLE_RATE).astype(np.float32)
