"""Raw PCM on a TCP or Unix socket: whoever connects and sends samples has a session."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.config import RawSocket
from daemon.driver import SessionDriver
from streaming.errors import AmanuensisError, ConfigError, ProtocolError
from streaming.events import Event
from streaming.protocol import Start

if TYPE_CHECKING:
    from daemon.service import Service

logger = logging.getLogger("amanuensis.raw")

READ_BYTES = 1 << 15


class RawSockets:
    """All [[socket]] blocks of the configuration."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._numbers = count(1)
        self.addresses: list[str] = []  # where they listen, port 0 resolved

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop`; a socket that cannot be opened becomes a note."""
        async with contextlib.AsyncExitStack() as servers:
            for section in self._service.config.socket:
                try:
                    server = await servers.enter_async_context(await self._listen(section))
                except (OSError, ConfigError) as error:
                    self._service.notes.append(f"The raw socket {section.listen} is not served: {error}")
                    logger.error(self._service.notes[-1])
                    continue
                for each in server.sockets:
                    name = each.getsockname()
                    self.addresses.append(name if isinstance(name, str) else f"{name[0]}:{name[1]}")
                    logger.info("raw %s at %s", section.encoding, self.addresses[-1])
            await stop.wait()

    async def _listen(self, section: RawSocket) -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _Connection(self._service, section, reader, writer, next(self._numbers)).serve()

        host, _, port = section.listen.rpartition(":")
        if port.isdigit() and host and "/" not in host:
            return await asyncio.start_server(serve, host.strip("[]"), int(port), limit=READ_BYTES)
        path = _free_path(section.listen)
        previous = os.umask(0o117)  # the owner and the group may connect
        try:
            return await asyncio.start_unix_server(serve, str(path), limit=READ_BYTES)
        finally:
            os.umask(previous)


def _free_path(listen: str) -> Path:
    """The path of a Unix socket, with what a daemon before this one left there removed."""
    path = Path(listen).expanduser()
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise ConfigError(f"{path} exists and is no socket; remove it or choose another path.")
        path.unlink()
    return path


class _Connection:
    """One connection. It is told nothing; a fault closes it."""

    def __init__(
        self,
        service: Service,
        section: RawSocket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        number: int,
    ) -> None:
        self._service, self._section = service, section
        self._reader, self._writer = reader, writer
        self._number = number

    def deliver(self, event: Event) -> None:
        """Nobody listens at the other end."""

    def dismiss(self, error: ProtocolError | None) -> None:
        """The session is over, or the daemon is."""
        if error is not None:
            logger.info("raw socket: %s", error)
        self._writer.transport.abort()

    async def serve(self) -> None:
        """Reads to the end of the stream."""
        section = self._section
        name = f"{section.session}-{time.strftime('%Y%m%d-%H%M%S')}-{self._number}"
        driver: SessionDriver | None = None
        try:
            opened = await self._service.open_session(Start(audio=section.audio, session=name))
            driver = opened.driver
            assert driver is not None
            driver.attach(self, section.audio)
            while data := await self._reader.read(READ_BYTES):
                await driver.feed_raw(self, data)
        except AmanuensisError as error:
            logger.warning("raw socket %s: %s", name, error)
        except OSError as error:
            logger.info("raw socket %s: the connection broke (%s)", name, error)
        finally:
            if driver is not None and not self._service.stopping:
                driver.finish()  # nobody can resume it
            self._writer.transport.abort()
