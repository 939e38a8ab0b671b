"""Follows a session as a viewer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from clients.address import Address
from clients.retry import Retry
from clients.wire import Dial, Wire, dial, refusal_of
from streaming.errors import AmanuensisError, Overloaded, Restarting, Unreachable
from streaming.events import Error, Event, Final, Gap, Revise, Snapshot, Stopped


async def watch(
    url: str,
    session: str,
    after: int | None = None,
    *,
    token: str | None = None,
    partials: bool = True,
    retry: Retry | None = None,
    dial: Dial = dial,
) -> AsyncIterator[Event]:
    """The session's events, from a snapshot on or from after that `seq`; ends when the session does.

    A lost connection is opened again and goes on after the last durable event, each of which comes exactly
    once. UnknownSession when there is none of that name, Unreachable when no daemon answers (at the start: at
    once; later: after `retry` has given up).
    """
    viewer = _Viewer(Address.parse(url), session, after, token, partials, dial)
    wire = await viewer.open()
    while True:
        lost: AmanuensisError
        try:
            while (event := await wire.receive()) is not None:
                if viewer.is_new(event):
                    yield event
                if viewer.ended:
                    return
            return  # closed in good order: the session had ended before
        except (Unreachable, Restarting, Overloaded) as error:
            lost = error
        finally:
            await wire.close()
        wire = await viewer.reopen(lost, retry or Retry())


class _Viewer:
    """What a viewer knows of the session, apart from its connections."""

    def __init__(
        self, address: Address, session: str, after: int | None, token: str | None, partials: bool, dial: Dial
    ) -> None:
        self.ended = False
        self._address = address
        self._session = session
        self._after = after  # last durable event seen; None before the snapshot
        self._token = token
        self._partials = partials
        self._dial = dial

    async def open(self) -> Wire:
        return await self._dial(self._address.events(self._session, self._after, self._partials), self._token)

    async def reopen(self, lost: AmanuensisError, retry: Retry) -> Wire:
        for pause in retry.pauses():
            await asyncio.sleep(pause)
            try:
                return await self.open()
            except (Unreachable, Restarting, Overloaded) as error:
                lost = error
        raise lost

    def is_new(self, event: Event) -> bool:
        """Whether the program has not had this event; raises what a fatal `error` says."""
        if isinstance(event, Error) and event.fatal:
            raise refusal_of(event)
        if isinstance(event, Snapshot):
            self._after = event.seq
        if isinstance(event, Final | Revise | Gap | Stopped):
            if self._after is not None and event.seq <= self._after:
                return False
            self._after = event.seq
            self.ended = isinstance(event, Stopped)
        return True
