"""The carrier of one session's events: to the journal when they are durable, then to whoever is shown them.

An event takes one way only, so nothing overtakes anything:

    send ─▶ queue ─▶ journal (when durable) ─▶ show

While the journal writes, the event loop and the other sessions go on, and what this session says waits in the
queue, where a partial replaces the partial before it. The queue is `full` beyond QUEUE_SIZE: whoever sends looks
at that and takes no more audio in, so only a few events more can come.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

from daemon.journal import Journal
from streaming.events import DurableEvent, Event, Partial
from streaming.session import Session

QUEUE_SIZE = 256  # events
WATERMARK_S = 1.0  # the journal learns about this often how much has been decided, also when nothing is said


class Carrier:
    """Belongs to the event loop; `run` is its task, and raises JournalError when the journal cannot be written."""

    def __init__(
        self,
        session: str,
        core: Session,
        journal: Journal,
        show: Callable[[Event], None],
        carried: Callable[[], None],
    ) -> None:
        """`show` gets each event once it may be seen, `carried` is called when the queue has become shorter."""
        self._session = session
        self._core = core
        self._journal = journal
        self._show, self._carried = show, carried
        self._queue: deque[Event] = deque()
        self._writing = False
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._marked = core.decided_sample  # what the journal knows to be decided
        self._marked_at = time.monotonic()

    @property
    def full(self) -> bool:
        """The journal is behind: send no more if you can help it."""
        return len(self._queue) >= QUEUE_SIZE

    def send(self, events: Sequence[Event]) -> None:
        """Events in the order in which they are to be seen. What need not wait for the journal is shown at once."""
        for event in events:
            if event.durable or self._writing or self._queue:
                self._enqueue(event)
            else:
                self._show(event)

    def tick(self) -> None:
        """Called now and then: moves the watermark when it is time to."""
        if self._core.decided_sample > self._marked and time.monotonic() - self._marked_at >= WATERMARK_S:
            self._wake()

    async def flush(self) -> None:
        """Returns when everything sent is shown and the watermark is in the journal, or `run` has ended."""
        self._marked_at = 0.0
        self._wake()
        await self._idle.wait()

    def close(self) -> None:
        """Ends `run`; what is in the queue is not shown."""
        self._closed = True
        self._queue.clear()
        self._work.set()

    async def run(self) -> None:
        """Carries until closed. Cancelled while the journal writes, it may leave durable events unshown."""
        try:
            while not self._closed:
                self._idle.set()
                await self._work.wait()
                self._work.clear()
                await self._carry()
        finally:
            self._closed = True
            self._idle.set()

    async def _carry(self) -> None:
        """All that is in the queue; what comes meanwhile is carried next time."""
        batch = tuple(self._queue)
        self._queue.clear()
        durable = [event for event in batch if event.durable]
        # Read together with the queue: the watermark must not run ahead of the events that belong to it.
        decided, ledger = self._core.decided_sample, self._core.ledger
        late = time.monotonic() - self._marked_at >= WATERMARK_S
        if durable or (late and decided > self._marked):
            self._writing = True
            try:
                await self._journal.append(
                    self._session, cast(Sequence[DurableEvent], durable), decided, ledger
                )
            finally:
                self._writing = False
            self._marked, self._marked_at = decided, time.monotonic()
        for event in batch:
            if self._closed:
                return
            self._show(event)
        self._carried()

    def _enqueue(self, event: Event) -> None:
        last = self._queue[-1] if self._queue else None
        if isinstance(event, Partial) and isinstance(last, Partial) and last.utterance == event.utterance:
            self._queue[-1] = event
        else:
            self._queue.append(event)
        self._wake()

    def _wake(self) -> None:
        if not self._closed:
            self._idle.clear()
            self._work.set()
