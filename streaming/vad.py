"""Speech or not, frame by frame: a floor for digital silence, the WebRTC gate, and Silero for what it lets through."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streaming.audio import Samples
from streaming.detectors import FRAME, WebRtcGate

CHUNK = 512  # samples of one Silero question, 32 ms at 16 kHz


class FrameJudge(Protocol):
    """The second opinion, with the recurrent state of one stream."""

    def judge(self, chunks: Samples) -> list[float]:
        """chunks [n, 512] that follow the last ones -> probability of speech in each, 0..1."""

    def reset(self) -> None:
        """Forgets the stream so far: the next chunk does not follow the last one."""


@dataclass(frozen=True)
class VadSettings:
    """When a frame counts as speech."""

    gate_mode: int = 2  # WebRTC aggressiveness, 0..3
    floor_dbfs: float = -70.0  # frames below this level are silence whatever they sound like
    on: float = 0.5  # Silero's probability from which speech begins
    off: float = 0.35  # below which it ends


class SpeechDetector:
    """Samples in messages of any length -> one verdict for each 30 ms frame. One per stream."""

    _WARM_UP = 4  # chunks before an opened gate that Silero hears too: it needs a little past to judge well
    _RING = 10  # frames that vote when there is no judge

    def __init__(self, judge: FrameJudge | None, settings: VadSettings | None = None) -> None:
        self._settings = settings or VadSettings()
        self._gate = WebRtcGate(self._settings.gate_mode)
        self._judge = judge
        self._floor = 10.0 ** (self._settings.floor_dbfs / 10)  # mean square
        self._rest = np.zeros(0, np.float32)  # samples of an incomplete frame
        self._unjudged = np.zeros(0, np.float32)  # samples since the last chunk that Silero heard
        self._votes: deque[bool] = deque(maxlen=self._RING)
        self._speaking = False
        self._judged = False  # the judge has heard something since it last forgot

    def receive(self, samples: Samples) -> list[bool]:
        """The verdicts of the frames that are complete with these samples."""
        samples = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        whole = len(samples) - len(samples) % FRAME
        self._rest = samples[whole:].copy()
        passed = [self._passes(samples[at : at + FRAME]) for at in range(0, whole, FRAME)]
        if self._judge is None:
            return [self._by_vote(each) for each in passed]
        return self._by_judge(self._judge, samples[:whole], passed)

    def skip(self) -> None:
        """The next sample does not follow the last one: audio is missing in between."""
        self._rest = self._unjudged = np.zeros(0, np.float32)
        self._votes.clear()
        self._speaking = False
        self._forget_stream()

    @property
    def pending(self) -> int:
        """Samples received that no verdict covers yet, fewer than a frame."""
        return len(self._rest)

    def _passes(self, frame: Samples) -> bool:
        # np.dot: a mean of squares without a temporary, this runs 33 times a second for every stream
        return float(np.dot(frame, frame)) / FRAME > self._floor and self._gate.passes(frame)

    def _by_judge(self, judge: FrameJudge, samples: Samples, passed: list[bool]) -> list[bool]:
        """All chunks that the judge is asked about go to it in one call, unless it has to forget in between."""
        audio = np.concatenate([self._unjudged, samples])
        offset, heard = len(self._unjudged), 0  # of the samples, and of the next chunk, in `audio`
        asked: list[int] = []  # chunks that a frame completes
        probabilities: list[float] = []
        waiting: list[Samples] = []

        def ask() -> None:
            if waiting:
                probabilities.extend(judge.judge(np.concatenate(waiting).reshape(-1, CHUNK)))
                waiting.clear()

        for index, passes in enumerate(passed, 1):
            end = offset + index * FRAME
            count = (end - heard) // CHUNK if passes else 0
            if count:
                waiting.append(audio[heard : heard + count * CHUNK])
                heard += count * CHUNK
                self._judged = True
            elif not passes and end - heard > self._WARM_UP * CHUNK:
                heard = end - self._WARM_UP * CHUNK
                ask()
                self._forget_stream()
            asked.append(count)
        ask()
        self._unjudged = audio[heard:].copy()
        following = iter(probabilities)
        return [
            self._hold(passes, [next(following) for _ in range(n)])
            for passes, n in zip(passed, asked, strict=True)
        ]

    def _hold(self, passes: bool, probabilities: list[float]) -> bool:
        """The verdict on a frame: it ends at a lower probability than it begins at."""
        for probability in probabilities:
            self._speaking = probability >= (self._settings.off if self._speaking else self._settings.on)
        self._speaking = self._speaking and passes
        return self._speaking

    def _by_vote(self, passed: bool) -> bool:
        self._votes.append(passed)
        share = sum(self._votes) / self._RING
        self._speaking = share > 0.2 if self._speaking else share > 0.6
        return self._speaking

    def _forget_stream(self) -> None:
        if self._judge is not None and self._judged:
            self._judge.reset()
            self._judged = False
