"""Recordings: sessions that nobody waits for, so that the windows of several of them can be decoded in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from npu.transcriber import BATCH, Transcriber
from streaming.audio import Samples
from streaming.events import Event
from streaming.session import Session
from streaming.settings import SessionOptions, SessionSettings
from streaming.vad import FrameJudge, SpeechDetector, VadSettings
from streaming.window import SAMPLE_RATE, Hypothesis, Window

POOL_S = (
    240.0  # audio collected before its windows are decoded: 15 MB of samples, and batches of like lengths
)
SMALLEST_BATCH = 4  # windows; below it a thread more gains less than the batch loses

Source = tuple[str, Iterable[Samples]]  # a name, and its audio at 16 kHz in blocks of any length


class WindowDecoder(Protocol):
    """What is asked for the words of a pool: a Transcriber, or `Batches` around one."""

    def transcribe_all(self, windows: Sequence[Window]) -> list[Hypothesis]:
        """Decodes windows of recordings, without forced words or drafts; blocks until done."""


def transcribe(
    sources: Iterable[Source],
    decoder: WindowDecoder,
    judges: Callable[[], FrameJudge] | None,
    options: SessionOptions | None = None,
    settings: SessionSettings | None = None,
    vad: VadSettings | None = None,
    pool_s: float = POOL_S,
) -> Iterator[tuple[str, Event]]:
    """Every event of every recording, with its name; those of one recording in order, the last of them `Stopped`.

    Blocks between events while it reads, detects and decodes. `judges` makes Silero for each of them; None: do without.
    """
    options = options or SessionOptions(partials=False)
    going: list[tuple[str, Session]] = []
    pooled = 0
    for name, blocks in sources:
        session = Session(SpeechDetector(judges() if judges else None, vad), options, settings)
        going.append((name, session))
        for block in blocks:
            yield from _named(name, session.receive_audio(block))
            pooled += len(block)
            if pooled >= pool_s * SAMPLE_RATE:
                yield from _decide(going, decoder)
                going = [each for each in going if not each[1].finished]
                pooled = 0
        yield from _named(name, session.finish())
    yield from _decide(going, decoder)


def _decide(going: list[tuple[str, Session]], decoder: WindowDecoder) -> Iterator[tuple[str, Event]]:
    """Decodes what has ended in any of them."""
    taken = [(name, session, window) for name, session in going for window in session.next_windows()]
    hypotheses = decoder.transcribe_all([window for _, _, window in taken])
    for (name, session, window), hypothesis in zip(taken, hypotheses, strict=True):
        yield from _named(name, session.receive_hypothesis(window, hypothesis))


def _named(name: str, events: list[Event]) -> Iterator[tuple[str, Event]]:
    return ((name, event) for event in events)


class Batches:
    """Has a pool decoded a batch at a time, on one thread or several, and says how far it is in between."""

    def __init__(self, transcriber: Transcriber, between: Callable[[float], None], threads: int = 1) -> None:
        """between: called in the caller's thread before each batch, and at the end, with the share of the pool
        that is decoded, 0..1; what it raises ends the work. One thread is the caller's own.
        """
        self._transcriber = transcriber
        self._between = between
        self._threads = threads

    def transcribe_all(self, windows: Sequence[Window]) -> list[Hypothesis]:
        """As the transcriber, in the same order."""
        rows = self._batches(windows)
        batches = [[windows[row] for row in each] for each in rows]
        if self._threads == 1:
            return self._collected(rows, map(self._transcriber.transcribe_all, batches))
        executor = ThreadPoolExecutor(self._threads)
        try:
            return self._collected(rows, executor.map(self._transcriber.transcribe_all, batches))
        finally:
            executor.shutdown(cancel_futures=True)

    def _collected(
        self, rows: Sequence[Sequence[int]], decoded: Iterator[list[Hypothesis]]
    ) -> list[Hypothesis]:
        """rows: which windows each batch holds."""
        found: dict[int, Hypothesis] = {}
        count = sum(map(len, rows))
        for batch in rows:
            self._between(len(found) / count)
            found |= zip(batch, next(decoded), strict=True)
        self._between(1.0)
        return [found[row] for row in range(count)]

    def _batches(self, windows: Sequence[Window]) -> list[list[int]]:
        """Indices of windows of about one length, the longest first, so that threads end together."""
        share = -(-len(windows) // self._threads)
        size = max(min(share, BATCH), SMALLEST_BATCH)
        order = sorted(range(len(windows)), key=lambda row: len(windows[row].audio), reverse=True)
        return [order[at : at + size] for at in range(0, len(order), size)]
