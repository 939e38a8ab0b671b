"""The shell around a session, with a real journal whose speed the test decides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.driver import SessionDriver
from daemon.hub import Hub
from daemon.journal import Journal, SessionRecord
from daemon.metrics import Metrics
from daemon.models import Lease
from daemon.scheduler import Scheduler
from npu.scripted import ScriptedTranscriber
from streaming.errors import JournalError, ProtocolError, SessionBusy
from streaming.events import Error, Event, Final, Gap, Partial, Speech, Stopped
from streaming.protocol import AudioFormat
from streaming.session import Session
from streaming.vad import SpeechDetector

WORDS = [(0.4 * i, 0.4 * i + 0.3, f"word{i}") for i in range(400)]
PCM = AudioFormat(encoding="pcm_s16le", sample_rate=16_000)


@dataclass
class Ear:
    """A producer that keeps what it is told."""

    events: list[Event] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    dismissed: list[ProtocolError | None] = field(default_factory=list)

    def deliver(self, event: Event) -> None:
        """An event came."""
        self.events.append(event)
        self.times.append(time.monotonic())

    def dismiss(self, error: ProtocolError | None) -> None:
        """It has to go."""
        self.dismissed.append(error)

    def of(self, kind: type[Event]) -> list[Any]:
        """The events of a type."""
        return [event for event in self.events if isinstance(event, kind)]


class SlowJournal:
    """A journal whose commits take `delay_s`, or fail."""

    def __init__(self, journal: Journal, delay_s: float = 0.0) -> None:
        self.journal, self.delay_s = journal, delay_s
        self.appends: list[tuple[float, list[int], int]] = []  # when committed, seqs, watermark
        self.failing = False

    async def append(self, session: str, events: Any, decided: int, ledger: Any) -> None:
        """As Journal's."""
        if self.failing:
            raise JournalError("The disk is full; make room.")
        await asyncio.sleep(self.delay_s)
        await self.journal.append(session, events, decided, ledger)
        self.appends.append((time.monotonic(), [event.seq for event in events], decided))


@dataclass
class Rig:
    """All there is around drivers."""

    journal: SlowJournal
    hub: Hub
    scheduler: Scheduler
    tasks: asyncio.TaskGroup
    transcriber: ScriptedTranscriber
    running: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def drive(self, name: str, max_backlog_s: float = 30.0) -> SessionDriver:
        """A driver whose task runs."""
        record = SessionRecord(name, None, time.time(), "scripted", "en", "0" * 64, 16_000, "{}")
        await self.journal.journal.create(record)
        core = Session(SpeechDetector(None))
        driver = SessionDriver(
            record,
            core,
            Lease(self.transcriber, 1.0, lambda: None),
            self.journal,
            self.hub,
            self.scheduler,
            max_backlog_s,
            Metrics(),  # type: ignore[arg-type]
        )
        self.scheduler.add(driver)
        self.running[name] = self.tasks.create_task(driver.run())
        return driver


Rigging = Callable[..., Any]


@pytest.fixture
def rig(tmp_path: Path) -> Rigging:
    """`async with rig(delay_s=...) as r`."""

    @asynccontextmanager
    async def make(delay_s: float = 0.0, decode_s: float = 0.0) -> AsyncIterator[Rig]:
        journal = await Journal.open(tmp_path / "journal.db")
        scheduler = Scheduler(1, 10, 0.25, 1.5)
        async with asyncio.TaskGroup() as tasks:
            transcriber = ScriptedTranscriber(WORDS, decode_s)
            rig = Rig(SlowJournal(journal, delay_s), Hub(journal), scheduler, tasks, transcriber)
            yield rig
            for client in tuple(scheduler._clients):
                client.close()  # type: ignore[attr-defined]
        await scheduler.close()
        await journal.close()

    return make


@pytest.fixture
def speech(recording: Any) -> Callable[[float], NDArray[np.float32]]:
    """The first seconds of a reading."""
    return lambda seconds: recording("two_cities.wav")[: round(16_000 * seconds)]


