"""The hub: what the sessions say, to everyone who watches.

Each event is serialised once and its text shared by all viewers. A viewer is first served from the journal
and then follows live. Its queue is bounded: when it is full, what is not durable is dropped from it; when
durable events alone fill it, the viewer is cut off. Publishing never waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType

from daemon.journal import Journal, SessionRecord, StoredEvent
from streaming.errors import Overloaded, ProtocolError, Restarting, UnknownSession
from streaming.events import Event, Final, Gap, Partial, Snapshot, Utterance
from streaming.transcript import apply

logger = logging.getLogger("amanuensis.hub")

QUEUE_SIZE = 256  # frames in a viewer's queue
REPLAY_PAGE = 500  # stored events read at a time


@dataclass(frozen=True, slots=True)
class Frame:
    """One event on its way to viewers."""

    json: str
    type: str
    seq: int | None  # of a durable event; of a snapshot: the last event in it; None for all others


@dataclass(eq=False, slots=True)
class _Channel:
    """One session: who watches, and where it stands."""

    viewers: set[Subscription] = field(default_factory=set)
    live: bool = False  # something was published, and not yet the end
    published: int = 0  # seq of the last durable event published
    partial: Partial | None = None  # the last one, until its final
    utterances: tuple[Utterance, ...] = ()  # as of `read_seq`, so that many snapshots cost one reading
    gaps: tuple[Gap, ...] = ()  # likewise
    read_seq: int = -1


class Hub:
    """Sessions' events to any number of viewers. All methods belong to the event loop."""

    def __init__(self, journal: Journal, queue_size: int = QUEUE_SIZE) -> None:
        self.journal = journal
        self.queue_size = queue_size
        self._channels: dict[str, _Channel] = {}

    @property
    def viewers(self) -> int:
        """How many viewers there are, of all sessions."""
        return sum(len(channel.viewers) for channel in self._channels.values())

    def viewers_of(self, session: str) -> int:
        """How many viewers a session has."""
        channel = self._channels.get(session)
        return len(channel.viewers) if channel else 0

    def publish(self, session: str, event: Event) -> None:
        """Hands an event to every viewer of the session; durable events must be in the journal already."""
        channel = self._channel(session)
        channel.live = True
        seq = seq_of(event)
        if seq is not None:
            channel.published = seq
        if isinstance(event, Partial):
            channel.partial = event
        elif isinstance(event, Gap) or (
            isinstance(event, Final) and channel.partial and channel.partial.utterance == event.utterance
        ):
            channel.partial = None
        if isinstance(event, Gap):
            logger.info(
                "session %s has no text from %.1f to %.1f s: %s",
                session,
                event.start,
                event.end,
                event.reason,
            )
        if channel.viewers:
            frame = Frame(event.to_json(), getattr(event, "type", ""), seq)
            for viewer in tuple(channel.viewers):
                viewer.offer(frame)

    def subscribe(
        self, session: str, after: int | None, partials: bool = True, settle_after_s: float | None = None
    ) -> Subscription:
        """A viewer: `async with` it, then iterate over its frames; UnknownSession on entering.

        `after` replays the durable events with seq > after first; None begins with a snapshot, which says
        `settle_after_s`. Without `partials` only durable events come. The iteration ends after the session's last event; it raises
        Overloaded when the viewer was too slow, Restarting when the daemon shuts down.
        """
        return Subscription(self, session, after, partials, settle_after_s)

    def end(self, session: str) -> None:
        """The session is over: its viewers get what is in their queues, and then end."""
        if channel := self._channels.pop(session, None):
            for viewer in tuple(channel.viewers):
                viewer.end()

    def close(self) -> None:
        """The daemon shuts down: every viewer gets what is in its queue, and then Restarting."""
        for channel in self._channels.values():
            for viewer in tuple(channel.viewers):
                viewer.end(
                    Restarting("The daemon is shutting down; watch again after it, from your last seq.")
                )
        self._channels.clear()

    def enter(self, viewer: Subscription) -> _Channel:
        """Called by a subscription that begins."""
        channel = self._channel(viewer.session)
        channel.viewers.add(viewer)
        return channel

    def leave(self, viewer: Subscription) -> None:
        """Called by a subscription that ends."""
        channel = self._channels.get(viewer.session)
        if channel is not None:
            channel.viewers.discard(viewer)
            if not channel.viewers and not channel.live:
                del self._channels[viewer.session]

    async def snapshot(
        self, record: SessionRecord, channel: _Channel, settle_after_s: float | None
    ) -> Snapshot:
        """The session as it stands in the journal, with the partial that is open."""
        if channel.read_seq != record.last_seq:
            events = await self.journal.events(record.id)
            channel.utterances = tuple(apply(events))
            gaps = (event for event in events if isinstance(event, Gap))
            channel.gaps = tuple(sorted(gaps, key=lambda gap: gap.start))
            channel.read_seq = events[-1].seq if events else 0
        partial = channel.partial
        if partial and any(utterance.utterance == partial.utterance for utterance in channel.utterances):
            partial = None  # its final is in the journal, about to be published
        return Snapshot(
            session=record.id,
            title=record.title,
            seq=channel.read_seq,
            live=not record.ended,
            utterances=channel.utterances,
            gaps=channel.gaps,
            partial=partial,
            settle_after_s=settle_after_s,
        )

    def _channel(self, session: str) -> _Channel:
        channel = self._channels.get(session)
        if channel is None:
            channel = self._channels[session] = _Channel()
        return channel


