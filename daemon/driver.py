"""The shell around one session: audio in from its producer, windows to the scheduler, events to the carrier.

The core decides; this class does what that takes. A session that has too much undecided speech, or too many
events waiting for the journal, is `full`: its socket is not read, and no window of it is decoded, until it is not.
"""

from __future__ import annotations

import asyncio
import logging
import time

from daemon.arrivals import Arrivals
from daemon.carrier import Carrier
from daemon.hub import Hub
from daemon.journal import Journal, SessionRecord
from daemon.labelling import Labelling
from daemon.metrics import Metrics
from daemon.models import Lease
from daemon.pace import Pace
from daemon.producer import Producer
from daemon.scheduler import Deadline, Scheduler
from daemon.source import Source
from daemon.stopwatch import Stopwatch
from daemon.worker import Result
from streaming.audio import Samples
from streaming.errors import (
    AmanuensisError,
    BadMessage,
    ProtocolError,
    SessionBusy,
    SessionFailed,
    StateError,
    internal,
)
from streaming.events import Error, Event, Final, Revise, Stopped
from streaming.protocol import AudioFormat
from streaming.session import Demand, Session
from streaming.window import SAMPLE_RATE, Window

logger = logging.getLogger("amanuensis.session")

SLICE_S = 0.5  # audio given to the core at a time: detection must not hold up the other sessions
OVERLOAD_GAP_S = 5.0  # a microphone's loss is written in gaps of about this length
MOST_SKIPPED_S = 86_400