async def _feed(
    driver: SessionDriver, ear: Ear, samples: NDArray[np.float32], pause_s: float = 0.001
) -> None:
    for at in range(0, len(samples), 1_600):
        await driver.feed(ear, samples[at : at + 1_600])
        await asyncio.sleep(pause_s)


async def _over(r: Rig, driver: SessionDriver) -> None:
    await asyncio.wait_for(r.running[driver.id], 20)


def test_a_journal_that_is_slow(rig: Rigging, speech: Any) -> None:
    """Nothing durable is shown before its commit, nothing overtakes it, and partials go on being shown."""

    async def main() -> None:
        async with rig(delay_s=0.15) as r:
            driver, ear = await r.drive("slow"), Ear()
            driver.attach(ear)
            await _feed(driver, ear, speech(10), 0.01)
            driver.finish()
            await _over(r, driver)
        committed = {seq: at for at, seqs, _ in r.journal.appends for seq in seqs}
        last = 0
        for event, at in zip(ear.events, ear.times, strict=True):
            if event.durable:
                assert event.seq == last + 1 and at >= committed[event.seq]  # type: ignore[attr-defined]
                last = event.seq  # type: ignore[attr-defined]
        finals = {
            event.utterance: index for index, event in enumerate(ear.events) if isinstance(event, Final)
        }
        for index, event in enumerate(ear.events):
            if isinstance(event, Partial) and event.utterance in finals:
                assert index < finals[event.utterance]
        assert len(ear.of(Final)) >= 3 and ear.of(Partial) and isinstance(ear.events[-1], Stopped)
        assert ear.dismissed == [None]

    asyncio.run(main())


def test_another_session_meanwhile(rig: Rigging, speech: Any) -> None:
    """Is not held up by a journal write of this one: the loop goes on."""

    async def main() -> None:
        async with rig(delay_s=0.5) as r:
            first, second, ears = await r.drive("a"), await r.drive("b"), (Ear(), Ear())
            first.attach(ears[0])
            second.attach(ears[1])
            first.skip(16_000, "client_skipped")  # a write begins
            await asyncio.sleep(0.01)
            begun = time.monotonic()
            await _feed(second, ears[1], speech(1.5), 0.0)
            assert time.monotonic() - begun < 0.3 and ears[1].of(Speech) and not ears[0].events

    asyncio.run(main())


def test_partials_that_wait(rig: Rigging, speech: Any) -> None:
    """Replace one another in the queue instead of piling up."""

    async def main() -> None:
        async with rig(delay_s=0.8) as r:
            driver, ear = await r.drive("pile"), Ear()
            driver.attach(ear)
            driver.skip(16_000, "client_skipped")
            await asyncio.sleep(0.01)
            await _feed(driver, ear, speech(4), 0.01)
            assert not ear.events and len(driver._carrier._queue) <= 3
            await asyncio.sleep(0.6)
            assert len(ear.of(Partial)) == 1

    asyncio.run(main())


def test_a_journal_that_fails(rig: Rigging, speech: Any) -> None:
    """The session says so and is gone; what was not committed is shown to nobody; the journal can go on with it."""

    async def main() -> None:
        async with rig() as r:
            driver, ear, other = await r.drive("full"), Ear(), await r.drive("other")
            driver.attach(ear)

            async def watch() -> list[str]:
                async with r.hub.subscribe("full", 0) as frames:
                    return [frame.type async for frame in frames]

            watching = asyncio.create_task(watch())
            await asyncio.sleep(0.1)
            r.journal.failing = True
            driver.skip(16_000, "client_skipped")
            assert await watching == ["error"]
            assert not ear.of(Gap) and isinstance(driver.failure, JournalError)
            assert ear.dismissed[0] is not None and ear.dismissed[0].close_code == 1011
            r.journal.failing = False
            other.attach(ear)
            other.skip(16_000, "client_skipped")
            await other.flush()
            assert ear.of(Gap)
            record = await r.journal.journal.session("full")
            assert record is not None and not record.ended and record.last_seq == 0

    asyncio.run(main())