class Subscription:
    """One viewer of one session. Frames come in order, durable ones without hole or duplicate."""

    def __init__(
        self, hub: Hub, session: str, after: int | None, partials: bool, settle_after_s: float | None
    ) -> None:
        """Use `Hub.subscribe`."""
        self.session = session
        self.failure: ProtocolError | None = None  # why the frames end before the session does
        self.on_cut_off: Callable[[], object] = lambda: None  # told of it: whoever sends to it may be stuck
        self._hub = hub
        self._after = after
        self._partials = partials
        self._settle_after_s = settle_after_s
        self._queue: deque[Frame] = deque()
        self._wake = asyncio.Event()  # something is in the queue, or the end has come
        self._position = after or 0  # seq of the last durable event handed out
        self._following = False  # False while frames still come out of the journal
        self._ended = False
        self._snapshot: Snapshot | None = None  # what it began with
        self._read: list[StoredEvent] = []  # the last page out of the journal

    async def __aenter__(self) -> Subscription:
        await self.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    async def enter(self) -> None:
        """Begins; UnknownSession leaves nothing behind. For those who cannot use `async with`."""
        self._channel = self._hub.enter(self)  # before the journal is read: what comes meanwhile is noticed
        try:
            record = await self._hub.journal.session(self.session)
            if record is None:
                raise UnknownSession(
                    f"No session is named {self.session!r}; GET /v1/sessions lists those there are."
                )
            self._ended = self._ended or record.ended
            if self._after is None:
                self._snapshot = await self._hub.snapshot(record, self._channel, self._settle_after_s)
                self._position = self._snapshot.seq
                self._queue.append(Frame(self._snapshot.to_json(), self._snapshot.type, self._snapshot.seq))
        except BaseException:
            self._hub.leave(self)
            raise

    def leave(self) -> None:
        """Ends watching; may be called twice."""
        self._hub.leave(self)

    def raise_failure(self) -> None:
        """Raises what cut the frames short, if anything did."""
        if self.failure:
            raise self.failure

    def offer(self, frame: Frame) -> None:
        """Called by the hub for each event; never waits. While replaying, events are left to the journal."""
        if not self._following or (frame.seq is None and not self._partials):
            return
        if frame.seq is not None and frame.seq <= self._position:
            return  # replayed already
        if len(self._queue) >= self._hub.queue_size and not self._make_room(frame):
            return
        self._queue.append(frame)
        self._wake.set()

    def end(self, failure: ProtocolError | None = None) -> None:
        """Nothing more will come. What is in the journal and was never published is read there."""
        self._ended, self._following = True, False
        self.failure = self.failure or failure
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[Frame]:
        while frames := await self.take():
            for frame in frames:
                yield frame

    async def take(self) -> list[Frame]:
        """All frames there are, waiting for the first: a viewer that is behind wakes up once for all of them.

        Empty once the session is over; otherwise it ends as `Hub.subscribe` says.
        """
        while not self._queue:
            if not self._following and not self.failure:
                await self._replay()
            elif self._ended:
                self.raise_failure()
                return []
            else:
                self._wake.clear()
                await self._wake.wait()
        frames = list(self._queue)
        self._queue.clear()
        for frame in reversed(frames):
            if frame.seq is not None:
                self._position = max(self._position, frame.seq)
                break
        return frames

    async def _replay(self) -> None:
        """Queues one page of the journal; follows live as soon as nothing is in it that was not handed out.

        An event is in the journal before it is published, and nothing runs between the last look at
        `published` and `following`: no hole. Events read here and published later are refused by `offer`.
        """
        published = self._channel.published
        page = await self._hub.journal.stored(self.session, self._position, REPLAY_PAGE)
        if page:
            self._queue.extend(Frame(event.json, event.type, event.seq) for event in page)
            self._read = page
        elif self._channel.published == published:
            self._following = True
            if self._partials and not self._ended:
                self._catch_up_partial()

    def _catch_up_partial(self) -> None:
        """The partial that came while the journal was read, unless its final was read there as well."""
        partial = self._channel.partial
        if partial is None or (self._snapshot is not None and partial is self._snapshot.partial):
            return
        decided = {line.utterance for line in self._snapshot.utterances} if self._snapshot else set()
        finals = (event.parse() for event in self._read if event.type == "final")
        decided |= {final.utterance for final in finals if isinstance(final, Final)}
        if partial.utterance not in decided:
            self._queue.append(Frame(partial.to_json(), partial.type, None))

    def _make_room(self, frame: Frame) -> bool:
        """Drops what is not durable. False where `frame` itself is dropped, or the viewer is cut off."""
        durable = [queued for queued in self._queue if queued.seq is not None]
        if len(durable) < self._hub.queue_size:
            self._queue = deque(durable)
            return True
        if frame.seq is not None:
            self._hub.leave(self)
            self._queue.clear()
            self.end(
                Overloaded(
                    "This viewer read too slowly and was cut off; watch again with ?after= and your last seq.",
                    retry_after_s=1.0,
                )
            )
            self.on_cut_off()
        return False


def seq_of(event: Event) -> int | None:
    """The number of a durable event; None for the others, some of which mention one."""
    return getattr(event, "seq", None) if event.durable else None
