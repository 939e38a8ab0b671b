"""The client library on a real daemon, over a cable that is cut in the middle."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from clients.connection import connect
from clients.file import FORMAT
from clients.retry import Retry
from npu.scripted import ScriptedTranscriber
from streaming.errors import (
    BadMessage,
    ConfigError,
    Overloaded,
    SessionBusy,
    StateError,
    Unauthorized,
    Unreachable,
)
from streaming.events import (
    Event,
    Final,
    Finalized,
    Gap,
    Marker,
    Partial,
    Revise,
    SpeakerLabel,
    Stopped,
)
from streaming.protocol import Resume

BLOCK = 3_200  # bytes: 0.1 s
SECOND = 32_000  # bytes


async def _send(stream, audio: bytes, pause_s: float = 0.0, before=None) -> None:
    for at in range(0, len(audio), BLOCK):
        if before is not None:
            before(at)
        await stream.send(audio[at : at + BLOCK])
        await asyncio.sleep(pause_s)
    await stream.stop()


async def _collect(stream) -> list[Event]:
    return [event async for event in stream]


async def _through(url: str, audio: bytes, before=None, pause_s: float = 0.0, **options) -> list[Event]:
    async with (
        asyncio.timeout(60),
        connect(url, FORMAT, live=False, **options) as stream,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(_send(stream, audio, pause_s, before))
        events = tasks.create_task(_collect(stream))
    return events.result()


def _text(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]


def _durable(events: list[Event]) -> list[int]:
    return [event.seq for event in events if event.durable]


def test_a_recording(daemon, pcm) -> None:
    """Partials and finals arrive as typed events, `Stopped` is last, and nothing internal is seen."""

    async def main() -> None:
        async with daemon() as d:
            events = await _through(d.url, pcm(seconds=12), session="reading", title="A reading")
            assert isinstance(events[-1], Stopped) and events[-1].audio_end == pytest.approx(12.0)
            assert len(_text(events)) >= 3 and any(isinstance(event, Partial) for event in events)
            assert not any(isinstance(event, Marker) for event in events), "receipts are the library's own"
            assert _durable(events) == list(range(1, len(_durable(events)) + 1))

    asyncio.run(main())


def test_a_connection_that_is_cut_again_and_again(daemon, cable, pcm) -> None:
    """No word is lost, none comes twice, and what arrives is what an unbroken connection brings."""
    audio = pcm(seconds=25)
    random.seed(5)
    cuts = {at - at % BLOCK for at in random.sample(range(SECOND, len(audio)), 8)}
    told: list[str] = []

    async def main() -> None:
        async with daemon() as d, cable(d.url) as c:
            whole = await _through(d.url, audio)
            events = await _through(
                c.url, audio, lambda at: at in cuts and c.cut(), pause_s=0.005, notice=told.append
            )
            assert c.connections >= 6
            assert _text(events) == _text(whole)
            assert _durable(events) == list(range(1, len(_durable(events)) + 1))
            assert not any(isinstance(event, Gap) for event in events)
            assert isinstance(events[-1], Stopped) and events[-1].audio_end == whole[-1].audio_end

    asyncio.run(main())
    assert any("Trying again" in sentence for sentence in told)
    assert any("Connected again" in sentence for sentence in told)


def test_a_daemon_that_is_killed_and_comes_back(daemon_process, eventually, pcm) -> None:
    """The client carries on with the next daemon on the port: nothing committed is lost, nothing doubled."""
    audio = pcm(seconds=25)

    async def main() -> None:
        first = await asyncio.to_thread(daemon_process)
        port = int(first.url.rpartition(":")[2])
        async with (
            asyncio.timeout(60),
            connect(first.url, FORMAT, live=False) as stream,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(_send(stream, audio, 0.02))
            events = tasks.create_task(_collect(stream))
            await eventually(lambda: stream.last_seq > 0, 20)  # something is final when the daemon dies
            await asyncio.to_thread(first.kill)
            await asyncio.to_thread(lambda: daemon_process(server={"port": port}))
        said = [word for text in _text(events.result()) for word in text.split()]
        assert len(said) == len(set(said)), "a word came twice"
        assert said == sorted(said, key=lambda word: int(word.removeprefix("word")))
        seqs = _durable(events.result())
        assert seqs == list(range(1, len(seqs) + 1))
        assert not any(isinstance(event, Gap) for event in events.result())
        assert events.result()[-1].audio_end == pytest.approx(len(audio) / SECOND)

    asyncio.run(main())


def test_a_microphone_that_is_cut_off_for_longer_than_the_ring(daemon, cable, pcm) -> None:
    """Live audio that nobody could take becomes a gap of its length, and the session goes on after it."""

    async def main() -> None:
        async with daemon() as d, cable(d.url) as c, asyncio.timeout(60):
            async with connect(c.url, FORMAT, ring_s=20.0, live=True) as stream:
                # Capacity is raised to what the daemon's limits ask for; so the outage must be longer.
                limits = stream.started.limits
                capacity_s = max(20.0, 2 * limits.max_window_s + limits.max_backlog_s)
                reader = asyncio.create_task(_collect(stream))
                await stream.send(pcm(seconds=5))
                await stream.marker("heard")
                await asyncio.sleep(1)
                c.unplug()
                silence_s = capacity_s + 30.0
                for _ in range(round(silence_s)):
                    await stream.send(bytes(SECOND))
                c.plug()
                await stream.send(pcm(seconds=5))
                await stream.stop()
                events = await reader
            gaps = [event for event in events if isinstance(event, Gap)]
            assert [gap.reason for gap in gaps] == ["client_skipped"] * len(gaps) and gaps
            lost = sum(gap.end - gap.start for gap in gaps)
            assert 20.0 < lost < 45.0
            assert events[-1].audio_end == pytest.approx(10.0 + silence_s, abs=0.1)
            assert any(event.start > silence_s for event in events if isinstance(event, Final))

    asyncio.run(main())


def test_requests_over_a_cut_connection(daemon, cable, pcm) -> None:
    """Each marker and each finalize is answered exactly once, in order, though the connection broke between."""

    async def main() -> None:
        async with daemon() as d, cable(d.url) as c, asyncio.timeout(30), connect(c.url, FORMAT) as stream:
            for number in range(4):
                await stream.send(pcm(seconds=2))
                await stream.marker(f"m{number}")
                await stream.finalize(f"f{number}")
                c.cut()
                await asyncio.sleep(0.3)
            await stream.stop()
            events = await _collect(stream)
        assert [event.id for event in events if isinstance(event, Finalized)] == ["f0", "f1", "f2", "f3"]
        assert [event.id for event in events if isinstance(event, Marker)] == ["m0", "m1", "m2", "m3"]

    asyncio.run(main())


def test_a_connection_cut_after_stop(daemon, cable, pcm) -> None:
    """The rest, `Stopped` included, is fetched with another connection."""

    async def main() -> None:
        slow = ScriptedTranscriber([(0.1, 0.4, "one"), (0.5, 0.9, "two")], delay_s=0.5)
        async with (
            daemon(slow) as d,
            cable(d.url) as c,
            asyncio.timeout(30),
            connect(c.url, FORMAT) as stream,
        ):
            await stream.send(pcm(seconds=3))
            await stream.stop()
            await asyncio.sleep(0.2)
            c.cut()
            events = await _collect(stream)
        assert isinstance(events[-1], Stopped)
        assert _durable(events) == list(range(1, len(_durable(events)) + 1))

    asyncio.run(main())


def test_a_program_that_sends_everything_before_it_reads(daemon, pcm) -> None:
    """Nothing blocks: outdated partials may go, durable events wait for the reader."""

    async def main() -> None:
        async with daemon() as d, asyncio.timeout(60):
            whole = await _through(d.url, pcm())
            async with connect(d.url, FORMAT, live=False) as stream:
                await _send(stream, pcm() * 3)
                events = await _collect(stream)
            assert len(_text(events)) > 2 * len(_text(whole))
            assert _durable(events) == list(range(1, len(_durable(events)) + 1))

    asyncio.run(main())


def test_nobody_listens() -> None:
    """Said at once, with the address and the command that helps."""

    async def main() -> None:
        with pytest.raises(Unreachable, match=r"127.0.0.1:9.*amanuensis serve"):
            async with connect("http://127.0.0.1:9", FORMAT):
                pass

    asyncio.run(main())


def test_a_server_that_is_something_else() -> None:
    """An HTTP server that is no daemon is told apart from one that is away."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    async def main() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(Unreachable, match="no Amanuensis daemon"):
                async with connect(f"127.0.0.1:{port}", FORMAT):
                    pass

    asyncio.run(main())


