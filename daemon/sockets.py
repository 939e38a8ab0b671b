"""Producers on WebSockets: /v1/stream, PROTOCOL sections 1 and 4."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from daemon.auth import bearer
from daemon.driver import SessionDriver
from daemon.guard import offered
from daemon.intake import Intake, open_intake
from daemon.refusals import refuse_socket
from streaming.errors import (
    AmanuensisError,
    AudioError,
    BadMessage,
    JournalError,
    Overloaded,
    ProtocolError,
    SessionFailed,
    TimedOut,
)
from streaming.events import Error, Event, Partial, Speech, Started, Status
from streaming.protocol import (
    FinalizeRequest,
    MarkerRequest,
    SkipRequest,
    Start,
    Stop,
    parse_client_message,
)

if TYPE_CHECKING:
    from daemon.service import Opened, Service

logger = logging.getLogger("amanuensis.sockets")

QUEUE_SIZE = 256  # events for a producer that reads slowly
DROPPABLE = (Partial, Speech, Status)  # the next one says it as well
CLOSE_S = 2.0  # for a peer to take the last words before it is cut off


class Outgoing:
    """What a producer is told, in order. Bounded: partials go first when it is full, then the producer."""

    def __init__(self) -> None:
        self._queue: deque[Event] = deque()
        self._wake = asyncio.Event()
        self.over = asyncio.Event()  # the conversation ends now, whatever is left
        self.dismissed = False
        self.error: ProtocolError | None = None  # why, if not because the session is over

    def deliver(self, event: Event) -> None:
        """An event for the producer."""
        if self.dismissed:
            return
        if len(self._queue) >= QUEUE_SIZE:
            self._queue = deque(queued for queued in self._queue if not isinstance(queued, DROPPABLE))
            if len(self._queue) >= QUEUE_SIZE:
                self._queue.clear()
                self.dismiss(
                    Overloaded("You read too slowly; resume the session and read what it says.", 1.0)
                )
                return
        self._queue.append(event)
        self._wake.set()

    def dismiss(self, error: ProtocolError | None) -> None:
        """Nothing more will come after what is queued."""
        if not self.dismissed:
            self.dismissed, self.error = True, error
            self._wake.set()
            # A peer that does not read would keep the sender for ever.
            asyncio.get_running_loop().call_later(CLOSE_S, self.over.set)

    def forget(self, seq: int) -> None:
        """Durable events up to `seq` have been replayed; they and what was said before them are not repeated."""
        replayed = [
            i
            for i, event in enumerate(self._queue)
            if getattr(event, "seq", seq + 1) <= seq and event.durable
        ]
        for _ in range(replayed[-1] + 1 if replayed else 0):
            self._queue.popleft()

    async def send(self, websocket: WebSocket) -> None:
        """Sends until dismissed; WebSocketDisconnect when the peer has gone."""
        while True:
            while self._queue:
                await websocket.send_text(self._queue.popleft().to_json())
            if self.dismissed:
                return
            self._wake.clear()
            await self._wake.wait()


async def stream_endpoint(websocket: WebSocket) -> None:
    """Serves one producer. The service is `websocket.app.state.service`."""
    service: Service = websocket.app.state.service
    await websocket.accept(offered(websocket.scope))
    connection = StreamConnection(websocket, service)
    try:
        error = await connection.serve()
    except ProtocolError as refusal:
        error = refusal
    except JournalError as failure:
        error = SessionFailed(str(failure))
    except WebSocketDisconnect:
        return
    except AmanuensisError as failure:
        error = BadMessage(str(failure))
    except Exception as fault:  # one producer's trouble must not look like nothing at all
        logger.exception("a producer's connection failed")
        error = SessionFailed(f"An internal error ({type(fault).__name__}) ended the connection.")
    if error is not None:
        service.metrics.refused.labels(error.code).inc()
        logger.info("producer %s: %s: %s", connection.name, error.code, error)
    await close(websocket, error)
    if WebSocketState.CONNECTED is websocket.application_state is websocket.client_state and websocket.client:
        service.cut_off(
            (websocket.client.host, websocket.client.port)
        )  # it did not even take the close frame


class StreamConnection:
    """One producer's connection, from its `start` to its end."""

    def __init__(self, websocket: WebSocket, service: Service) -> None:
        self._websocket = websocket
        self._service = service
        self._outgoing = Outgoing()
        self.name = "without a session"

    async def serve(self) -> ProtocolError | None:
        """The whole conversation; returns why it ended, None where the session is over or the peer has gone."""
        start = await self._receive_start()
        self._admit(start)
        service = self._service
        opened = await (service.resume_session(start) if start.resume else service.open_session(start))
        self.name = opened.record.id
        if opened.driver is None:
            await self._greet(start, opened, 0)
            return None
        return await self._converse(start, opened, opened.driver)

    async def _converse(self, start: Start, opened: Opened, driver: SessionDriver) -> ProtocolError | None:
        driver.attach(self._outgoing, start.audio)
        intake = open_intake(driver, self._outgoing, start.audio)
        try:
            await self._introduce(start, opened, driver)
            async with asyncio.TaskGroup() as tasks:
                receiving = tasks.create_task(self._receive(driver, intake))
                sending = tasks.create_task(self._send())
                await self._outgoing.over.wait()
                receiving.cancel()
                sending.cancel()
        finally:
            intake.close()
            driver.detach(self._outgoing)
        return self._outgoing.error

    # the beginning

    async def _receive_start(self) -> Start:
        timeout_s = self._service.config.server.start_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                message = await self._websocket.receive()
        except TimeoutError as error:
            raise TimedOut(f"No `start` within {timeout_s:g} s; send it as the first message.") from error
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text = message.get("text")
        if text is None:
            raise BadMessage("Audio came before `start`; send `start` first, it says how to read the audio.")
        start = parse_client_message(text)
        if not isinstance(start, Start):
            raise BadMessage(f"`{start.type}` came before `start`; send `start` first.")
        return start

    def _admit(self, start: Start) -> None:
        headers = self._websocket.headers
        self._service.gatekeeper.admit(
            start.token or bearer(headers.get("authorization")),
            self._websocket.query_params.get("ticket"),
            headers.get("origin"),
            headers.get("host"),
        )

    async def _introduce(self, start: Start, opened: Opened, driver: SessionDriver) -> None:
        try:
            await self._greet(start, opened, driver.source_next)
        except WebSocketDisconnect:
            if start.resume is None:  # it left while its model was loaded: nobody has the token
                await self._service.discard(driver)
            raise

    async def _greet(self, start: Start, opened: Opened, next_sample: int) -> None:
        """`started`, then what the producer has missed. What happens meanwhile waits in the queue."""
        service, session = self._service, opened.record.id
        after = start.resume.last_seq if start.resume else 0
        missed = await service.journal.stored(session, after) if start.resume else []
        seq = (
            missed[-1].seq
            if missed
            else (opened.driver.core.last_seq if opened.driver else opened.record.last_seq)
        )
        transcriber = opened.driver.lease.transcriber if opened.driver else service.models.default
        started = Started(
            session=session,
            resume_token=opened.token,
            seq=seq,
            next_sample=next_sample,
            model=transcriber.name if opened.driver else opened.record.model,
            device=transcriber.device,
            version=service.version,
            limits=service.limits,
        )
        await self._websocket.send_text(started.to_json())
        for event in missed:
            await self._websocket.send_text(event.json)
        self._outgoing.forget(max(after, missed[-1].seq if missed else 0))
        for said in _unavailable(start, self._service):
            self._outgoing.deliver(said)

    # the middle

    async def _send(self) -> None:
        try:
            await self._outgoing.send(self._websocket)
        except WebSocketDisconnect:
            logger.debug("producer %s has gone", self.name)
        self._outgoing.over.set()

    async def _receive(self, driver: SessionDriver, intake: Intake) -> None:
        """Messages until the peer goes. Trouble is put into the way out, so that it comes after what was said."""
        try:
            while True:
                message = await self._websocket.receive()
                data = message.get("bytes")
                if data is not None:
                    await intake.feed(data)
                elif message["type"] == "websocket.disconnect":
                    self._outgoing.over.set()
                    return
                else:
                    await self._obey(message["text"], driver, intake)
        except (AudioError, ProtocolError) as error:
            refusal = error if isinstance(error, ProtocolError) else BadMessage(str(error))
            driver.detach(self._outgoing)
            self._outgoing.dismiss(refusal)
        except WebSocketDisconnect:
            self._outgoing.over.set()
        except Exception as fault:  # as in stream_endpoint
            logger.exception("producer %s: a message could not be handled", self.name)
            driver.detach(self._outgoing)
            self._outgoing.dismiss(
                SessionFailed(f"An internal error ({type(fault).__name__}); resume the session.")
            )

    async def _obey(self, text: str, driver: SessionDriver, intake: Intake) -> None:
        match parse_client_message(text):
            case MarkerRequest(id=marker):
                await intake.settle()
                driver.mark(marker)
            case FinalizeRequest(id=request):
                await intake.settle()
                driver.finalize(request)
            case SkipRequest(samples=samples):
                await intake.settle()
                driver.skip(samples, "client_skipped")
            case Stop():
                await intake.end()
                driver.finish()
            case Start():
                raise BadMessage("`start` came twice; open another connection for another session.")


def _unavailable(start: Start, service: Service) -> list[Error]:
    """What was asked for and is not there, said once, so that nobody waits for it."""
    messages = []
    if start.diarize and start.channels == "mixed" and not service.speakers.available:
        messages.append(
            "diarize: the voice models are not installed (amanuensis doctor says more); the text comes."
        )
    return [Error(code="not_available", message=message, fatal=False) for message in messages]


async def close(websocket: WebSocket, error: ProtocolError | None) -> None:
    """The last word, and the close code that belongs to it. Never raises: the peer may have gone, or not read."""
    if websocket.client_state is WebSocketState.DISCONNECTED:
        return
    if error is not None:
        await refuse_socket(websocket, error)
        return
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await websocket.close(1000)
