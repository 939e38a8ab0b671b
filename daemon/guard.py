"""The guard: what is asked of every connection before the app sees it, and what every answer carries."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from daemon.auth import Gatekeeper
from daemon.refusals import refusal, refuse_socket
from streaming.errors import ProtocolError
from streaming.protocol import SUBPROTOCOL

# For everything that is not a page of ours; pages bring their own.
DEFAULT_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """ASGI middleware: Host and Origin are checked, HEAD is answered like GET, safe headers are added."""

    def __init__(self, app: ASGIApp, gatekeeper: Gatekeeper) -> None:
        self._app = app
        self._gatekeeper = gatekeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._gatekeeper.check_host(headers.get("host"))
            self._gatekeeper.check_origin(headers.get("origin"), headers.get("host"))
        except ProtocolError as error:
            await _refuse(error, scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._app(_as_get(scope), receive, _with_headers(send))


def offered(scope: Scope) -> str | None:
    """Our subprotocol, if the peer offers it."""
    return SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", ()) else None


async def _refuse(error: ProtocolError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await refusal(error)(scope, receive, send)
        return
    websocket = WebSocket(scope, receive, send)
    await websocket.accept(offered(scope))  # before that a browser would only learn that it failed
    await refuse_socket(websocket, error)


def _as_get(scope: Scope) -> Scope:
    """HEAD is GET whose body the server leaves out; a stream of events has no end to leave out."""
    if scope["method"] == "HEAD" and not scope["path"].endswith("/events"):
        return {**scope, "method": "GET"}
    return scope


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in DEFAULT_HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
