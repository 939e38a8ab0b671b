"""Endpointing: where an utterance begins and ends, from the verdicts on its frames."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from streaming.detectors import FRAME
from streaming.window import SAMPLE_RATE


@dataclass(frozen=True)
class EndpointSettings:
    """Durations in seconds."""

    onset_s: float = 0.06  # speech for this long begins an utterance
    pre_roll_s: float = 0.5  # audio kept from before the onset: the detector is late by up to this
    hang_over_s: float = 0.36  # quiet for this long ends it
    tail_s: float = 0.21  # audio kept after the last frame of speech
    min_speech_s: float = 0.12  # an utterance with less speech than this is none


class State(Enum):
    """Whether an utterance is open."""

    QUIET = "quiet"
    SPEAKING = "speaking"


@dataclass(frozen=True)
class Opened:
    """An utterance began."""

    start: int  # sample index of its first audio, pre-roll included
    onset: int  # sample index of its first frame of speech


@dataclass(frozen=True)
class Closed:
    """An utterance ended."""

    end: int  # sample index after its last audio, tail included
    offset: int  # sample index after its last frame of speech
    spoken: bool  # enough speech in it to be one


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


class Endpointer:
    """Takes verdicts in order, returns what they opened or closed. Positions are sample indices of the session."""

    def __init__(self, settings: EndpointSettings, position: int = 0) -> None:
        self._settings = settings
        self._onset_frames = max(1, _samples(settings.onset_s) // FRAME)
        self.state = State.QUIET
        self.position = position  # end of the last frame judged
        self.offset = position  # end of the last frame of speech
        self._barrier = position  # the end of the last utterance: the next one cannot begin before
        self._run = 0  # frames of speech in a row
        self._spoken = 0  # frames of speech in this utterance

    @property
    def quiet(self) -> int:
        """Samples since the last frame of speech."""
        return self.position - self.offset

    @property
    def tail_end(self) -> int:
        """Where the open utterance would end if no more speech came; not before the samples are there."""
        return min(self.position, self.offset + _samples(self._settings.tail_s))

    @property
    def undecided_from(self) -> int:
        """In quiet: audio before this can no longer become part of an utterance."""
        return max(self._barrier, self.position - self._run * FRAME - _samples(self._settings.pre_roll_s))

    def receive_verdict(self, speech: bool) -> Opened | Closed | None:
        """One frame further."""
        self.position += FRAME
        self._run = self._run + 1 if speech else 0
        if self.state is State.QUIET:
            return self._open() if self._run >= self._onset_frames else None
        if speech:
            self.offset = self.position
            self._spoken += 1
        return self.close() if self.quiet >= _samples(self._settings.hang_over_s) else None

    def close(self) -> Closed:
        """Ends the open utterance here, for whatever reason."""
        end = self.tail_end
        closed = Closed(end, self.offset, self._spoken * FRAME >= _samples(self._settings.min_speech_s))
        self.state = State.QUIET
        self._barrier, self._run = end, 0
        return closed

    def cut(self, at: int) -> None:
        """The open utterance was cut in two at a sample index; its second half stays open."""
        self._barrier = at
        self._spoken = max(0, self.offset - at) // FRAME

    def skip(self, samples: int) -> None:
        """Audio is missing: in quiet, moves on over it."""
        self.position += samples
        self._barrier = self.offset = self.position
        self._run = 0

    def _open(self) -> Opened:
        onset = self.position - self._run * FRAME
        self.state = State.SPEAKING
        self.offset = self.position
        self._spoken = self._run
        return Opened(max(self._barrier, onset - _samples(self._settings.pre_roll_s)), onset)