def test_a_daemon_that_stays_away(daemon, cable, pcm) -> None:
    """After the stated limit both the iteration and `send` raise, instead of waiting for ever."""

    async def main() -> None:
        async with (
            daemon() as d,
            cable(d.url) as c,
            asyncio.timeout(20),
            connect(c.url, FORMAT, retry=Retry(limit_s=1.0)) as stream,
        ):
            await stream.send(pcm(seconds=1))
            c.unplug()
            with pytest.raises(Unreachable, match="within 1 s"):
                await _collect(stream)
            with pytest.raises(Unreachable):
                await stream.send(pcm(seconds=1))

    asyncio.run(main())


def test_refusals_are_exceptions(daemon, pcm) -> None:
    """The daemon's refusals arrive as the exceptions of streaming.errors, with its sentence."""

    async def main() -> None:
        async with daemon(auth={"tokens": ["secret"]}, engine={"capacity": 1}) as d, asyncio.timeout(20):
            with pytest.raises(Unauthorized):
                async with connect(d.url, FORMAT):
                    pass
            with pytest.raises(BadMessage, match="session"):
                connect(d.url, FORMAT, token="secret", session="not a name")
            async with connect(d.url, FORMAT, token="secret", session="one") as stream:
                with pytest.raises((SessionBusy, Overloaded)):
                    async with connect(d.url, FORMAT, token="secret", session="one"):
                        pass
                with pytest.raises(Overloaded) as refused:
                    async with connect(d.url, FORMAT, token="secret", session="two"):
                        pass
                assert refused.value.retry_after_s > 0
                await stream.send(pcm(seconds=2))
                await stream.stop()
                assert isinstance((await _collect(stream))[-1], Stopped)

    asyncio.run(main())


