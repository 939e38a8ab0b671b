"""A cable between client and daemon that can be cut, and a connection that says what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest

from streaming.events import ServerMessage, parse_event


class Cable:
    """A TCP proxy on loopback. `cut` drops every connection, `unplug` also refuses new ones until `plug`."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._plugged = True
        self.connections = 0
        self.upstream_bytes = 0
        self.url = ""

    async def open(self) -> None:
        """Listens on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Drops everything."""
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Drops every connection, as a router does that restarts: without a word."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def unplug(self) -> None:
        """Drops every connection, and those to come."""
        self._plugged = False
        self.cut()

    def plug(self) -> None:
        """Takes connections again."""
        self._plugged = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._plugged:
            writer.transport.abort()
            return
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, far_writer}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, far_writer, True))
                tasks.create_task(self._pump(far_reader, writer, False))
        finally:
            self._writers -= {writer, far_writer}
            writer.transport.abort()
            far_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                self.upstream_bytes += len(data) if up else 0
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@pytest.fixture
def cable() -> Callable[[str], AbstractAsyncContextManager[Cable]]:
    """`async with cable(url) as c`: c.url leads to the same daemon."""

    @asynccontextmanager
    async def lay(url: str) -> AsyncIterator[Cable]:
        cable = Cable(url)
        await cable.open()
        try:
            yield cable
        finally:
            await cable.close()

    return lay


class ScriptedWire:
    """A connection on which the server says these things, as JSON, and then closes in good order."""

    def __init__(self, *said: str) -> None:
        self.heard: list[str | bytes] = []
        self._said = list(said)

    async def dial(self, url: str, token: str | None = None) -> ScriptedWire:
        """Opens it, wherever it should lead."""
        return self

    async def send(self, message: str | bytes) -> None:
        """Keeps what the client says."""
        self.heard.append(message)

    async def receive(self) -> ServerMessage | None:
        """The next thing that is said."""
        return parse_event(self._said.pop(0)) if self._said else None

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def scripted_wire() -> Callable[..., ScriptedWire]:
    """`scripted_wire(json, json, ...)`, whose `dial` goes in place of the real one."""
    return ScriptedWire
