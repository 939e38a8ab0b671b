"""Lost connections and killed daemons: nothing that was shown is lost, and the session goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from daemon.journal import opened
from streaming.events import Final, Gap, Stopped


def _durable(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] in ("final", "revise", "gap", "stopped")]


def _check_sequence(*parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The durable events of all connections, each once and without holes."""
    together = [event for part in parts for event in _durable(part)]
    assert [event["seq"] for event in together] == list(range(1, len(together) + 1))
    return together


def test_a_lost_connection(daemon, eventually, producer, pcm) -> None:
    """`started` comes first and names the next sample, then what was missed; the text is as if nothing had been."""
    data = pcm(seconds=12)

    async def main() -> None:
        async with daemon() as d:
            async with producer(d.url) as whole:
                await whole.start(partials=False)
                await whole.send(data)
                await whole.say(type="stop")
                await whole.until("stopped")
            async with producer(d.url) as first:
                started = await first.start(session="lost", partials=False)
                await first.send(data[:200_001])  # the last byte is half a sample
                await first.until("final")
                driver = d.service.drivers["lost"]
                first.socket.transport.abort()
            await eventually(lambda: not driver.attached)
            seen = first.of("final")[-1]["seq"]
            async with producer(d.url) as second:
                resume = {"token": started["resume_token"], "last_seq": seen}
                again = await second.start(session="lost", partials=False, resume=resume)
                assert again["type"] == "started" and again["resume_token"] == started["resume_token"]
                assert 0 < again["next_sample"] <= 100_000
                await second.send(data[2 * again["next_sample"] :])
                await second.say(type="stop")
                await second.until("stopped")
            together = _check_sequence(first.events, second.events)
            texts = [(event["type"], event.get("text"), event.get("start")) for event in together]
            assert texts == [(e["type"], e.get("text"), e.get("start")) for e in _durable(whole.events)]

    asyncio.run(main())


def test_audio_that_arrived_before_the_loss(daemon, eventually, producer, pcm) -> None:
    """Is kept and decided while nobody is connected; the events are replayed after `started`."""

    async def main() -> None:
        async with daemon() as d:
            async with producer(d.url) as first:
                started = await first.start()
                await first.send(pcm(seconds=8))
                await first.until("partial")
                (driver,) = d.service.drivers.values()
                await eventually(lambda: driver.source_next == 8 * 16_000)
                first.socket.transport.abort()
            await eventually(lambda: not driver.attached)
            await asyncio.sleep(0.3)
            async with producer(d.url) as second:
                again = await second.start(resume={"token": started["resume_token"], "last_seq": 0})
                assert again["next_sample"] == 8 * 16_000
                replayed = [await second.hear() for _ in range(again["seq"])]
                assert [event["seq"] for event in replayed] == list(range(1, again["seq"] + 1))
                assert again["seq"] >= 2

    asyncio.run(main())


def test_resuming_at_another_rate(daemon, eventually, producer, pcm) -> None:
    """`next_sample` counts at the rate that the new connection declares."""

    async def main() -> None:
        async with daemon() as d:
            async with producer(d.url) as first:
                started = await first.start()
                await first.send(bytes(2 * 16_000 * 3))
                (driver,) = d.service.drivers.values()
                await eventually(lambda: driver.source_next == 48_000)
            await eventually(lambda: not driver.attached)
            async with producer(d.url) as second:
                again = await second.start("pcm_f32le", 48_000, resume={"token": started["resume_token"]})
                assert again["next_sample"] == 3 * 48_000

    asyncio.run(main())