def test_wrong_use(daemon) -> None:
    """Sending after `stop`, and an address that is none, raise what they are."""

    async def main() -> None:
        async with daemon() as d, connect(d.url, FORMAT) as stream:
            await stream.stop()
            with pytest.raises(StateError, match="stopped"):
                await stream.send(bytes(2))
        with pytest.raises(ConfigError, match="not an address"):
            connect("ftp://somewhere", FORMAT)

    asyncio.run(main())


def test_leaving_in_the_middle(daemon, cable, pcm) -> None:
    """An exception of the program comes out as it is, a cancellation too, and no task is left behind."""

    async def main() -> None:
        async with daemon() as d, cable(d.url) as c:
            with pytest.raises(ZeroDivisionError):
                async with connect(c.url, FORMAT) as stream:
                    await stream.send(pcm(seconds=1))
                    raise ZeroDivisionError

            async def listen() -> None:
                async with connect(c.url, FORMAT) as stream:
                    await _collect(stream)

            task = asyncio.create_task(listen())
            await asyncio.sleep(0.3)
            c.unplug()  # it is cancelled while it tries to connect again
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            ours = [t for t in asyncio.all_tasks() if "clients.connection" in repr(t.get_coro())]
            assert not ours

    asyncio.run(main())


def test_another_connection_takes_the_session_over(daemon, pcm) -> None:
    """The one that was there is told so, and does not take it back."""

    async def main() -> None:
        async with daemon() as d, asyncio.timeout(20), connect(d.url, FORMAT) as stream:
            await stream.send(pcm(seconds=1))
            thief = connect(d.url, FORMAT)
            wire = await thief._open(Resume(token=stream.started.resume_token))
            with pytest.raises(SessionBusy):
                await _collect(stream)
            await wire.close()

    asyncio.run(main())


@pytest.mark.parametrize("diarize", [True, False, None])
def test_speakers_are_asked_for(scripted_wire, diarize: bool | None) -> None:
    """`start` says so, or leaves it to the daemon; what comes of it is delivered, once."""
    limits = {
        "max_frame_bytes": 1,
        "max_backlog_s": 1,
        "idle_timeout_s": 1,
        "resume_window_s": 1,
        "max_window_s": 1,
        "settle_after_s": 1,
    }
    about = {"session": "s", "resume_token": "t", "seq": 0, "next_sample": 0}
    machine = {"model": "m", "device": "d", "version": "0"}
    named = '{"type":"revise","seq":1,"reason":"named","speaker":{"id":"S1","name":"Ada"}}'
    wire = scripted_wire(
        json.dumps({"type": "started", "limits": limits} | about | machine),
        named,
        named,
        '{"type":"stopped","seq":2,"audio_end":0.0,"ledger":{}}',
    )

    async def main() -> list[Event]:
        async with connect("http://nowhere", FORMAT, diarize=diarize, dial=wire.dial) as stream:
            return await _collect(stream)

    revise, _ = asyncio.run(main())
    assert isinstance(revise, Revise) and revise.speaker == SpeakerLabel(id="S1", name="Ada")
    assert json.loads(wire.heard[0]).get("diarize") is diarize
