"""Speakers on channels of their own: whose channel is loud is who speaks. Costs nothing, and is never revised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from streaming.audio import LEVELS_PER_S, Samples
from streaming.turns import Turn
from streaming.window import SAMPLE_RATE

HOP = SAMPLE_RATE // LEVELS_PER_S  # samples between two levels

Levels = NDArray[np.float32]  # [hops, channels]: mean squares

_FLOOR = 10 ** (-55 / 10)  # mean square below which nobody speaks
_CROSSTALK = 10 ** (
    -12 / 10
)  # so far under the loudest channel it is the same voice, heard by another microphone
_SMOOTH = 10  # hops over which levels are averaged
_BRIDGE = 30  # hops of quiet within a turn
_SHORTEST = 10  # hops of a turn
_KEPT = 300 * LEVELS_PER_S  # hops remembered: no utterance is followed for longer


class ChannelTurns:
    """Levels of the channels in, turns out: speaker n is on channel n."""

    def __init__(self, channels: int, start: int = 0) -> None:
        """start: index of the first sample."""
        self._first = start // HOP  # index of the oldest hop kept
        self._loud = np.zeros((0, channels), np.bool_)  # [hops, channels]
        self._tail = np.zeros((0, channels), np.float32)  # the last levels, to average with the next
        self.speakers: Mapping[int, None] = dict.fromkeys(range(1, channels + 1))

    def receive_levels(self, levels: Levels) -> None:
        """levels [n, channels] that follow the last ones."""
        known = len(self._tail)
        levels = np.concatenate([self._tail, levels])
        summed = np.concatenate([np.zeros((1, levels.shape[1])), levels.cumsum(axis=0)])
        since = np.maximum(np.arange(1, len(levels) + 1) - _SMOOTH, 0)
        smooth = (summed[1:] - summed[since]) / (np.arange(1, len(levels) + 1) - since)[:, None]
        loud = (smooth > _FLOOR) & (smooth >= _CROSSTALK * smooth.max(axis=1, keepdims=True, initial=0.0))
        self._loud = np.concatenate([self._loud, loud[known:]])
        self._tail = levels[-(_SMOOTH - 1) :]
        self._first += max(0, len(self._loud) - _KEPT)
        self._loud = self._loud[-_KEPT:]

    def receive_audio(self, samples: Samples) -> None:
        """The mixture tells nothing."""

    def receive_verdicts(self, verdicts: Sequence[bool]) -> None:
        """Nor does whether anyone speaks."""

    def skip(self, samples: int) -> None:
        """Audio is missing: silence on all channels."""
        silence = np.zeros((samples // HOP, self._loud.shape[1]), np.float32)
        for at in range(0, len(silence), _KEPT):
            self.receive_levels(silence[at : at + _KEPT])

    def finish(self) -> None:
        """Everything is known already."""

    @property
    def finished(self) -> bool:
        """At any time."""
        return True

    def demand(self) -> None:
        """No model is needed."""

    def next_job(self) -> NoReturn:
        """There is none."""
        raise LookupError("next_job: channels need no model.")

    def receive_heard(self, job: object, heard: object) -> None:
        """Nothing comes back."""

    @property
    def heard_until(self) -> int:
        """As far as there are levels."""
        return (self._first + len(self._loud)) * HOP

    @property
    def settled_until(self) -> int:
        """Nothing is ever revised."""
        return self.heard_until

    def turns(self, start: int, end: int) -> tuple[Turn, ...]:
        """Those that overlap a stretch, in order of time."""
        first = max(start // HOP - self._first, 0)
        seen = self._loud[first : max(end // HOP + 1 - self._first, 0)]
        offset = self._first + first
        turns = [
            Turn((offset + begin) * HOP, (offset + stop) * HOP, channel + 1, settled=True, confidence=None)
            for channel in range(seen.shape[1])
            for begin, stop in _runs(seen[:, channel])
        ]
        return tuple(sorted(turns, key=lambda turn: (turn.start, turn.speaker)))


def _runs(loud: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(begin, end) of each stretch of loud hops, short quiet bridged, short stretches left out."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(np.int8), [0]])))
    runs: list[tuple[int, int]] = []
    for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if runs and begin - runs[-1][1] < _BRIDGE:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((begin, end))
    return [(begin, end) for begin, end in runs if end - begin >= _SHORTEST]
