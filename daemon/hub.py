"""The hub: what the sessions say, to everyone who watches.

Each event is serialised once and its text shared by all viewers. A viewer is first served from the journal
and then follows live. Its queue is bounded: when it is full, what is not durable is dropped from it; when
durable events alone fill it, the viewer is cut off. Publishing never waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType

from daemon.journal import Journal, SessionRecord
from streaming.errors import Overloaded, ProtocolError, Restarting, UnknownSession
from streaming.events import Event, Final, Partial, Snapshot, Stopped, Utterance
from streaming.transcript import apply

QUEUE_SIZE = 256  # frames in a viewer's queue
REPLAY_PAGE = 500  # stored events read at a time


@dataclass(frozen=True, slots=True)
class Frame:
    """One event on its way to viewers."""

    json: str
    type: str
    seq: int | None  # of durable events; of a snapshot: the last event in it


@dataclass(slots=True)
class _Channel:
    """What the hub knows of one session: who watches, and the utterance that is open."""

    viewers: set[Subscription] = field(default_factory=set)
    partial: Partial | None = None  # the last one, until its final
    live: bool = False  # something was published, and not yet the end
    utterances: tuple[Utterance, ...] = ()  # as of `seq`, so that many snapshots cost one reading
    seq: int = -1


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

    def publish(self, session: str, event: Event) -> None:
        """Hands an event to every viewer of the session; durable events must be in the journal already."""
        channel = self._channel(session)
        channel.live = True
        if isinstance(event, Partial):
            channel.partial = event
        elif isinstance(event, Final) and channel.partial and channel.partial.utterance <= event.utterance:
            channel.partial = None
        if channel.viewers:
            frame = Frame(event.to_json(), getattr(event, "type", ""), seq_of(event))
            for viewer in channel.viewers:
                viewer.offer(frame)

    def subscribe(self, session: str, after: int | None, partials: bool = True) -> Subscription:
        """A viewer: `async with` it, then iterate over its frames; UnknownSession on entering.

        `after` replays the durable events with seq > after first; None begins with a snapshot. Without
        `partials` only durable events come. The iteration ends after the session's last event; it raises
        Overloaded when the viewer was too slow, Restarting when the daemon shuts down.
        """
        return Subscription(self, session, after, partials)

    def end(self, session: str) -> None:
        """The session is over: its viewers get what is in their queues, and then end."""
        if channel := self._channels.pop(session, None):
            for viewer in tuple(channel.viewers):
                viewer.end()

    def close(self) -> None:
        """The daemon shuts down: every viewer gets what is in its queue and then Restarting."""
        for channel in self._channels.values():
            for viewer in tuple(channel.viewers):
                viewer.end(Restarting("The daemon is shutting down; watch again after it, from your last seq."))
        self._channels.clear()

    def _channel(self, session: str) -> _Channel:
        return self._channels.setdefault(session, _Channel())

    def _enter(self, viewer: Subscription) -> None:
        self._channel(viewer.session).viewers.add(viewer)

    def _leave(self, viewer: Subscription) -> None:
        channel = self._channels.get(viewer.session)
        if channel is not None:
            channel.viewers.discard(viewer)
            if not channel.viewers and not channel.live:
                del self._channels[viewer.session]

    async def _snapshot(self, record: SessionRecord) -> Snapshot:
        """The session as it stands in the journal, with the partial that is open."""
        channel = self._channels.get(record.id) or _Channel(seq=-1)
        if channel.seq != record.last_seq:
            events = await self.journal.events(record.id)
            utterances = tuple(apply(events))
            channel.utterances, channel.seq = utterances, events[-1].seq if events else 0
        seq, utterances, partial = channel.seq, channel.utterances, channel.partial
        if partial and any(utterance.utterance >= partial.utterance for utterance in utterances[-1:]):
            partial = None  # its final is in the journal, about to be published
        return Snapshot(
            session=record.id,
            title=record.title,
            seq=seq,
            live=not record.ended,
            utterances=utterances,
            partial=partial,
        )


class Subscription:
    """One viewer of one session. Frames come in order, durable ones without hole or duplicate."""

    def __init__(self, hub: Hub, session: str, after: int | None, partials: bool) -> None:
        """Use `Hub.subscribe`."""
        self.session = session
        self._hub = hub
        self._after = after
        self._partials = partials
        self._queue: deque[Frame] = deque()
        self._wake = asyncio.Event()  # something is in the queue, or the end has come
        self._following = False  # False while frames still come out of the journal
        self._published = 0  # seq of the last durable event seen while not yet following
        self._position = 0  # seq of the last durable event handed out
        self._ended = False
        self._failure: ProtocolError | None = None
        self.cut_off = asyncio.Event()  # set when the viewer was too slow: whoever sends to it may be stuck

    async def __aenter__(self) -> Subscription:
        self._hub._enter(self)  # before the journal is read: what comes meanwhile is not missed
        try:
            record = await self._hub.journal.session(self.session)
            if record is None:
                raise UnknownSession(
                    f"No session is named {self.session!r}; GET /v1/sessions lists those there are."
                )
            self._ended = self._ended or record.ended
            self._first = None if self._after is not None else await self._snapshot_frame(record)
        except BaseException:
            self._hub._leave(self)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hub._leave(self)

    def offer(self, frame: Frame) -> None:
        """Called by the hub for each event. Durable ones are left to the journal until it has been read."""
        if not self._following:
            self._published = frame.seq or self._published
            return
        if frame.seq is None:
            if not self._partials:
                return
        elif frame.seq <= self._position:
            return  # replayed already
        if len(self._queue) >= self._hub.queue_size and not self._make_room(frame):
            return
        self._queue.append(frame)
        self._wake.set()

    def end(self, failure: ProtocolError | None = None) -> None:
        """Nothing more will come."""
        self._ended = True
        self._failure = self._failure or failure
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[Frame]:
        async for batch in self.batches():
            for frame in batch:
                yield frame

    async def batches(self) -> AsyncIterator[list[Frame]]:
        """The frames, as many at a time as there are: a viewer that is behind wakes up once for all."""
        async for page in self._replay():
            yield page
        while True:
            while self._queue:
                batch = list(self._queue)
                self._queue.clear()
                self._position = next((f.seq for f in reversed(batch) if f.seq is not None), self._position)
                yield batch
            if self._failure:
                raise self._failure
            if self._ended:
                return
            self._wake.clear()
            await self._wake.wait()

    async def _replay(self) -> AsyncIterator[list[Frame]]:
        """What the journal holds, page by page, until it holds no more than was handed out; then `following`.

        Between the last look and `following = True` nothing else runs, so there is no hole.
        """
        if self._first is not None:
            yield [self._first]
        else:
            self._position = self._after or 0
        while True:
            seen = self._published
            stored = await self._hub.journal.stored(self.session, self._position, REPLAY_PAGE)
            if stored:
                self._position = stored[-1].seq
                yield [Frame(event.json, event.type, event.seq) for event in stored]
            elif self._published <= max(seen, self._position):
                break
        self._following = True

    async def _snapshot_frame(self, record: SessionRecord) -> Frame:
        snapshot = await self._hub._snapshot(record)
        self._position = snapshot.seq
        return Frame(snapshot.to_json(), snapshot.type, snapshot.seq)

    def _make_room(self, frame: Frame) -> bool:
        """Drops what is not durable. False where `frame` itself is dropped, or the viewer is cut off."""
        durable = [queued for queued in self._queue if queued.seq is not None]
        if len(durable) < self._hub.queue_size:
            self._queue = deque(durable)
            return True
        if frame.seq is not None:
            self._hub._leave(self)
            self._queue.clear()
            self.cut_off.set()
            self.end(
                Overloaded(
                    "You read too slowly and were cut off; watch again with "
                    f"?after={self._position} to go on where you were.",
                    retry_after_s=1.0,
                )
            )
        return False


def seq_of(event: Event) -> int | None:
    """The number of a durable event; None for the others, which may mention one."""
    return getattr(event, "seq", None) if event.durable else None


__all__ = ["Frame", "Hub", "Stopped", "Subscription"]