def test_a_connection_that_hangs(daemon, producer, pcm) -> None:
    """Is taken over: the old socket is closed with 4409, the new one goes on where it was."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as old, producer(d.url) as fresh:
            started = await old.start()
            await old.send(bytes(32_000))
            again = await fresh.start(resume={"token": started["resume_token"]})
            assert again["type"] == "started"
            assert await old.closed() == 4409
            assert old.events[-1]["code"] == "session_busy"
            await fresh.send(bytes(32_000))
            await fresh.say(type="stop")
            stopped = await fresh.until("stopped")
            assert stopped["audio_end"] == pytest.approx(again["next_sample"] / 16_000 + 1.0)

    asyncio.run(main())


def test_a_session_that_is_over(daemon, producer, pcm) -> None:
    """Resumed, it says what was missed, `stopped` last, and closes 1000."""

    async def main() -> None:
        async with daemon() as d:
            async with producer(d.url) as first:
                started = await first.start()
                await first.send(pcm(seconds=5))
                await first.say(type="stop")
                await first.until("stopped")
            async with producer(d.url) as second:
                await second.start(resume={"token": started["resume_token"], "last_seq": 1})
                assert await second.closed() == 1000
                assert [e["seq"] for e in _durable(second.events)] == list(
                    range(2, first.events[-1]["seq"] + 1)
                )
                assert second.events[-1]["type"] == "stopped"

    asyncio.run(main())


def test_nobody_comes_back(daemon, eventually, producer, pcm) -> None:
    """After resume_window_s the session is finished by itself: its audio is decided and `stopped` written."""

    async def main() -> None:
        async with daemon(server={"resume_window_s": 0.3}) as d:
            async with producer(d.url) as p:
                await p.start(session="left")
                await p.send(pcm(seconds=5))
                await p.until("partial")
                driver = d.service.drivers["left"]
                await eventually(lambda: driver.source_next == 5 * 16_000)
            await eventually(lambda: "left" not in d.service.drivers)
            record = await d.service.journal.session("left")
            events = await d.service.journal.events("left")
            assert record is not None and record.ended
            assert isinstance(events[-1], Stopped) and events[-1].audio_end == pytest.approx(5.0)
            assert any(isinstance(event, Final) for event in events)

    asyncio.run(main())


def test_a_wrong_token(daemon, producer) -> None:
    """Is an unknown session, whether or not the session exists."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as owner:
            await owner.start(session="mine")
            for session in ({"session": "mine"}, {"session": "other"}, {}):
                async with producer(d.url) as p:
                    refused = await p.start(resume={"token": "guess"}, **session)
                    assert refused["code"] == "unknown_session" and await p.closed() == 4404
            assert d.service.drivers["mine"].attached

    asyncio.run(main())


def test_a_killed_daemon(daemon_process, producer, pcm, tmp_path: Path) -> None:
    """Everything a viewer was shown is in the journal, seq has no holes, and the session goes on after it."""
    data = pcm(seconds=20)

    viewed: list[dict[str, Any]] = []

    async def before(daemon: Any) -> tuple[list[dict[str, Any]], str]:
        async with producer(daemon.url) as p:
            started = await p.start(session="killed")
            events = daemon.url.replace("http", "ws") + "/v1/sessions/killed/events?after=0"
            async with connect(events, max_queue=None) as viewer:
                sending = asyncio.create_task(p.send(data[: 16_000 * 2 * 14], pause_s=0.005))
                while len(p.of("final")) < 3:
                    await p.hear()
                daemon.kill()  # in the middle of it all
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        viewed.append(json.loads(await viewer.recv()))
            with contextlib.suppress(ConnectionClosed):
                await sending
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await p.hear()
            return p.events, started["resume_token"]

    first = daemon_process()
    shown, token = asyncio.run(before(first))

    async def kept() -> list[Any]:
        async with opened(tmp_path / "journal.db") as journal:
            return await journal.events("killed")

    stored = asyncio.run(kept())
    assert [event.seq for event in stored] == list(range(1, len(stored) + 1))
    assert _durable(viewed)
    for event in (*_durable(shown), *_durable(viewed)):
        assert stored[event["seq"] - 1].model_dump(exclude_none=True) == event

    async def after(url: str) -> list[dict[str, Any]]:
        async with producer(url) as p:
            last = _durable(shown)[-1]["seq"]
            again = await p.start(session="killed", resume={"token": token, "last_seq": last})
            assert again["type"] == "started"
            assert again["next_sample"] >= 16_000 * _durable(shown)[-1]["end"] - 1
            await p.send(data[2 * again["next_sample"] :])
            await p.say(type="stop")
            await p.until("stopped")
            return p.events

    second = daemon_process()
    rest = asyncio.run(after(second.url))
    together = _check_sequence(shown, rest)
    assert together[-1]["audio_end"] == pytest.approx(20.0)
    assert sum(together[-1]["ledger"].values()) == pytest.approx(20.0, abs=0.03)
    starts = [event["start"] for event in together if event["type"] in ("final", "gap")]
    assert starts == sorted(starts)
    assert second.terminate() == 0


def test_a_daemon_killed_in_a_long_silence(daemon_process, producer) -> None:
    """`next_sample` is at most about a second old, although nothing was said."""

    async def before(url: str) -> str:
        async with producer(url) as p:
            token = (await p.start(session="quiet"))["resume_token"]
            begun = time.monotonic()
            while time.monotonic() - begun < 3:
                await p.send(bytes(32_000), pause_s=0.01)
            return token

    async def after(url: str, token: str) -> int:
        async with producer(url) as p:
            return (await p.start(resume={"token": token}))["next_sample"]

    first = daemon_process()
    token = asyncio.run(before(first.url))
    first.kill()
    assert asyncio.run(after(daemon_process().url, token)) > 16_000 * 10