class SessionDriver:
    """One live session. All methods belong to the event loop; `run` is its task."""

    def __init__(
        self,
        record: SessionRecord,
        core: Session,
        lease: Lease,
        journal: Journal,
        hub: Hub,
        scheduler: Scheduler,
        max_backlog_s: float,
        metrics: Metrics,
        labelling: Labelling | None = None,
    ) -> None:
        """lease: the model that is to transcribe it; labelling: of who speaks, where that is wanted."""
        self.id = record.id
        self.record = record
        self.core = core
        self.lease = lease
        self.failure: AmanuensisError | None = None  # why the session could not go on
        self.detached_at: float | None = time.monotonic()  # None while a producer is there
        self.heard_at = time.monotonic()  # when audio last came
        metered = labelling is not None and labelling.channels is not None
        self._source = Source(record.sample_rate, core.next_sample, metered)
        self._hub, self._scheduler = hub, scheduler
        self._max_backlog_s = max_backlog_s
        self._metrics = metrics
        self.patient = False  # the source's silence is no reason to send it away
        self._producer: Producer | None = None
        self._arrivals = Arrivals(core.next_sample)
        self._carrier = Carrier(record.id, core, journal, self._show, self._advance)
        self._room = asyncio.Event()
        self._stopwatch = Stopwatch(self._arrivals)
        self._lost = 0  # samples of a live source waiting to become a gap
        self._overloaded = False
        self._pace = Pace(scheduler.least_step_s)
        self._finishing = False
        self._closed = False
        self._labelling = labelling
        if labelling is not None:
            labelling.start(self._arrivals.of, self._relabel, self._tell)

    # the producer

    @property
    def attached(self) -> bool:
        """A producer is there."""
        return self._producer is not None

    @property
    def source_next(self) -> int:
        """The first sample, at the declared rate, that the session does not have."""
        return self._source.next

    @property
    def finishing(self) -> bool:
        """No more audio is taken."""
        return self._finishing or self._closed

    @property
    def backlog_s(self) -> float:
        """Undecided speech, seconds."""
        return self.core.backlog_s

    @property
    def full(self) -> bool:
        """Nothing more should be taken in for now."""
        return self._carrier.full or self.core.backlog_s >= self._max_backlog_s

    def attach(self, producer: Producer, audio: AudioFormat | None = None) -> None:
        """A producer comes, sending `audio`, or 16 kHz samples of a source of ours (None); another one has to go."""
        old, self._producer = self._producer, producer
        if old is not None:
            old.dismiss(SessionBusy("This session was resumed by another connection, which has it now."))
        self._flush_decoder()
        self._source.open(audio, self.core.next_sample)
        self.patient = audio is None
        self.detached_at, self.heard_at = None, time.monotonic()
        self._room.set()  # whoever feeds for the old one finds out

    def detach(self, producer: Producer) -> None:
        """A producer went; the session waits for it to come back."""
        if self._producer is producer:
            self._flush_decoder()
            self._producer, self.detached_at = None, time.monotonic()
            self._room.set()

    def dismiss(self, error: ProtocolError) -> None:
        """Sends the producer away; the session stays."""
        if (producer := self._producer) is not None:
            producer.dismiss(error)
            self.detach(producer)

    # audio in

    async def feed_raw(self, producer: Producer, data: bytes) -> None:
        """Raw PCM in the format given to `attach`; waits while the session is full.

        Cancelled while it waits, what it has not yet taken is not counted in `source_next`.
        """
        size = self._source.slice_bytes(SLICE_S)
        for at in range(0, len(data), size):
            await self._wait_for_room(producer)
            samples, levels = self._source.decode(data[at : at + size])
            if self._labelling is not None and levels is not None:
                self._labelling.receive_levels(levels)
            self._receive(samples)
            if at:
                await asyncio.sleep(0)  # a large message must not hold up the other sessions

    async def feed(self, producer: Producer, samples: Samples, levels: Samples | None = None) -> None:
        """samples [n] at 16 kHz, and levels of the channels they are mixed from; waits while the session is full."""
        if levels is not None and self._labelling is not None:
            self._labelling.receive_levels(levels)
        size = round(SLICE_S * SAMPLE_RATE)
        for at in range(0, len(samples), size):
            await self._wait_for_room(producer)
            self._receive(samples[at : at + size])
            self._source.follow(self.core.next_sample)
            if at:
                await asyncio.sleep(0)

    def feed_live(self, samples: Samples) -> None:
        """samples [n] at 16 kHz of a source that cannot wait: while the session is full they become a gap."""
        if self.finishing:
            return
        self._overloaded = self.full or (
            self._overloaded and self.core.backlog_s > self._max_backlog_s / 2
        )  # having lost audio, catch up first: one gap instead of many
        if not self._overloaded:
            self._write_loss()
            self._receive(samples)
            self._source.follow(self.core.next_sample)
            return
        self._lost += len(samples)
        self.heard_at = time.monotonic()
        if self._lost >= OVERLOAD_GAP_S * SAMPLE_RATE and not self._carrier.full:
            self._write_loss()

    def skip(self, samples: int, reason: str) -> None:
        """The next samples, at the declared rate, are missing; BadMessage where that is more than a day."""
        if self.finishing:
            return
        if samples > self._source.samples_of(MOST_SKIPPED_S):
            raise BadMessage("skip: more than a day is missing; open another session.")
        self._write_loss()
        self._flush_decoder()
        self.heard_at = time.monotonic()
        missing = self._source.skip(samples) - self.core.next_sample
        if missing > 0:
            self._take(self.core.skip(missing, reason))
            self._arrivals.note(self.core.next_sample)

    def mark(self, marker: str) -> None:
        """Asks for an echo once everything received so far is decided."""
        if not self.finishing:
            self._take(self.core.mark(marker))

    def finalize(self, request: str | None) -> None:
        """Closes the open utterance."""
        if not self.finishing:
            self._take(self.core.finalize(request))

    def finish(self) -> None:
        """No more audio; the session ends once everything is decided."""
        if self.finishing:
            return
        self._write_loss()
        self._flush_decoder()
        self._finishing = True
        self._take(self.core.finish())

    def revise(self, utterance: int, rev: int, text: str) -> Revise:
        """A person's edit of a final of this live session; in the journal and shown in its turn."""
        event = self.core.revise(utterance, rev, text)
        self._take([event])
        return event

    def rename(self, speaker: str, name: str | None) -> None:
        """A person says who a speaker is; StateError where this session knows no such speaker."""
        if self._labelling is None:
            raise StateError("rename: this session has no labels.")
        self._labelling.rename(speaker, name)

    # the scheduler's side

    def deadline(self) -> Deadline | None:
        """What should be decoded now, and since when."""
        if self._closed or self._carrier.full:
            return None
        demand: Demand | None = self.core.demand()
        if demand is None:
            return None
        return self._stopwatch.deadline(demand)

    def next_window(self) -> Window:
        """The window with the newest audio."""
        self._stopwatch.receive_taken()
        return self.core.next_window()

    def receive_result(self, result: Result) -> None:
        """A window came back."""
        if self._closed:
            return
        self._stopwatch.receive_result(result)
        self._metrics.decode.observe(result.ended - result.began)
        try:
            if result.hypothesis is None:
                self._take(self.core.receive_failure(result.window, result.failure or "model_failed"))
            else:
                self._take(self.core.receive_hypothesis(result.window, result.hypothesis))
        except Exception as error:  # a fault of the core ends this session and leaves the others alone
            logger.exception("session %s: a hypothesis could not be digested", self.id)
            self._fail(internal(error))

    def stretch(self, step_s: float) -> None:
        """Partials come at least this far apart."""
        self.core.step_s = step_s

    # time

    def tick(self) -> None:
        """About once a second: the watermark, and word to the producer when the machine is late."""
        self._carrier.tick()
        if self._labelling is not None:
            self._labelling.tick(self._finishing)
        self._arrivals.forget(self.core.decided_sample)
        status = self._pace.judge(self._stopwatch.lag_s(self.deadline()), self.core.step_s)
        if status is not None:
            self._tell(status)

    # events out

    async def run(self) -> None:
        """Carries events until the session is over. Cancelled, it leaves what is not in the journal unshown."""
        try:
            await self._carrier.run()
        except AmanuensisError as error:
            logger.error("session %s: %s", self.id, error)
            self._fail(error)
        except Exception as error:  # the other sessions share our TaskGroup and must not go down with us
            logger.exception("session %s: carrying its events failed", self.id)
            self._fail(internal(error))
        finally:
            self._closed = True
            self._scheduler.remove(self)
            if self._labelling is not None:
                self._labelling.close()
            self._room.set()

    async def flush(self) -> None:
        """Everything said so far is in the journal and shown, the watermark is in the journal."""
        await self._carrier.flush()

    def close(self) -> None:
        """Ends `run` without ending the session: it can be resumed from the journal."""
        self._closed = True
        self._carrier.close()

    def _take(self, events: list[Event]) -> None:
        """Events that the core has just returned, on their way."""
        if events:
            self._carrier.send(
                [self._stopwatch.timed(event) if isinstance(event, Final) else event for event in events]
            )
        self._advance()

    def _advance(self) -> None:
        """What may go on after a change: a worker with our next window, and whoever waits to feed us."""
        self._scheduler.wake(self)
        if self._labelling is not None:
            self._labelling.wake()
        if not self._room.is_set() and not self.full:
            self._room.set()

    def _relabel(self) -> None:
        if not self._closed and not self.core.finished:
            self._take(self.core.receive_labels())

    def _tell(self, event: Event) -> None:
        if self._producer is not None:
            self._producer.deliver(event)

    def _show(self, event: Event) -> None:
        self._hub.publish(self.id, event)
        self._metrics.observe(event)
        self._tell(event)
        if isinstance(event, Stopped):
            self._end(None)

    def _fail(self, error: AmanuensisError) -> None:
        """The session cannot go on: says so, shows nothing that is not durable, and leaves the journal as it is."""
        if self._closed:
            return
        self.failure = error
        self._carrier.close()
        said = Error(code="session_failed", message=f"{error} Resume the session later.", fatal=True)
        self._hub.publish(self.id, said)
        self._end(SessionFailed(said.message))

    def _end(self, error: ProtocolError | None) -> None:
        self._closed = True
        self._hub.end(self.id)
        if (producer := self._producer) is not None:
            self._producer = None
            producer.dismiss(error)
        self._carrier.close()

    # audio, inside

    def _receive(self, samples: Samples) -> None:
        if not len(samples) or self.finishing:
            return
        self.heard_at = time.monotonic()
        self._arrivals.note(self.core.next_sample + len(samples))
        self._metrics.audio.inc(len(samples) / SAMPLE_RATE)
        self._take(self.core.receive_audio(samples))

    def _flush_decoder(self) -> None:
        if (rest := self._source.flush()) is not None:
            self._receive(rest)

    def _write_loss(self) -> None:
        lost, self._lost = self._lost, 0
        if lost:
            self._take(self.core.skip(lost, "overload"))
            self._arrivals.note(self.core.next_sample)
            self._source.follow(self.core.next_sample)

    async def _wait_for_room(self, producer: Producer) -> None:
        self._expect(producer)
        while self.full and not self.finishing:
            self._room.clear()
            await self._room.wait()  # cancelled here, nothing has been taken
            self._expect(producer)

    def _expect(self, producer: Producer) -> None:
        if self._producer is not producer and not self.finishing:
            raise SessionBusy("This connection no longer feeds the session.")
