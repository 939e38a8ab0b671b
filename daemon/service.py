"""The service: everything that lives as long as the daemon, how it starts, and the order in which it stops."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from daemon import notify
from daemon.auth import Gatekeeper
from daemon.capture import run_captures
from daemon.config import Config
from daemon.driver import SessionDriver
from daemon.engine import Engine
from daemon.hub import Hub
from daemon.journal import Journal, SessionRecord
from daemon.metrics import Metrics
from daemon.models import Lease, Models
from daemon.orphans import Orphans
from daemon.raw_socket import RawSockets
from daemon.scheduler import Scheduler
from daemon.speakers import Speakers, known_speakers
from daemon.timekeeping import keep_time
from npu.transcriber import Transcriber
from npu.transcripts import understood
from streaming.errors import (
    BadMessage,
    ModelError,
    Restarting,
    UnknownModel,
    UnknownSession,
)
from streaming.events import Limits
from streaming.protocol import Start
from streaming.session import Session
from streaming.settings import ResumePoint, SessionOptions
from streaming.transcript import apply
from streaming.vad import SpeechDetector
from streaming.window import Manner

logger = logging.getLogger("amanuensis.service")

AUTO = "auto"  # in the journal, the language of a session whose model finds out


@dataclass(frozen=True)
class Opened:
    """A session that a producer may have."""

    record: SessionRecord
    driver: SessionDriver | None  # None where the session is over, and only its events are left
    token: str  # to resume it with


class Service:
    """One daemon. Use `Service.run`."""

    def __init__(
        self,
        config: Config,
        journal: Journal,
        engine: Engine,
    ) -> None:
        self.config = config
        self.journal = journal
        self.engine = engine
        limits, model = config.engine, config.model
        self.models = Models(
            engine.transcriber,
            engine.shelf,
            model.most_resident,
            model.idle_unload_s,
            limits.max_step_s,
            engine.window_s,
        )
        self.scheduler = Scheduler(engine.workers, engine.capacity, limits.step_s, limits.max_step_s)
        self.scheduler.window_s = engine.window_s
        self.speakers = Speakers(config, engine.voices, lambda: self.scheduler.load.waiting > 0)
        self.notes = list(engine.notes)  # what a person who looks after this daemon should know
        self.metrics = Metrics()
        journal.on_commit = self.metrics.journal.observe
        self.hub = Hub(journal, config.viewers.queue_size)
        self.gatekeeper = Gatekeeper(config.auth.tokens, config.server.allowed_origins, config.server.host)
        self.drivers: dict[str, SessionDriver] = {}
        self.started = time.monotonic()
        self.version = _version()
        self.stopping = False
        # Drops a peer's connection; whoever serves us sets it.
        self.cut_off: Callable[[tuple[str, int] | None], None] = lambda client: None
        self.raw_sockets = RawSockets(self)
        self.orphans = Orphans(journal, config.server.resume_window_s)
        self._reviving = asyncio.Lock()  # a session is read back from the journal once, or closed, never both
        self._sources = asyncio.Event()  # set when microphones and raw sockets must stop
        self._stopped = asyncio.Event()
        self._tasks: asyncio.TaskGroup  # set by run
        self._errands: set[asyncio.Task[None]] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def run(cls, config: Config, engine: Engine | None = None) -> AsyncIterator[Service]:
        """A running service for the length of a block; ModelError, JournalError or ConfigError when it cannot run.

        Without an `engine`, the models of the configuration are loaded.
        """
        journal = await Journal.open(config.journal.resolved(), config.journal.durability)
        failure: Exception | None = None
        try:
            engine = engine or await Engine.load(config)
            service = cls(config, journal, await engine.measured(config))
            async with asyncio.TaskGroup() as tasks:
                service._tasks = tasks
                await service._start()
                try:
                    yield service
                except Exception as error:  # the block's own, which a TaskGroup would wrap into a group
                    failure = error
                finally:
                    await service.stop()
        finally:
            await journal.close()
        if failure is not None:
            raise failure

    async def _start(self) -> None:
        await self.orphans.find(keep={capture.session for capture in self.config.capture})
        self._tasks.create_task(keep_time(self, self._stopped), name="clock")
        self._tasks.create_task(self.raw_sockets.run(self._sources), name="raw sockets")
        self._tasks.create_task(run_captures(self, self._sources), name="captures")

    def begin(self, errand: Coroutine[Any, Any, None], name: str) -> None:
        """A task that is no session; the end of the service cancels it."""
        task = self._tasks.create_task(errand, name=name)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    # sessions

    @property
    def limits(self) -> Limits:
        """What a producer is told it may do."""
        server = self.config.server
        return Limits(
            max_frame_bytes=server.max_frame_bytes,
            max_backlog_s=server.max_backlog_s,
            idle_timeout_s=server.idle_timeout_s,
            resume_window_s=server.resume_window_s,
            max_window_s=self.config.speech.max_window_s,
            settle_after_s=self.config.speakers.settle_after_s,
        )

    async def open_session(self, start: Start) -> Opened:
        """A session for a producer, once its model is there. BadMessage, SessionBusy, Overloaded, Restarting,
        ModelError or JournalError.
        """
        if self.stopping:
            raise _restarting()
        self.scheduler.admit()  # where nothing fits, nothing need be loaded
        with contextlib.ExitStack() as stack:
            lease = stack.enter_context(await self._lease(start.model))
            manner = _manner(start, lease.transcriber)
            self.scheduler.admit(lease.weight)
            record, token = _record(start, lease.transcriber, manner)
            await self.journal.create(record)
            driver = self._adopt(record, start, manner, lease)
            stack.pop_all()  # the session has it
        self.metrics.opened.inc()
        logger.info("session %s opened (%s, %d Hz)", record.id, start.audio.encoding, start.audio.sample_rate)
        return Opened(record, driver, token)

    async def resume_session(self, start: Start) -> Opened:
        """The session a producer had, out of memory or the journal. UnknownSession where the token fits none."""
        if self.stopping:
            raise _restarting()
        if start.resume is None:
            raise BadMessage("resume: say which session with its token.")
        record = await self._find(start.session, start.resume.token)
        driver = await self.revive(record.id)
        return Opened(record, driver, start.resume.token)

    @property
    def reviving(self) -> asyncio.Lock:
        """Held by whoever changes a session's journal without being its driver: nobody takes it up meanwhile."""
        return self._reviving

    async def revive(self, session: str) -> SessionDriver | None:
        """The driver of a session: the one there is, or one that goes on where the journal ends; None if it is over."""
        if (driver := self.drivers.get(session)) is not None:
            return driver
        record = await self._recorded(session)
        if record.ended:
            return None
        self.orphans.discard(session)  # somebody has come for it
        try:
            # Before the lock: it may take a while, and the clock and other sessions want the lock too.
            start = Start.model_validate_json(record.options)
            lease = await self._lease(start.model)
            return await self._taken_up(session, start, lease)
        except BaseException:
            self.orphans.add(session)
            raise

    async def _taken_up(self, session: str, start: Start, lease: Lease) -> SessionDriver | None:
        async with self._reviving:
            with contextlib.ExitStack() as stack:
                stack.callback(lease.release)
                if (driver := self.drivers.get(session)) is not None:
                    return driver
                record = await self._recorded(session)
                if record.ended:
                    return None
                self.scheduler.admit(lease.weight)
                events = await self.journal.events(session)
                utterance = max((line.utterance for line in apply(events)), default=0)
                point = ResumePoint(record.last_seq, utterance, record.decided_sample, record.ledger)
                logger.info("session %s goes on from the journal at seq %d", session, record.last_seq)
                manner = _manner(start, lease.transcriber)
                driver = self._adopt(record, start, manner, lease, point, known_speakers(events))
                stack.pop_all()
                return driver

    async def _recorded(self, session: str) -> SessionRecord:
        record = await self.journal.session(session)
        if record is None:
            raise UnknownSession(f"No session is named {session!r}.")
        return record

    async def _lease(self, model: str | None) -> Lease:
        """The model that a session names, or the default one."""
        try:
            lease = await self.models.lease(model)
        except UnknownModel as error:
            raise BadMessage(f"model: {error}") from error
        if self.stopping:
            lease.release()
            raise _restarting()
        return lease

    def _adopt(
        self,
        record: SessionRecord,
        start: Start,
        manner: Manner,
        lease: Lease,
        point: ResumePoint | None = None,
        speakers: int = 0,
    ) -> SessionDriver:
        detector = SpeechDetector(
            self.engine.judges() if self.engine.judges else None, self.config.speech.vad()
        )
        options = SessionOptions(manner, start.partials, start.words)
        labelling = self.speakers.open(record.id, start, point.sample if point else 0, speakers)
        labels = labelling.labels if labelling else None
        core = Session(detector, options, self.config.speech.session(), point, labels)
        driver = SessionDriver(
            record,
            core,
            lease,
            self.journal,
            self.hub,
            self.scheduler,
            self.config.server.max_backlog_s,
            self.metrics,
            labelling,
        )
        self.orphans.discard(record.id)
        self.drivers[record.id] = driver
        self.scheduler.add(driver)
        self._tasks.create_task(self._drive(driver), name=f"session {record.id}")
        return driver

    async def _drive(self, driver: SessionDriver) -> None:
        try:
            await driver.run()
        finally:
            driver.lease.release()
            if self.drivers.get(driver.id) is driver:
                del self.drivers[driver.id]
            if not driver.core.finished or driver.failure is not None:
                self.orphans.add(driver.id)
            logger.info("session %s %s", driver.id, "failed" if driver.failure else "left")

    async def _find(self, session: str | None, token: str) -> SessionRecord:
        """The record that a resume token belongs to; how long it takes tells nothing of the token."""
        digest = _digest(token)
        if session is not None:
            record = await self.journal.session(session)
            candidates = [] if record is None else [record]
        else:
            candidates = await self.journal.sessions()
        for record in candidates:
            if hmac.compare_digest(record.token_sha256, digest):
                return record
        raise UnknownSession("No session fits this resume token; begin a new one without `resume`.")

    # the end

    async def stop(self) -> None:
        """Stops in order; calling it again waits for the same end. Durable events are safe at every point of it."""
        if self.stopping:
            await self._stopped.wait()
            return
        # 1. Nobody new: `start` is answered with Restarting from here on, and /ready says no.
        self.stopping = True
        self.models.stop()
        notify.notify("STOPPING=1")
        # 2. Microphones and raw sockets stop; their sessions stay open in the journal.
        self._sources.set()
        # 3. Every producer is told to come back later; what they have sent so far is still decided.
        for driver in tuple(self.drivers.values()):
            driver.dismiss(_restarting())
        # 4. Speech in progress gets a bounded time to become text.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.server.shutdown_s):
                await self.scheduler.quiet()
        # 5. What was decided goes to the journal, and from there to the viewers.
        for driver in tuple(self.drivers.values()):
            await driver.flush()
            driver.close()
        # 6. Viewers are told after the last event there is for them.
        self.hub.close()
        # 7. The workers end, after the windows they have.
        await self.scheduler.close()
        await self.speakers.close()
        await self.models.close()
        # 8. The tasks end, and then `run` closes the journal.
        for errand in tuple(self._errands):
            errand.cancel()
        self._stopped.set()

    def forget(self, session: str) -> None:
        """A session was deleted: its producer and viewers go, nothing of it is written any more."""
        if (driver := self.drivers.get(session)) is not None:
            driver.dismiss(UnknownSession("This session was deleted."))
            driver.close()
        self.speakers.heard.forget(session)
        self.hub.end(session)

    async def discard(self, driver: SessionDriver) -> None:
        """A session that nobody was told of is as if it had never been; whoever named it may name it again."""
        logger.info("session %s is discarded: its producer left before it began", driver.id)
        self.forget(driver.id)
        await self.journal.delete(driver.id)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _version() -> str:
    """Of the installed distribution; run from a checkout there is none."""
    try:
        return metadata.version("amanuensis")
    except metadata.PackageNotFoundError:
        return "0+source"


def _record(start: Start, transcriber: Transcriber, manner: Manner) -> tuple[SessionRecord, str]:
    """A session for the journal, and the token to resume it with."""
    token = secrets.token_urlsafe(24)
    options = start.model_copy(update={"token": None, "resume": None})
    record = SessionRecord(
        id=start.session or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}",
        title=start.title,
        created=time.time(),
        model=transcriber.name,
        language=manner.language or AUTO,
        token_sha256=_digest(token),
        sample_rate=start.audio.sample_rate,
        options=options.model_dump_json(exclude_none=True),
    )
    return record, token


def _manner(start: Start, transcriber: Transcriber) -> Manner:
    """How a session is to become text; BadMessage where the model cannot."""
    if start.task == "translate" and not transcriber.translates:
        raise BadMessage(
            f"task: {transcriber.name} transcribes only; leave `task` out, or name another model."
        )
    try:
        language = understood(start.language, transcriber)
    except ModelError as error:
        raise BadMessage(f"language: {error}") from error
    return Manner(language, start.task, vocabulary=start.vocabulary)


def _restarting() -> Restarting:
    return Restarting("The daemon is shutting down; resume in a few seconds.")
