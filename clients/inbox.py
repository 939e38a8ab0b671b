"""Events that have arrived and that the program has not read yet."""

from __future__ import annotations

import asyncio
from collections import deque

from streaming.events import Event

CAPACITY = 2_000  # events


class Inbox:
    """A bounded queue between the connection and the program.

    When it is full the oldest event that is not durable goes (a partial is outdated by the next one); when it
    holds nothing but durable ones, `put` waits, and with it the connection.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._events: deque[Event] = deque()
        self._changed = asyncio.Condition()
        self._ended = False
        self._failure: Exception | None = None

    async def put(self, event: Event) -> None:
        """Appends an event."""
        async with self._changed:
            while len(self._events) >= self._capacity and not self._drop_passing():
                await self._changed.wait()
            self._events.append(event)
            self._changed.notify_all()

    async def end(self, failure: Exception | None = None) -> None:
        """Nothing will follow; `failure` is raised once everything has been read."""
        async with self._changed:
            self._ended, self._failure = True, failure
            self._changed.notify_all()

    async def get(self) -> Event | None:
        """The next event; None after the end."""
        async with self._changed:
            while not self._events and not self._ended:
                await self._changed.wait()
            if self._events:
                self._changed.notify_all()
                return self._events.popleft()
            if self._failure is not None:
                raise self._failure
            return None

    def _drop_passing(self) -> bool:
        for index, event in enumerate(self._events):
            if not event.durable:
                del self._events[index]
                return True
        return False
