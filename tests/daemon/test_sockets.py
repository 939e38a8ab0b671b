"""What producers are told, and sockets of raw PCM."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from daemon import sockets
from daemon.intake import PIPE_BYTES, _Pipe
from daemon.sockets import QUEUE_SIZE, Outgoing
from streaming.errors import Overloaded, SessionBusy
from streaming.events import Final, Marker, Partial, Stopped


def _partial(number: int = 1) -> Partial:
    return Partial(utterance=number, start=0, end=1, text="", tentative="a")


def _final(seq: int) -> Final:
    return Final(seq=seq, utterance=seq, start=0, end=1, text="a", language="en")


class Wire:
    """A socket that takes what it is sent, unless it is stuck."""

    def __init__(self, stuck: bool = False) -> None:
        self.sent: list[str] = []
        self.stuck = stuck

    async def send_text(self, text: str) -> None:
        """As a WebSocket's."""
        if self.stuck:
            await asyncio.Event().wait()
        self.sent.append(text)


def test_what_is_told() -> None:
    """Comes in order, and ends after the last event once dismissed."""

    async def main() -> None:
        outgoing, wire = Outgoing(), Wire()
        events = [_partial(), _final(1), _partial(2), _final(2)]
        for event in events:
            outgoing.deliver(event)
        outgoing.dismiss(SessionBusy("taken"))
        outgoing.deliver(_final(3))  # too late
        await outgoing.send(wire)  # type: ignore[arg-type]
        assert wire.sent == [event.to_json() for event in events]

    asyncio.run(main())


def test_a_full_queue() -> None:
    """Loses partials first; durable events and answers never; filled with those, the producer is sent away."""

    async def main() -> None:
        outgoing, wire = Outgoing(), Wire()
        for number in range(QUEUE_SIZE - 1):
            outgoing.deliver(_partial(number))
        marker = Marker(id="m", seq=0, audio_end=1)
        outgoing.deliver(marker)
        outgoing.deliver(_final(1))
        assert [type(event) for event in outgoing._queue] == [Marker, Final] and not outgoing.dismissed
        for seq in range(2, QUEUE_SIZE + 2):
            outgoing.deliver(_final(seq))
        assert outgoing.dismissed and isinstance(outgoing.error, Overloaded) and not outgoing._queue
        await outgoing.send(wire)  # type: ignore[arg-type]
        assert not wire.sent

    asyncio.run(main())


def test_a_peer_that_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is given CLOSE_S for the last words."""
    monkeypatch.setattr(sockets, "CLOSE_S", 0.05)

    async def main() -> None:
        outgoing = Outgoing()
        outgoing.deliver(_final(1))
        sending = asyncio.create_task(outgoing.send(Wire(stuck=True)))  # type: ignore[arg-type]
        outgoing.dismiss(None)
        await asyncio.wait_for(outgoing.over.wait(), 1)
        sending.cancel()

    asyncio.run(main())


def test_what_was_replayed() -> None:
    """Is not repeated, nor what was said before it; what came after it stays."""

    async def main() -> None:
        outgoing = Outgoing()
        for event in (_partial(1), _final(1), _partial(2), _final(2), _partial(3)):
            outgoing.deliver(event)
        outgoing.forget(1)
        assert [type(event) for event in outgoing._queue] == [Partial, Final, Partial]
        outgoing.forget(9)
        assert [type(event) for event in outgoing._queue] == [Partial]

    asyncio.run(main())


def test_a_pipe() -> None:
    """Holds back the writer when it is full, tells when it is empty, and gives everything in order."""

    async def main() -> None:
        pipe = _Pipe(asyncio.get_running_loop())
        await pipe.write(bytes(PIPE_BYTES))
        writing = asyncio.create_task(pipe.write(b"last"))
        await asyncio.sleep(0.05)
        assert not writing.done()

        def read() -> bytes:
            data = b""
            while part := pipe.read(50_000):
                data += part
            return data

        reading = asyncio.create_task(asyncio.to_thread(read))
        await asyncio.wait_for(pipe.drained(), 2)
        assert writing.done()
        pipe.close()
        assert await reading == bytes(PIPE_BYTES) + b"last"
        await pipe.write(b"dropped")

    asyncio.run(main())


async def _record(d: Any, prefix: str, eventually: Any) -> Any:
    async def ended() -> bool:
        return any(r.ended for r in await d.service.journal.sessions() if r.id.startswith(prefix))

    await eventually(ended, 10)
    return next(r for r in await d.service.journal.sessions() if r.id.startswith(prefix))


def test_raw_pcm_on_a_unix_socket(daemon: Any, pcm: Any, tmp_path: Path, eventually: Any) -> None:
    """Each connection is a session; its end is the session's; a stale socket file is replaced."""
    path = tmp_path / "raw.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()

    async def main() -> None:
        async with daemon(socket=[{"listen": str(path), "session": "pipe"}]) as d:
            await eventually(lambda: d.service.raw_sockets.addresses)
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            _, writer = await asyncio.open_unix_connection(str(path))
            writer.write(pcm(seconds=5))
            writer.write_eof()
            record = await _record(d, "pipe-", eventually)
            writer.close()
            *texts, last = await d.service.journal.events(record.id)
            assert isinstance(last, Stopped) and last.audio_end == pytest.approx(5.0)
            assert any(isinstance(event, Final) for event in texts)

    asyncio.run(main())


def test_raw_pcm_on_tcp(daemon: Any, pcm: Any, eventually: Any) -> None:
    """Two connections are two sessions; one that breaks off ends its own."""

    async def main() -> None:
        section = {"listen": "127.0.0.1:0", "session": "tcp", "encoding": "pcm_s16le"}
        async with daemon(socket=[section]) as d:
            await eventually(lambda: d.service.raw_sockets.addresses)
            port = int(d.service.raw_sockets.addresses[0].rpartition(":")[2])
            writers = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(2)]
            for writer in writers:
                writer.write(pcm(seconds=3))
                await writer.drain()
            await eventually(lambda: len(d.service.drivers) == 2)
            first, second = d.service.drivers.values()
            await eventually(lambda: first.core.next_sample == second.core.next_sample == 48_000)
            writers[0].transport.abort()
            await eventually(lambda: len(d.service.drivers) == 1)
            writers[1].close()
            await eventually(lambda: not d.service.drivers)
            assert all(record.ended for record in await d.service.journal.sessions())

    asyncio.run(main())


def test_a_raw_socket_that_cannot_be_opened(daemon: Any, tmp_path: Path, eventually: Any) -> None:
    """Is a note; the daemon runs without it and leaves the file alone."""
    (tmp_path / "letter").write_text("Dear all")

    async def main() -> None:
        async with daemon(socket=[{"listen": str(tmp_path / "letter")}]) as d:
            await eventually(lambda: d.service.notes)
            assert "is no socket" in d.service.notes[0]

    asyncio.run(main())
    assert (tmp_path / "letter").read_text() == "Dear all"