def test_a_killed_session_that_nobody_resumes(
    daemon, eventually, daemon_process, producer, pcm, tmp_path: Path
) -> None:
    """Is closed in the journal by the next daemon, with the ledger of what was decided."""

    async def before(url: str) -> None:
        async with producer(url) as p:
            await p.start(session="orphan")
            await p.send(pcm(seconds=10), pause_s=0.005)
            await p.until("final")

    first = daemon_process()
    asyncio.run(before(first.url))
    first.kill()

    async def after() -> None:
        async def ended() -> bool:
            return (await d.service.journal.session("orphan")).ended

        async with daemon(server={"resume_window_s": 0.3}) as d:
            await eventually(ended)
            *_, last = await d.service.journal.events("orphan")
            record = await d.service.journal.session("orphan")
            assert isinstance(last, Stopped)
            assert last.audio_end == pytest.approx(record.decided_sample / 16_000)
            assert sum(last.ledger.model_dump().values()) == pytest.approx(last.audio_end, abs=0.03)

    asyncio.run(after())


def test_a_graceful_end(daemon_process, producer, pcm) -> None:
    """SIGTERM: the producer hears `restarting` and 1012, the status is 0, and the session can be resumed."""

    async def before(url: str, process: Any) -> tuple[str, list[dict[str, Any]]]:
        async with producer(url) as p:
            token = (await p.start(session="evening"))["resume_token"]
            await p.send(pcm(seconds=6), pause_s=0.002)
            await p.until("final")
            process.process.send_signal(signal.SIGTERM)
            assert await p.closed() == 1012
            assert p.events[-1]["code"] == "restarting"
            return token, p.events

    async def after(url: str, token: str, seen: int) -> None:
        async with producer(url) as p:
            again = await p.start(session="evening", resume={"token": token, "last_seq": seen})
            assert again["type"] == "started" and again["next_sample"] > 0

    first = daemon_process(scripted=True)
    token, events = asyncio.run(before(first.url, first))
    assert first.process.wait(10) == 0
    asyncio.run(after(daemon_process().url, token, _durable(events)[-1]["seq"]))


def test_a_journal_that_cannot_be_written(daemon, producer, pcm, tmp_path: Path) -> None:
    """Ends the session with `session_failed` and shows nothing undurable; afterwards it goes on from the journal."""

    async def main() -> None:
        async with daemon() as d:
            async with producer(d.url) as p:
                started = await p.start(session="full")
                await p.send(pcm(seconds=8))
                await p.until("final")
                blocker = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
                blocker.execute(
                    "CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
                )
                with contextlib.suppress(ConnectionClosed):
                    await p.send(pcm(seconds=14)[2 * 16_000 * 8 :])
                assert await p.closed() == 1011
                assert p.events[-1]["code"] == "session_failed" and p.events[-1]["fatal"]
                shown = _durable(p.events)
                assert shown == [e for e in shown if e["seq"] <= len(await d.service.journal.events("full"))]
            blocker.execute("DROP TRIGGER full")
            blocker.close()
            async with producer(d.url) as p:
                resume = {"token": started["resume_token"], "last_seq": shown[-1]["seq"]}
                again = await p.start(session="full", resume=resume)
                await p.send(pcm(seconds=14)[2 * again["next_sample"] :])
                await p.say(type="stop")
                await p.until("stopped")
                assert _check_sequence(shown, p.events)[-1]["audio_end"] == pytest.approx(14.0)

    asyncio.run(main())


def test_a_producer_that_stops_reading(daemon, producer, pcm) -> None:
    """Loses its connection, and nobody else notices; its session can be resumed."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as other:
            await other.start()
            small = socket.socket()
            small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            small.connect(("127.0.0.1", int(d.url.rpartition(":")[2])))
            small.setblocking(False)
            with contextlib.suppress(ConnectionClosed):
                async with (
                    asyncio.timeout(60),
                    producer(d.url, sock=small, max_queue=2, close_timeout=0.1) as p,
                ):
                    token = (await p.start(session="deaf"))["resume_token"]
                    driver = d.service.drivers["deaf"]
                    while driver.attached:  # the library stops reading once its queue of two is full
                        for number in range(1_000):
                            await p.say(type="marker", id=f"{number:04}" * 49)
            await other.send(pcm(seconds=2))
            await other.say(type="stop")
            assert (await other.until("stopped"))["audio_end"] == pytest.approx(2.0)
            async with producer(d.url) as again:
                assert (await again.start(session="deaf", resume={"token": token}))["type"] == "started"

    asyncio.run(main())


def test_gaps_are_replayed(daemon, producer) -> None:
    """A gap is a durable event like any other."""

    async def main() -> None:
        async with daemon() as d:
            async with producer(d.url) as p:
                token = (await p.start(session="gap"))["resume_token"]
                await p.send(bytes(32_000))
                await p.say(type="skip", samples=16_000)
                await p.until("gap")
            async with producer(d.url) as p:
                await p.start(session="gap", resume={"token": token})
                assert (await p.hear())["type"] == "gap"
            assert isinstance((await d.service.journal.events("gap"))[0], Gap)

    asyncio.run(main())
