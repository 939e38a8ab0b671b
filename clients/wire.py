"""One WebSocket connection to a daemon: the only module that imports python-websockets."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol

from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from clients.address import Address
from streaming.errors import Overloaded, ProtocolError, Unreachable
from streaming.events import Error, ServerMessage, parse_event
from streaming.protocol import SUBPROTOCOL

OPEN_TIMEOUT_S = 10.0
PING_S = 5.0  # so often the peer is asked for a sign of life
PING_TIMEOUT_S = 40.0  # without one the connection counts as lost; a daemon that throttles us answers late
MAX_EVENT_BYTES = 64 * 1024 * 1024  # a snapshot of a day's transcript stays far below
GONE = {1000, 1001, 1005, 1006, 1011, 1012, 1013, 1014}  # closes after which coming back makes sense


class Wire(Protocol):
    """A connection. Unreachable when it is lost, a ProtocolError when the daemon refuses."""

    async def send(self, message: str | bytes) -> None:
        """Hands one message to the system; waits while the peer takes no more."""

    async def receive(self) -> ServerMessage | None:
        """The next event; None once the daemon has closed in good order."""

    async def close(self) -> None:
        """Says goodbye; waits at most a moment for the answer."""


Dial = Callable[[str, str | None], Awaitable[Wire]]  # URL, token -> an open connection


async def dial(url: str, token: str | None = None) -> Wire:
    """Opens a WebSocket. Unreachable when nobody answers, a ProtocolError when the daemon will not have it."""
    local = Address.parse(url).is_local
    try:
        socket = await connect_websocket(
            url,
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
            additional_headers={"Authorization": f"Bearer {token}"} if token else None,
            compression=None,  # audio does not shrink, captions are small
            proxy=None if local else True,
            open_timeout=OPEN_TIMEOUT_S,
            ping_interval=PING_S,
            ping_timeout=PING_TIMEOUT_S,
            close_timeout=2.0,
            max_size=MAX_EVENT_BYTES,
            write_limit=64 * 1024,
        )
    except InvalidStatus as error:
        _refuse_handshake(url, error)
    except (InvalidURI, InvalidHandshake) as error:
        raise Unreachable(f"What answers at {url} is no Amanuensis daemon: {error}.") from error
    except (OSError, TimeoutError, EOFError) as error:
        raise Unreachable(
            f"No daemon answers at {url} ({_reason(error)}). Start one: amanuensis serve"
        ) from error
    return _WebSocketWire(socket)


class _WebSocketWire:
    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def send(self, message: str | bytes) -> None:
        try:
            await self._socket.send(message)
        except ConnectionClosed as error:
            raise Unreachable(f"The connection was lost ({_closing(error)}).") from error

    async def receive(self) -> ServerMessage | None:
        try:
            return parse_event(await self._socket.recv())
        except ConnectionClosed as error:
            self._raise_unless_in_order(error)
            return None
        except ValidationError as error:
            raise Unreachable(f"The daemon said something this client does not know: {error}") from error

    async def close(self) -> None:
        await self._socket.close()

    def _raise_unless_in_order(self, error: ConnectionClosed) -> None:
        close = error.rcvd
        if close is None or close.code in GONE - {1000}:
            raise Unreachable(f"The connection was lost ({_closing(error)}).") from error
        if close.code != 1000:
            raise refusal(_code_of(close.code), close.reason or f"The daemon closed with {close.code}.")


def refusal(code: str, message: str, retry_after_s: float | None = None) -> ProtocolError:
    """The exception for an `error` of the wire."""
    kinds = {kind.code: kind for kind in ProtocolError.__subclasses__()}
    kind = kinds.get(code, ProtocolError)
    return Overloaded(message, retry_after_s or 1.0) if kind is Overloaded else kind(message)


def refusal_of(event: Error) -> ProtocolError:
    """The exception for a fatal `error` event."""
    return refusal(event.code, event.message, event.retry_after_s)


def _code_of(close_code: int) -> str:
    return next((kind.code for kind in ProtocolError.__subclasses__() if kind.close_code == close_code), "")


def _refuse_handshake(url: str, error: InvalidStatus) -> NoReturn:
    """Translates an HTTP answer that is no upgrade; the body is the error object of PROTOCOL section 4."""
    status = error.response.status_code
    try:
        body = json.loads(error.response.body or b"")["error"]
        raise refusal(str(body["code"]), str(body["message"])) from error
    except (ValueError, KeyError, TypeError):
        kinds = {kind.http_status: kind for kind in ProtocolError.__subclasses__()}
        if status in (401, 403, 404) and status in kinds:
            raise refusal(kinds[status].code, f"The daemon at {url} refuses: HTTP {status}.") from error
        raise Unreachable(f"What answers at {url} is no Amanuensis daemon: HTTP {status}.") from error


def _closing(error: ConnectionClosed) -> str:
    if error.rcvd is None:
        return "it broke off"
    return error.rcvd.reason or f"closed with {error.rcvd.code}"


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {OPEN_TIMEOUT_S:.0f} s"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
