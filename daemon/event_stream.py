"""Server-Sent Events: an answer that goes on. https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

KEEP_ALIVE_S = 15.0  # between signs of life of an idle stream
STILL_HERE = ": still here\n\n"

T = TypeVar("T")


def event(data: str, kind: str | None = None, number: int | None = None) -> str:
    """One event; data: JSON, so one line."""
    head = (f"id: {number}\n" if number is not None else "") + (f"event: {kind}\n" if kind else "")
    return f"{head}data: {data}\n\n"


async def within_patience(wait: Callable[[], Awaitable[T]]) -> T | None:
    """What is waited for; None when it is time for a sign of life. `wait` may be cancelled without loss."""
    try:
        async with asyncio.timeout(KEEP_ALIVE_S):
            return await wait()
    except TimeoutError:
        return None


class EventStream(Response):
    """Sends events until there are no more or the peer leaves, which cancels whoever makes them."""

    media_type = "text/event-stream"

    def __init__(
        self, events: Callable[[], AsyncGenerator[str, None]], held: AsyncExitStack | None = None
    ) -> None:
        """held: what is left when the stream is over, however it ends."""
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._held = held or AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        async with self._held, asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(self._send(send), name="event stream")
            leaving = tasks.create_task(_until_left(receive), name="event stream's client")
            await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
            sending.cancel()
            leaving.cancel()

    async def _send(self, send: Send) -> None:
        async def write(text: str, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._events()) as events:
            async for each in events:
                await write(each)
        await write("", more=False)


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
