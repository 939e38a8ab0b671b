"""Recordings: sessions that nobody waits for, so that the windows of several of them can be decoded in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from npu.transcriber import Transcriber
from streaming.audio import Samples
from streaming.events import Event
from streaming.session import Session
from streaming.settings import SessionOptions, SessionSettings
from streaming.vad import FrameJudge, SpeechDetector
from streaming.window import SAMPLE_RATE

POOL_S = (
    240.0  # audio collected before its windows are decoded: 15 MB of samples, and batches of like lengths
)

Source = tuple[str, Iterable[Samples]]  # a name, and its audio at 16 kHz in blocks of any length


def transcribe(
    sources: Iterable[Source],
    transcriber: Transcriber,
    judges: Callable[[], FrameJudge] | None,
    options: SessionOptions | None = None,
    settings: SessionSettings | None = None,
) -> Iterator[tuple[str, Event]]:
    """Every event of every recording, with its name; those of one recording in order, the last of them `Stopped`.

    Blocks between events while it reads, detects and decodes. `judges` makes Silero for each of them; None: do without.
    """
    options = options or SessionOptions(partials=False)
    going: list[tuple[str, Session]] = []
    pooled = 0
    for name, blocks in sources:
        session = Session(SpeechDetector(judges() if judges else None), options, settings)
        going.append((name, session))
        for block in blocks:
            yield from _named(name, session.receive_audio(block))
            pooled += len(block)
            if pooled >= POOL_S * SAMPLE_RATE:
                yield from _decide(going, transcriber)
                going = [each for each in going if not each[1].finished]
                pooled = 0
        yield from _named(name, session.finish())
    yield from _decide(going, transcriber)


def _decide(going: list[tuple[str, Session]], transcriber: Transcriber) -> Iterator[tuple[str, Event]]:
    """Decodes what has ended in any of them."""
    taken = [(name, session, window) for name, session in going for window in session.next_windows()]
    hypotheses = transcriber.transcribe_all([window for _, _, window in taken])
    for (name, session, window), hypothesis in zip(taken, hypotheses, strict=True):
        yield from _named(name, session.receive_hypothesis(window, hypothesis))


def _named(name: str, events: list[Event]) -> Iterator[tuple[str, Event]]:
    return ((name, event) for event in events)