def test_a_microphone_that_cannot_wait(rig: Rigging, speech: Any) -> None:
    """Loses what does not fit to gaps `overload`, few and long, and every sample is accounted for."""

    async def main() -> None:
        async with rig(decode_s=0.4) as r:
            driver, ear = await r.drive("mic", max_backlog_s=6.0), Ear()
            driver.attach(ear)
            samples = speech(40)
            for at in range(0, len(samples), 1_600):
                driver.feed_live(samples[at : at + 1_600])
                await asyncio.sleep(0.002)
            driver.finish()
            await _over(r, driver)
        gaps = [gap for gap in ear.of(Gap) if gap.reason == "overload"]
        (stopped,) = ear.of(Stopped)
        assert gaps and len(gaps) < 10 and ear.of(Final)
        assert stopped.audio_end == pytest.approx(40.0)
        assert sum(stopped.ledger.model_dump().values()) == pytest.approx(40.0, abs=0.03)
        assert stopped.ledger.gap_s == pytest.approx(sum(gap.end - gap.start for gap in gaps), abs=0.01)

    asyncio.run(main())


def test_silence(rig: Rigging) -> None:
    """Moves the watermark about once a second, without events."""

    async def main() -> None:
        async with rig() as r:
            driver, ear = await r.drive("quiet"), Ear()
            driver.attach(ear)
            for _ in range(24):
                await driver.feed(ear, np.zeros(16_000, np.float32))
                driver.tick()
                await asyncio.sleep(0.1)
            marks = [decided for _, seqs, decided in r.journal.appends if not seqs]
            assert 2 <= len(marks) <= 3 and marks == sorted(marks)
            await driver.flush()
            record = await r.journal.journal.session("quiet")
            assert record is not None and record.decided_sample > 23 * 16_000
            assert record.ledger.silence_s == pytest.approx(record.decided_sample / 16_000, abs=0.001)

    asyncio.run(main())


def test_a_producer_that_was_replaced(rig: Rigging, speech: Any) -> None:
    """Can no longer feed, not even audio that was waiting for room."""

    async def main() -> None:
        async with rig(decode_s=0.5) as r:
            driver, old, fresh = await r.drive("two", max_backlog_s=3.0), Ear(), Ear()
            driver.attach(old, PCM)
            data = (speech(20) * 32_767).astype("<i2").tobytes()
            feeding = asyncio.create_task(driver.feed_raw(old, data))
            await asyncio.sleep(0.1)
            assert driver.full and not feeding.done()
            driver.attach(fresh, PCM)
            with pytest.raises(SessionBusy):
                await feeding
            assert isinstance(old.dismissed[0], SessionBusy)
            assert driver.source_next == driver.core.next_sample < 20 * 16_000
            with pytest.raises(SessionBusy):
                await driver.feed_raw(old, data)
            driver.detach(old)
            assert driver.attached

    asyncio.run(main())


def test_latency(rig: Rigging, speech: Any) -> None:
    """Of a final counts from the arrival of its last speech, and says what the model took of it."""

    async def main() -> None:
        async with rig(decode_s=0.05) as r:
            driver, ear = await r.drive("late"), Ear()
            driver.attach(ear)
            await _feed(driver, ear, speech(9), 0.02)
            driver.finish()
            await _over(r, driver)
        for final in ear.of(Final):
            assert final.latency is not None
            assert 50 <= final.latency.decode_ms < 300
            assert final.latency.decode_ms <= final.latency.audio_to_final_ms < 3_000

    asyncio.run(main())


def test_a_fault_of_the_core(rig: Rigging, speech: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends this session with a sentence, not the daemon."""

    async def main() -> None:
        async with rig() as r:
            driver, ear = await r.drive("fault"), Ear()
            driver.attach(ear)

            def broken(*_: Any) -> Any:
                raise ZeroDivisionError

            monkeypatch.setattr(driver.core, "receive_hypothesis", broken)
            await _feed(driver, ear, speech(3))
            assert isinstance(ear.dismissed[0], ProtocolError) and "ZeroDivisionError" in str(
                ear.dismissed[0]
            )
            assert not ear.of(Error)

    asyncio.run(main())
