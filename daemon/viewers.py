"""`/v1/sessions/{id}/events`: a session's events to one viewer, over a WebSocket or as Server-Sent Events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, WebSocket
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from daemon.auth import bearer
from daemon.guard import offered
from daemon.hub import Frame, Subscription
from daemon.refusals import close_reason, refuse_socket
from streaming.errors import BadMessage, Overloaded, ProtocolError
from streaming.events import Error

if TYPE_CHECKING:
    from daemon.service import Service

KEEP_ALIVE_S = 15.0  # between comments of an idle event stream
MAX_SEQ = 2**53 - 1
_SWITCH = {"": True, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class ViewerRequest:
    """What a viewer asks for."""

    after: int | None  # replay durable events after this seq; None: begin with a snapshot
    partials: bool

    @classmethod
    def parse(cls, query: Mapping[str, str], last_event_id: str | None = None) -> ViewerRequest:
        """Reads the query; a Last-Event-ID is newer than the `after` of the URL it comes with."""
        after = last_event_id or query.get("after")
        if after is not None and not (after.isascii() and after.isdigit() and int(after[:17]) <= MAX_SEQ):
            raise BadMessage(f"after: {after[:40]!r} is not a seq; send a whole number from 0 on.")
        partials = _SWITCH.get(query.get("partials", "").lower())
        if partials is None:
            raise BadMessage("partials: send true or false.")
        return cls(None if after is None else int(after), partials)


def create_router(service: Service) -> APIRouter:
    """Both forms of the path."""
    router = APIRouter()

    @router.websocket("/v1/sessions/{session}/events")
    async def watch(websocket: WebSocket, session: str) -> None:
        await websocket.accept(offered(websocket.scope))
        try:
            _admit(service, websocket.query_params, websocket.headers)
            request = ViewerRequest.parse(websocket.query_params)
            async with _subscribe(service, session, request) as viewer:
                await _serve_socket(websocket, viewer)
        except ProtocolError as error:
            _count(service, error)
            await refuse_socket(websocket, error)

    @router.get(
        "/v1/sessions/{session}/events",
        summary="Follow a session as Server-Sent Events (or open a WebSocket here)",
        tags=["sessions"],
        response_class=Response,
        responses={200: {"content": {"text/event-stream": {}}}},
        openapi_extra={"parameters": _PARAMETERS},
    )
    async def stream(session: str, request: Request) -> Response:
        _admit(service, request.query_params, request.headers)
        wanted = ViewerRequest.parse(request.query_params, request.headers.get("last-event-id"))
        record = await service.journal.session(session)
        if record and record.ended and wanted.after is not None and wanted.after >= record.last_seq:
            return Response(status_code=204)  # the one answer that makes an EventSource stay away
        viewer = _subscribe(service, session, wanted)
        await viewer.enter()  # here, so that a session that does not exist is a 404
        return _EventStream(viewer, lambda error: _count(service, error))

    return router


_PARAMETERS = [
    {
        "name": "after",
        "in": "query",
        "schema": {"type": "integer", "minimum": 0},
        "description": "Replay the durable events after this seq, then follow. Without it: a snapshot first.",
    },
    {
        "name": "partials",
        "in": "query",
        "schema": {"type": "boolean", "default": True},
        "description": "Whether events come that are not durable.",
    },
    {"name": "ticket", "in": "query", "schema": {"type": "string"}, "description": "From POST /v1/tickets."},
]


def _subscribe(service: Service, session: str, wanted: ViewerRequest) -> Subscription:
    settle_after_s = service.config.speakers.settle_after_s
    return service.hub.subscribe(session, wanted.after, wanted.partials, settle_after_s)


def _admit(service: Service, query: QueryParams, headers: Headers) -> None:
    service.gatekeeper.admit(
        bearer(headers.get("authorization")), query.get("ticket"), headers.get("origin"), headers.get("host")
    )


def _count(service: Service, error: ProtocolError) -> None:
    if isinstance(error, Overloaded):
        service.metrics.slow_viewers.inc()
    else:
        service.metrics.refused.labels(error.code).inc()


async def _serve_socket(websocket: WebSocket, viewer: Subscription) -> None:
    """Sends until the session ends, the viewer leaves, or it is cut off (raises)."""

    async def send_all() -> None:
        while frames := await viewer.take():
            for frame in frames:
                await websocket.send_text(frame.json)

    async def listen() -> None:
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass  # a viewer has nothing to say

    stayed = await _until_either(viewer, send_all, listen)
    viewer.raise_failure()
    if stayed:
        await websocket.close(1000, close_reason("The session is over."))


async def _until_either(
    viewer: Subscription, send: Callable[[], Awaitable[None]], listen: Callable[[], Awaitable[None]]
) -> bool:
    """Runs both until one returns; True where that was `send`. Cutting the viewer off interrupts `send`."""
    finished = False

    async def first() -> None:
        nonlocal finished
        try:
            await send()
            finished = True
        except (ProtocolError, WebSocketDisconnect):
            pass  # the first is kept by the viewer, see raise_failure; the second ends `listen` as well
        finally:
            listener.cancel()

    async def second() -> None:
        await listen()
        sender.cancel()

    async with asyncio.TaskGroup() as group:
        sender = group.create_task(first())
        listener = group.create_task(second())
        viewer.on_cut_off = sender.cancel  # it may be stuck in a send that nobody reads
    return finished


class _EventStream(Response):
    """The frames of a viewer that has been entered, as an event stream; leaves it when done."""

    media_type = "text/event-stream"

    def __init__(self, viewer: Subscription, count: Callable[[ProtocolError], None]) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._viewer = viewer
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends until the session ends or the viewer leaves."""

        async def write(text: str, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

        async def send_all() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await write("retry: 2000\n\n")
            while (frames := await self._take()) is None or frames:
                await write(_lines(frames) if frames else ": still here\n\n")

        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        try:
            stayed = await _until_either(self._viewer, send_all, listen)
            if error := self._viewer.failure:
                self._count(error)
                said = Error(code=error.code, message=str(error), fatal=True)
                async with asyncio.timeout(1.0):
                    await write(f"event: error\ndata: {said.to_json()}\n\n", more=False)
            elif stayed:
                await write("", more=False)
        except TimeoutError:
            pass  # it reads nothing any more; the server drops the connection
        finally:
            self._viewer.leave()

    async def _take(self) -> list[Frame] | None:
        """Frames; none at the end; None when it is time for a sign of life."""
        try:
            async with asyncio.timeout(
                KEEP_ALIVE_S
            ):  # Python 3.11's wait_for may swallow that the viewer left
                return await self._viewer.take()
        except TimeoutError:
            return None


def _lines(frames: Iterable[Frame]) -> str:
    """Durable events have an id, which a browser sends back as Last-Event-ID when it reconnects."""
    return "".join(
        (f"id: {frame.seq}\n" if frame.seq is not None else "")
        + f"event: {frame.type}\ndata: {frame.json}\n\n"
        for frame in frames
    )
