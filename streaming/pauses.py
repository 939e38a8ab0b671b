"""Where to cut an utterance that does not end: at the best pause, and the longer it lasts the less of a pause will do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from streaming.audio import Samples
from streaming.detectors import FRAME
from streaming.window import SAMPLE_RATE


@dataclass(frozen=True)
class CutSettings:
    """When a long utterance is cut. Durations in seconds."""

    soft_window_s: float = 10.0  # from here on, a clear pause is a good place to cut
    max_window_s: float = 15.0  # here it is cut at the best place there is
    overlap_s: float = 0.8  # audio that both sides of the cut hear, half of it on each side
    pause_db: float = 20.0  # how far under the utterance's usual level a clear pause lies


class Pauses:
    """The levels of an open utterance's frames, in order, and the place in them to cut at."""

    _SMOOTH = 5  # frames over which a pause is measured: 150 ms, a closure within a word is shorter
    _LOOK_BACK = 60  # frames back from now in which the cut may lie; older audio has committed words
    _GUARD = 4  # frames before now that may yet turn out to be the middle of a dip

    def __init__(self, settings: CutSettings, start: int) -> None:
        self._settings = settings
        self._start = start  # sample index of the first frame
        self._levels: list[float] = []  # dB of full scale, one a frame

    def receive_frames(self, samples: Samples) -> None:
        """samples [n * FRAME] that follow the last ones."""
        for at in range(0, len(samples), FRAME):
            frame = samples[at : at + FRAME]
            self._levels.append(10 * math.log10(float(np.dot(frame, frame)) / FRAME + 1e-10))

    @property
    def length_s(self) -> float:
        """How long the utterance has lasted."""
        return len(self._levels) * FRAME / SAMPLE_RATE

    def cut(self) -> int | None:
        """The sample index to cut at, or None: not yet."""
        settings = self._settings
        if self.length_s < settings.soft_window_s:
            return None
        levels = np.array(self._levels)
        smooth = np.convolve(levels, np.full(self._SMOOTH, 1 / self._SMOOTH), "valid")
        recent = smooth[-self._LOOK_BACK : -self._GUARD]
        best = int(recent.argmin())
        depth = float(np.percentile(levels, 80) - recent[best])
        if depth < self._wanted_db():
            return None
        frame = max(0, len(smooth) - self._LOOK_BACK) + best + self._SMOOTH // 2
        return self._start + frame * FRAME + FRAME // 2

    def _wanted_db(self) -> float:
        """Clear at the soft limit, anything at the hard one."""
        settings = self._settings
        left = settings.max_window_s - self.length_s
        if left <= FRAME / SAMPLE_RATE:
            return -math.inf
        return settings.pause_db * min(1.0, left / (settings.max_window_s - settings.soft_window_s))
