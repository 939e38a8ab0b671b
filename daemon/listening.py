"""Listening for voices: one thread of the lowest priority that runs the voice models for all sessions.

It works when nobody waits for text. What cannot be done in time is not queued: each session has one job out at most,
and its next one covers what has come meanwhile, so overload makes labels late, or leaves them out, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol

from streaming.errors import AmanuensisError

logger = logging.getLogger("amanuensis.listening")

LOWEST = 19  # niceness


class Listener(Protocol):
    """A session, as this thread sees it. All methods are called on the event loop."""

    def voices_due(self) -> float | None:
        """Monotonic time since which a job is due; None for nothing, or while one is out."""

    def next_voices(self) -> Any:
        """The job."""

    def receive_voices(self, job: Any, heard: Any | None) -> None:
        """What came of it; None where the models failed."""


class Listening:
    """Belongs to the event loop that made it."""

    def __init__(self, perform: Callable[[Any], Any], text_waits: Callable[[], bool]) -> None:
        """perform: runs the models on a job, in the thread; text_waits: someone waits for text."""
        self._perform = perform
        self._text_waits = text_waits
        self._loop = asyncio.get_running_loop()
        self._ready: dict[Listener, float] = {}
        self._busy = False
        self._closed = False
        # Holds one job at most: the next one is sent when it has come back.
        self._jobs: queue.SimpleQueue[tuple[Listener, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="voices", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Sessions with a job that is due."""
        return len(self._ready)

    def wake(self, listener: Listener) -> None:
        """Something changed in a session."""
        due = listener.voices_due()
        if due is None:
            self._ready.pop(listener, None)
        else:
            self._ready[listener] = due
            self.dispatch()

    def remove(self, listener: Listener) -> None:
        """A session is over; what it has out comes back to nobody."""
        self._ready.pop(listener, None)

    def dispatch(self) -> None:
        """The job that has been due for longest, if nothing more urgent is to be done. Called now and then, too."""
        while self._ready and not self._busy and not self._closed and not self._text_waits():
            listener = min(self._ready, key=self._ready.__getitem__)
            del self._ready[listener]
            if listener.voices_due() is not None:
                self._busy = True
                self._jobs.put((listener, listener.next_voices()))

    async def close(self) -> None:
        """Nothing is begun any more; returns when the thread has ended."""
        self._closed = True
        self._ready.clear()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        """The thread."""
        if hasattr(os, "setpriority"):
            with contextlib.suppress(OSError):  # as the others, then
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)
        while (work := self._jobs.get()) is not None:
            listener, job = work
            try:
                heard = self._perform(job)
            except AmanuensisError as error:
                logger.warning("the voice models failed: %s", error)
                heard = None
            except Exception:  # a vendor's exception concerns one session's labels, nothing else
                logger.exception("the voice models failed")
                heard = None
            with contextlib.suppress(RuntimeError):  # the loop has gone, and the sessions with it
                self._loop.call_soon_threadsafe(self._receive, listener, job, heard)

    def _receive(self, listener: Listener, job: Any, heard: Any | None) -> None:
        self._busy = False
        try:
            listener.receive_voices(job, heard)  # wakes us for its next job
        finally:
            self.dispatch()
