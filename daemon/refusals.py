"""How the daemon says no: one error object for HTTP, one error event and a close code for WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from daemon.metrics import Metrics
from streaming.errors import AmanuensisError, BadMessage, JournalError, ModelError, Overloaded, ProtocolError
from streaming.events import Error

logger = logging.getLogger("amanuensis.web")

CLOSE_PATIENCE_S = 0.5  # for a peer that takes no more bytes to take the reason
MAX_REASON_BYTES = 123  # of a close frame, RFC 6455 section 5.5

Handler = Callable[[Request, Any], Awaitable[Response]]


def error_response(
    status: int, message: str, code: str, param: str | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    """The error object of PROTOCOL section 4, as OpenAI's clients parse it."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status, headers)


def refusal(error: AmanuensisError, param: str | None = None) -> JSONResponse:
    """The answer to a request that cannot be served."""
    if isinstance(error, Overloaded):
        wait = {"Retry-After": str(math.ceil(error.retry_after_s))}
        return error_response(error.http_status, str(error), error.code, param, wait)
    if isinstance(error, ProtocolError):
        challenge = {"WWW-Authenticate": "Bearer"} if error.http_status == 401 else None
        return error_response(error.http_status, str(error), error.code, param, challenge)
    if isinstance(error, JournalError):
        return error_response(503, str(error), "journal_unavailable", param)
    if isinstance(error, ModelError):
        return error_response(503, str(error), "model_unavailable", param)
    return error_response(500, str(error), "internal_error", param)


def install(app: FastAPI, metrics: Metrics) -> None:
    """Gives every error of the app the one shape, FastAPI's and Starlette's own included."""

    async def on_amanuensis(request: Request, error: AmanuensisError) -> Response:
        code = error.code if isinstance(error, ProtocolError) else type(error).__name__
        metrics.refused.labels(code).inc()
        if not isinstance(error, ProtocolError):
            logger.error("%s %s: %s", request.method, request.url.path, error)
        return refusal(error, error.param if isinstance(error, BadMessage) else None)

    async def on_http(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        message = {
            404: f"There is nothing at {request.url.path}; GET / lists what there is.",
            405: f"{request.url.path} does not take {request.method}; GET /docs says what it takes.",
        }.get(status, f"{error.detail}.")
        return error_response(status, message, status.name.lower(), headers=dict(error.headers or {}))

    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = [str(part) for part in first["loc"] if part not in ("query", "path", "body")]
        param = ".".join(where) or None
        return error_response(422, f"{param or 'request'}: {first['msg']}.", "bad_message", param)

    async def on_fault(request: Request, error: Exception) -> Response:
        return error_response(500, "The daemon failed on this request; its log says why.", "internal_error")

    for kind, handler in (
        (AmanuensisError, on_amanuensis),
        (HTTPException, on_http),
        (RequestValidationError, on_invalid),
        (Exception, on_fault),
    ):
        app.add_exception_handler(kind, cast(Handler, handler))


async def refuse_socket(websocket: WebSocket, error: ProtocolError) -> None:
    """Says why as an `error` event, then closes with the code that goes with it; the socket is accepted."""
    said = Error(
        code=error.code,
        message=str(error),
        fatal=True,
        retry_after_s=error.retry_after_s if isinstance(error, Overloaded) else None,
    )
    try:
        with contextlib.suppress(TimeoutError):  # then the close frame has to do
            async with asyncio.timeout(CLOSE_PATIENCE_S):
                await websocket.send_text(said.to_json())
        await websocket.close(error.close_code, close_reason(str(error)))
    except (WebSocketDisconnect, RuntimeError):
        logger.debug("a refused peer had gone")


def close_reason(message: str) -> str:
    """As much of a message as fits a close frame."""
    return message.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
