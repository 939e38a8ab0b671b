"""The client library: sends audio to a daemon and reads its events, through lost connections.

async with connect("http://127.0.0.1:9004", AudioFormat(encoding="pcm_s16le", sample_rate=16_000)) as stream:
    await stream.send(block)
    async for event in stream:
        ...
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from clients.address import Address
from clients.inbox import Inbox
from clients.outbox import Outbox
from clients.retry import Retry
from clients.wire import Dial, Wire, dial, refusal_of
from streaming.errors import (
    AmanuensisError,
    BadMessage,
    Overloaded,
    ProtocolError,
    Restarting,
    SessionBusy,
    StateError,
    TimedOut,
    Unreachable,
)
from streaming.events import Error, Event, Final, Finalized, Gap, Marker, Revise, Started, Stopped
from streaming.protocol import AudioFormat, FinalizeRequest, MarkerRequest, Resume, Start, Stop, explain

RING_S = 75.0  # audio kept for a resend; above the daemon's resume window
ANSWER_TIMEOUT_S = 15.0  # from `start` to `started`
PIECE_BYTES = 32_000  # `send` looks for room so often

Notice = Callable[[str], None]


def connect(
    url: str,
    audio: AudioFormat,
    *,
    session: str | None = None,
    title: str | None = None,
    language: str | None = None,
    diarize: bool | None = None,
    words: bool = False,
    partials: bool = True,
    token: str | None = None,
    live: bool = True,
    ring_s: float = RING_S,
    retry: Retry | None = None,
    notice: Notice | None = None,
    dial: Dial = dial,
) -> Stream:
    """A stream of raw audio to the daemon at `url`, to be entered with `async with`.

    diarize: label speakers; None: as the daemon is configured.
    live: the audio cannot wait (a microphone). When the connection is away for longer than `ring_s` seconds
    the oldest audio becomes a gap; with live=False `send` waits instead (a recording), and nothing is lost.
    notice: told in a sentence when the connection is lost and when it is back.
    BadMessage, ConfigError or AudioError at once when an argument cannot be meant.
    """
    try:
        start = Start(
            audio=audio,
            session=session,
            title=title,
            language=language,
            diarize=diarize,
            words=words,
            partials=partials,
            token=token,
        )
    except ValidationError as error:
        raise BadMessage(explain(error)) from error
    return Stream(Address.parse(url), start, Outbox(audio, ring_s), live, retry or Retry(), notice, dial)


class Stream:
    """An open session: audio goes in with `send`, events come out by iterating.

    Every durable event is delivered exactly once and in order, whatever happens to the connection. The
    iteration ends after `Stopped`. Errors that trying again cannot heal are raised by the iteration and by
    `send`: the exceptions of streaming.errors. Leaving without `stop` abandons the session; the daemon
    finishes it when its resume window is over.
    """

    started: Started  # the daemon's answer to the latest `start`

    def __init__(
        self,
        address: Address,
        start: Start,
        outbox: Outbox,
        live: bool,
        retry: Retry,
        notice: Notice | None,
        dial: Dial,
    ) -> None:
        self.connected = False
        self.last_seq = 0  # of the durable events received
        self._address = address
        self._start = start
        self._outbox = outbox
        self._live = live
        self._retry = retry
        self._notice = notice
        self._dial = dial
        self._inbox = Inbox()
        self._work = asyncio.Event()  # the outbox may have something to send
        self._room = asyncio.Event()  # the outbox may take more, or the stream is over
        self._failure: AmanuensisError | None = None
        self._stopping = False  # `stop` has been asked for
        self._over = False
        self._tasks: asyncio.TaskGroup | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def session(self) -> str:
        """The session's name."""
        return self.started.session

    async def __aenter__(self) -> Self:
        """Opens the session. Not tried twice: a daemon that is not there is said at once."""
        wire = await self._open()
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._keeper = self._tasks.create_task(self._keep(wire))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tasks and self._keeper
        self._keeper.cancel()
        await self._tasks.__aexit__(None, None, None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await self._inbox.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def send(self, data: bytes) -> None:
        """Appends audio, in any cut. Waits only when live=False and the daemon is too far behind."""
        for at in range(0, len(data), PIECE_BYTES):
            await self._wait_for_room()
            self._outbox.write(data[at : at + PIECE_BYTES])
            self._work.set()
        await asyncio.sleep(0)  # a producer in a tight loop must not keep the connection from working

    async def skip(self, frames: int) -> None:
        """Lets time pass for audio that nobody has: frames at the declared rate. It becomes a gap."""
        self._check()
        self._outbox.write_gap(frames)
        self._work.set()

    async def marker(self, id: str) -> None:
        """Asks for a `Marker` event once everything sent so far has been decided."""
        self._request(MarkerRequest(id=id))

    async def finalize(self, id: str | None = None) -> None:
        """Closes the open utterance; answered by `Finalized`. The stream goes on."""
        self._request(FinalizeRequest(id=id))

    async def stop(self) -> None:
        """No more audio will come. The rest of the events follows, then `Stopped`."""
        self._request(Stop())
        self._stopping = True

    def _request(self, request: MarkerRequest | FinalizeRequest | Stop) -> None:
        self._check()
        self._outbox.request(request)
        self._work.set()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._stopping or self._over:
            raise StateError("The stream has been stopped; open another one to send more.")

    async def _wait_for_room(self) -> None:
        self._check()
        while not self._live and self._outbox.room <= 0:
            self._room.clear()
            await self._room.wait()
            self._check()

    async def _keep(self, wire: Wire) -> None:
        """Keeps the session connected until it is over, and says how it ended to whoever iterates."""
        try:
            while (lost := await self._converse(wire)) is not None:
                wire = await self._reconnect(lost)
        except AmanuensisError as error:
            self._failure = error
        finally:
            self._over = True
            self._room.set()
            await self._inbox.end(self._failure)

    async def _converse(self, wire: Wire) -> AmanuensisError | None:
        """Sends and receives over one connection; returns why it was lost, or None after `Stopped`."""
        self.connected = True
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._write(wire))
                lost = await self._read(wire)
                writer.cancel()
        finally:
            self.connected = False
            await wire.close()
        # SessionBusy here means that another connection has taken the session over: not ours to take back.
        if lost is not None and (not _may_pass(lost) or isinstance(lost, SessionBusy)):
            raise lost
        return lost

    async def _write(self, wire: Wire) -> None:
        while True:
            self._work.clear()
            while (message := self._outbox.take()) is not None:
                try:
                    await wire.send(message if isinstance(message, bytes) else message.model_dump_json())
                except Unreachable:
                    return  # the reader finds out as well, and knows the reason
            await self._work.wait()

    async def _read(self, wire: Wire) -> AmanuensisError | None:
        """Delivers events until the connection ends; returns why it did, or None after `Stopped`."""
        try:
            while (event := await wire.receive()) is not None:
                if isinstance(event, Error) and event.fatal:
                    return refusal_of(event)
                if self._is_for_the_program(event):
                    await self._inbox.put(event)
                if isinstance(event, Stopped):
                    return None
        except (Unreachable, ProtocolError) as error:
            return error
        return Unreachable("The daemon closed the connection before the session was over.")

    def _is_for_the_program(self, event: Event) -> bool:
        if isinstance(event, Final | Revise | Gap | Stopped):
            if event.seq <= self.last_seq:
                return False  # replayed, and delivered before
            self.last_seq = event.seq
        if isinstance(event, Marker | Finalized):
            wanted = self._outbox.answer(event)
            self._room.set()
            return wanted
        return not isinstance(event, Started)

    async def _open(self, resume: Resume | None = None) -> Wire:
        """Dials, says `start` and waits for `started`."""
        wire = await self._dial(self._address.stream, self._start.token)
        try:
            start = self._start.model_copy(update={"resume": resume})
            await wire.send(start.model_dump_json(exclude_none=True))
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    answer = await wire.receive()
            except TimeoutError as error:
                raise Unreachable(
                    "The daemon does not answer. See what it is doing: amanuensis doctor"
                ) from error
            if isinstance(answer, Error):
                raise refusal_of(answer)
            if not isinstance(answer, Started):
                raise Unreachable("The daemon closed the connection instead of opening a session.")
        except BaseException:
            await wire.close()
            raise
        self.started = answer
        # A recording waits for decisions, and the daemon may need its longest window to decide anything.
        self._outbox.widen(2 * answer.limits.max_window_s + answer.limits.max_backlog_s)
        return wire

    async def _reconnect(self, lost: AmanuensisError) -> Wire:
        if isinstance(lost, TimedOut):  # nothing was sent for long: come back when there is something
            while self._outbox.is_empty:
                self._work.clear()
                await self._work.wait()
        self._tell(f"{lost} Trying again.")
        asked = 0.0
        for pause in self._retry.pauses():
            await asyncio.sleep(max(pause, asked))
            resume = Resume(token=self.started.resume_token, last_seq=self.last_seq)
            try:
                wire = await self._open(resume)
            except AmanuensisError as error:
                if not _may_pass(error):
                    raise
                lost, asked = error, error.retry_after_s if isinstance(error, Overloaded) else 0.0
                continue
            again = self._outbox.rewind(self.started.next_sample) / self._start.audio.sample_rate
            self._tell(f"Connected again; {again:.1f} s of audio are sent a second time.")
            return wire
        raise Unreachable(
            f"The connection to {self._address.http} could not be had again within {self._retry.limit_s:.0f} s. "
            f"{lost}"
        ) from lost

    def _tell(self, sentence: str) -> None:
        if self._notice is not None:
            with suppress(UnicodeError):
                self._notice(sentence)


def _may_pass(error: AmanuensisError) -> bool:
    """Whether trying again may help: the daemon is away, restarting, full, or was given no audio for long."""
    return isinstance(error, Unreachable | Restarting | Overloaded | SessionBusy | TimedOut)
