"""From samples to utterances: where each begins, where it ends, and where one that does not end is cut.

Positions are sample indices of the session.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from streaming.audio import Samples, Tape
from streaming.detectors import FRAME
from streaming.endpoint import Closed, Endpointer, Opened
from streaming.events import Speech
from streaming.settings import SessionSettings
from streaming.utterance import Ending, Utterance
from streaming.vad import SpeechDetector
from streaming.window import SAMPLE_RATE


@dataclass(frozen=True)
class Hole:
    """A stretch of audio that nobody has."""

    start: int
    end: int
    reason: str


def in_samples(seconds: float) -> int:
    """A duration in samples."""
    return round(seconds * SAMPLE_RATE)


class Segmenter:
    """One stream of audio in, a queue of utterances out, of which only the last may be open."""

    def __init__(
        self, detector: SpeechDetector, settings: SessionSettings, start: int, utterances: int
    ) -> None:
        """start: index of the first sample; utterances: how many there were before."""
        self.queue: deque[Utterance | Hole] = deque()  # undecided, in order
        self.tape = Tape(start)
        self._detector = detector
        self._settings = settings
        self._endpointer = Endpointer(settings.endpoint, start)
        self._utterances = utterances

    def receive_audio(self, samples: Samples) -> tuple[list[Speech], list[bool]]:
        """samples [n] that follow the last ones -> news, and a verdict for each frame that is complete with them."""
        self.tape.append(samples)
        verdicts = self._detector.receive(samples)
        return [news for verdict in verdicts for news in self._receive_verdict(verdict)], verdicts

    def skip(self, samples: int, reason: str) -> list[Speech]:
        """The next samples are missing: time moves on over them."""
        news = self.close()
        start = self.tape.end
        self.queue.append(Hole(start, start + samples, reason))
        self.tape.skip(samples)
        self._detector.skip()
        self._endpointer.skip(self.tape.end - self._endpointer.position)
        return news

    def close(self) -> list[Speech]:
        """The open utterance, if there is one, ends with the audio at hand."""
        return [] if self._open is None else [self._end(self._endpointer.close())]

    def next_number(self) -> int:
        """A number for an utterance."""
        self._utterances += 1
        return self._utterances

    # facts

    @property
    def last_number(self) -> int:
        """Of the utterances there were so far."""
        return self._utterances

    @property
    def offset(self) -> int:
        """End of the last frame of speech."""
        return self._endpointer.offset

    @property
    def speaking(self) -> bool:
        """Speech is going on, or paused a moment ago."""
        return self._endpointer.quiet <= in_samples(self._settings.pause_s)

    @property
    def undecided_from(self) -> int:
        """Audio before it is silence, or in an utterance that is in the queue."""
        return self._endpointer.undecided_from

    def early_end(self, utterance: Utterance) -> int | None:
        """Where the open utterance would end if the quiet lasts, where that is worth decoding before it has."""
        if self._endpointer.quiet < in_samples(self._settings.early_s):
            return None
        end = self._endpointer.tail_end
        whole = end >= self._endpointer.offset + in_samples(self._settings.endpoint.tail_s)
        heard = utterance.hypothesis_over(end, timed=False) is not None
        return end if whole and not heard and not utterance.failures else None

    def audio_of(self, utterance: Utterance) -> Samples:
        """What there is of it for the model to hear; of an open one up to now, or to its early end."""
        if utterance.audio is not None:
            return utterance.audio
        return self.tape.cut(utterance.audio_start, self.early_end(utterance) or self.tape.end)

    def forget(self) -> None:
        """Drops the audio that no utterance can need any more."""
        utterance = self._open
        self.tape.forget(self._endpointer.undecided_from if utterance is None else utterance.audio_start)

    # inside

    @property
    def _open(self) -> Utterance | None:
        last = self.queue[-1] if self.queue else None
        return last if isinstance(last, Utterance) and last.ending is None else None

    def _receive_verdict(self, speech: bool) -> list[Speech]:
        change = self._endpointer.receive_verdict(speech)
        frame_end = self._endpointer.position
        utterance = self._open
        if isinstance(change, Opened):
            self._begin(change.start, change.onset, change.start, frame_end)
            return [Speech(state="start", time=change.onset / SAMPLE_RATE)]
        if isinstance(change, Closed):
            return [self._end(change)]
        if utterance is not None:
            utterance.pauses.receive_frames(self.tape.cut(frame_end - FRAME, frame_end))
            at = utterance.pauses.cut()
            if at is not None:
                self._cut(utterance, at, frame_end)
        return []

    def _end(self, closed: Closed) -> Speech:
        utterance = self._open
        assert utterance is not None
        utterance.end(
            Ending(closed.end, closed.end, closed.offset, cut=False, spoken=closed.spoken),
            self.tape.cut(utterance.audio_start, closed.end),
        )
        return Speech(state="end", time=closed.offset / SAMPLE_RATE)

    def _cut(self, left: Utterance, at: int, now: int) -> None:
        """The open utterance becomes two whose audio overlaps."""
        half = in_samples(self._settings.cuts.overlap_s / 2)
        audio_end = min(at + half, now)
        left.end(Ending(at, audio_end, at, cut=True), self.tape.cut(left.audio_start, audio_end))
        self._endpointer.cut(at)
        self._begin(at, at, max(left.audio_start, at - half), now)

    def _begin(self, start: int, onset: int, audio_start: int, now: int) -> None:
        settings = self._settings
        utterance = Utterance(
            self.next_number(), start, onset, settings.cuts, settings.agreement_s, audio_start
        )
        whole_frames = (now - start) // FRAME * FRAME
        utterance.pauses.receive_frames(self.tape.cut(now - whole_frames, now))
        self.queue.append(utterance)
