"""What the speech detector said, kept beside the turns: where it hears a turn well, it knows the pauses in it better.

The segmentation network bridges pauses and breaths of some tenths of a second. The detector does not, but it is deaf
to people far from the microphone. So a pause is taken out of a turn only where the detector heard most of that turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from streaming.detectors import FRAME
from streaming.turns import Turn, stretches

_TRUSTED = 0.7  # share of a turn's frames that are speech to the detector
_AROUND = 4  # frames left on each side of speech: it begins and ends softly
_SHORTEST = 12  # frames of quiet beyond that which are a pause


class Verdicts:
    """Speech or not for each frame of one stream so far: 120 kB an hour."""

    def __init__(self, start: int = 0) -> None:
        """start: index of the first sample."""
        self._start = start
        self._frames = bytearray()

    def receive(self, verdicts: Sequence[bool]) -> None:
        """The verdicts on the next frames."""
        self._frames += bytes(map(bool, verdicts))

    def skip_to(self, sample: int) -> None:
        """Audio is missing up to a sample index: nobody is known to speak."""
        missing = (sample - self._start) // FRAME - len(self._frames)
        self._frames += bytes(max(0, missing))

    def without_pauses(self, turn: Turn) -> list[Turn]:
        """The turn in parts, its pauses left out, where the detector heard it; else the turn as it is."""
        first, last = (max(0, round((at - self._start) / FRAME)) for at in (turn.start, turn.end))
        heard = np.frombuffer(bytes(self._frames[first:last]), np.bool_)  # frames to come are not there yet
        if not len(heard) or heard.mean() < _TRUSTED:
            return [turn]
        begin, end = max(0, first - _AROUND), last + _AROUND
        wider = np.frombuffer(bytes(self._frames[begin:end]), np.bool_).astype(np.int8)
        near = np.convolve(wider, np.ones(2 * _AROUND + 1, np.int8), "same") > 0
        quiet = ~near[first - begin :][: len(heard)]
        pauses = stretches(quiet, _SHORTEST)
        edges = [first, *(first + at for pause in pauses for at in pause), last]
        borders = [self._start + at * FRAME for at in edges]
        borders[0], borders[-1] = turn.start, turn.end  # which are finer than frames
        spans = zip(borders[::2], borders[1::2], strict=True)
        return [replace(turn, start=since, end=until) for since, until in spans if until - since >= FRAME]
