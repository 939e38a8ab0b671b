"""Recordings: sessions that nobody waits for, so that the windows of several of them can be decoded in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from npu.batches import Batches, Pool
from streaming.audio import Samples
from streaming.detectors import FRAME
from streaming.events import Event
from streaming.session import Session
from streaming.settings import ResumePoint, SessionOptions, SessionSettings
from streaming.vad import FrameJudge, SpeechDetector, VadSettings
from streaming.window import SAMPLE_RATE, Window

POOL_S = (
    240.0  # audio collected before its windows are decoded: 15 MB of samples, and batches of like lengths
)
WARM_UP = (
    60_000 * FRAME
)  # samples before a resumed recording's first that its detector hears: 30 min, for the gate's
# idea of noise changes slowly; they take some seconds


class Source(NamedTuple):
    """A recording on its way in."""

    name: str
    blocks: Iterable[Samples]  # at 16 kHz, of any length
    resume: ResumePoint | None = None  # where another run left off
    first: int = 0  # sample index of the first block; not after the resume point, best `reading_from` it


def reading_from(resume: ResumePoint) -> int:
    """The sample index from which the audio is needed to go on as if nothing had happened."""
    return max(resume.sample % FRAME, resume.sample - WARM_UP)


def _unwatched(_seconds: float) -> None:
    """Nobody wants to know."""


def _unmarked(_name: str, _point: ResumePoint) -> None:
    """Nobody will go on from there."""


def transcribe(
    sources: Iterable[Source | tuple[str, Iterable[Samples]]],
    decoder: Batches,
    judges: Callable[[], FrameJudge] | None,
    options: SessionOptions | None = None,
    settings: SessionSettings | None = None,
    vad: VadSettings | None = None,
    pool_s: float = POOL_S,
    watch: Callable[[float], None] = _unwatched,
    mark: Callable[[str, ResumePoint], None] = _unmarked,
) -> Iterator[tuple[str, Event]]:
    """Every event of every recording, with its name; those of one recording in order, the last of them `Stopped`.

    Blocks between events while it reads, detects and decodes. `judges` makes Silero for each of them; None: do without.
    watch: called in this thread, before batches and between them, with the seconds of audio of all recordings that
    are transcribed; what it raises ends the work. mark: called when a pool is decoded, for each recording that goes on,
    with the point from which it could be resumed with the events so far.
    """
    options = options or SessionOptions(partials=False)
    run = _Run(decoder, watch, mark)
    pooled = 0
    for name, blocks, resume, first in (Source(*source) for source in sources):
        detector = SpeechDetector(judges() if judges else None, vad)
        session = Session(detector, options, settings, resume)
        run.going.append((name, session))
        for block in _prepared(detector, blocks, first, session.next_sample):
            yield from _named(name, session.receive_audio(block))
            run.read += len(block)
            pooled += len(block)
            if pooled >= pool_s * SAMPLE_RATE:
                run.begin()
                pooled = 0
            yield from run.decided(decoder.ahead)
        yield from _named(name, session.finish())
    run.begin()
    yield from run.decided(0)


def _prepared(
    detector: SpeechDetector, blocks: Iterable[Samples], first: int, start: int
) -> Iterator[Samples]:
    """The audio from `start` on; of what is before it the detector hears the last few whole frames."""
    position = first
    before = min(start - first, WARM_UP) // FRAME * FRAME  # samples
    for block in blocks:
        end = position + len(block)
        warm = block[max(0, start - before - position) : max(0, start - position)]
        if len(warm):
            detector.receive(warm)
        if end > start:
            yield block[max(0, start - position) :]
        position = end


@dataclass(frozen=True)
class _Taken:
    """Windows that are out, in the order in which they were taken."""

    windows: list[tuple[str, Session, Window]]
    pool: Pool
    since: int  # samples read before the pool's
    until: int


class _Run:
    """The recordings that go on, and the pools of windows that are being decoded."""

    def __init__(
        self, decoder: Batches, watch: Callable[[float], None], mark: Callable[[str, ResumePoint], None]
    ) -> None:
        self.going: list[tuple[str, Session]] = []
        self.read = 0  # samples of all recordings
        self._decoder = decoder
        self._watch = watch
        self._mark = mark
        self._out: deque[_Taken] = deque()
        self._begun = 0  # of `read`, what the pools hold

    def begin(self) -> None:
        """What has ended in any of them becomes a pool."""
        taken = [(name, session, session.next_windows()) for name, session in self.going]
        pool = self._decoder.begin([windows for _, _, windows in taken])
        flat = [(name, session, window) for name, session, windows in taken for window in windows]
        self._out.append(_Taken(flat, pool, self._begun, self.read))
        self._begun = self.read

    def decided(self, left: int) -> Iterator[tuple[str, Event]]:
        """What follows from the pools that are out: those that are decoded, and others until at most `left` are out;
        for these it blocks.
        """
        while self._out and (len(self._out) > left or self._out[0].pool.share == 1.0):
            taken = self._out[0]
            hypotheses = taken.pool.results(lambda share, taken=taken: self._tell(taken, share))  # type: ignore[misc]
            self._out.popleft()
            for (name, session, window), hypothesis in zip(taken.windows, hypotheses, strict=True):
                yield from _named(name, session.receive_hypothesis(window, hypothesis))
            self.going = [each for each in self.going if not each[1].finished]
            for name, session in self.going:
                self._mark(name, session.resume_point)
        if self._out:
            self._tell(self._out[0], self._out[0].pool.share)

    def _tell(self, taken: _Taken, share: float) -> None:
        self._watch((taken.since + share * (taken.until - taken.since)) / SAMPLE_RATE)


def _named(name: str, events: list[Event]) -> Iterator[tuple[str, Event]]:
    return ((name, event) for event in events)
