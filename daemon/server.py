"""The server: HTTP and WebSocket on one port, around a running service."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn

from daemon import log, notify
from daemon.config import Config
from daemon.engine import Engine
from daemon.service import Service
from daemon.socket_protocol import SocketProtocol
from streaming.errors import ConfigError

logger = logging.getLogger("amanuensis.server")

UNREAD_MS = 30_000  # what a peer has not taken for so long it will not take any more: it is dropped

TICK_S = 1.0  # between looks at the clock, for the header that says the date


class _Server(uvicorn.Server):
    """uvicorn's, which leaves signals to us and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Ends `serve`."""
        self.should_exit = True
        self._leaving.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Our own order of shutdown begins before this server's."""
        yield

    def cut_off(self, client: tuple[str, int] | None) -> None:
        """Drops the connection of a peer that does not read; closing it would wait for that peer for ever."""
        for connection in tuple(self.server_state.connections):
            wanted = client is None or getattr(connection, "client", None) == client
            if wanted and connection.transport is not None:
                connection.transport.abort()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; whoever has not gone by then is dropped."""
        await super().shutdown(sockets)
        self.cut_off(None)

    async def main_loop(self) -> None:
        """As uvicorn's, with a tenth of its wake-ups: an idle daemon should cost next to nothing. It ends at once."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._leaving.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        await super().startup(sockets)
        self.listening.set()


def serve(config: Config, engine: Engine | None = None) -> int:
    """Runs the daemon until SIGTERM or SIGINT -> exit status. Its errors are AmanuensisErrors."""
    log.configure(config.log.level)
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        runner.run(_serve(config, engine))
    return 0


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # it is not made for every system
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _serve(config: Config, engine: Engine | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(config, engine) as url:
        logger.info("listening on %s (captions at %s/web)", url, url)
        notify.notify(f"READY=1\nSTATUS=Listening on {url}")
        await stop.wait()
        logger.info("shutting down")
    logger.info("stopped")


@contextlib.asynccontextmanager
async def running(config: Config, engine: Engine | None = None) -> AsyncIterator[str]:
    """A daemon within this process, for the length of a block -> its URL. `server.port` 0 takes a free port."""
    async with Service.run(config, engine) as service, listening(service) as url:
        yield url


@contextlib.asynccontextmanager
async def listening(service: Service) -> AsyncIterator[str]:
    """Serves a running service -> its URL. Leaving the block stops the service first, then the server."""
    section = service.config.server
    with contextlib.closing(_bind(section.host, section.port)) as listener:
        async with _serving(service, listener) as url:
            yield url


@contextlib.asynccontextmanager
async def _serving(service: Service, listener: socket.socket) -> AsyncIterator[str]:
    from daemon.web import create_app  # it knows the service, the service does not know it

    section = service.config.server
    address = listener.getsockname()
    server = _Server(
        uvicorn.Config(
            create_app(service),
            http="httptools",
            ws=SocketProtocol,
            ws_max_size=section.max_frame_bytes,
            ws_per_message_deflate=False,  # audio does not compress, and text is short
            # Pings keep routers from forgetting us. No time-out: a producer that is throttled answers late, and
            # one that is dead is found by idle_timeout_s.
            ws_ping_interval=20.0,
            ws_ping_timeout=None,
            access_log=False,
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=2,
            server_header=False,
        )
    )
    service.cut_off = server.cut_off
    failure: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve([listener]), name="server")
        await server.listening.wait()
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        try:
            yield f"http://{host}:{address[1]}"
        except Exception as error:  # the block's own, which a TaskGroup would wrap into a group
            failure = error
        finally:
            await service.stop()  # producers and viewers are told before their connections are cut
            server.leave()
    if failure is not None:
        raise failure


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # inherited by every connection
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"Cannot listen on {host}:{port} ({error.strerror}); choose another with --host and --port, "
            "or stop what has it."
        ) from error
    return listener
