"""Viewers of a real daemon, over WebSockets."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import time
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from streaming.events import Partial

DURABLE = ("final", "revise", "gap", "stopped")


def _events_url(url: str, session: str, query: str = "") -> str:
    return f"{url.replace('http', 'ws', 1)}/v1/sessions/{session}/events{query}"


def _watch(url: str, session: str, query: str = "", **more: Any) -> connect:
    return connect(_events_url(url, session, query), compression=None, max_size=None, **more)


async def _read(viewer: ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
    """Everything until the daemon closes, and its close code."""
    events = []
    try:
        while True:
            events.append(json.loads(await viewer.recv()))
    except ConnectionClosed:
        return events, viewer.close_code


def _seqs(events: list[dict[str, Any]]) -> list[int]:
    return [event["seq"] for event in events if event["type"] in DURABLE]


def test_viewers_of_a_live_stream(daemon, producer, pcm) -> None:
    """See what its producer sees, from whenever they come, and end with it by a normal close."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            await p.start(session="reading", title="A reading")
            async with _watch(d.url, "reading", subprotocols=["amanuensis.v1"]) as early:
                assert early.subprotocol == "amanuensis.v1"
                reading = asyncio.create_task(_read(early))
                await asyncio.sleep(0.05)
                await p.send(pcm(seconds=8), pause_s=0.005)
                async with (
                    _watch(d.url, "reading", "?after=0") as replaying,
                    _watch(d.url, "reading", "?after=0&partials=false") as durable_only,
                ):
                    late = [asyncio.create_task(_read(v)) for v in (replaying, durable_only)]
                    await p.send(pcm(seconds=4), pause_s=0.005)
                    await p.say(type="stop")
                    assert await p.closed() == 1000
                    all_seqs = list(range(1, p.events[-1]["seq"] + 1))
                    events, code = await reading
                    assert code == 1000 and events[0]["type"] == "snapshot"
                    assert (events[0]["session"], events[0]["title"]) == ("reading", "A reading")
                    assert (events[0]["gaps"], events[0]["settle_after_s"]) == ([], 30.0)
                    assert [e for e in events if e["type"] in ("partial", *DURABLE)] == [
                        e for e in p.events if e["type"] in ("partial", *DURABLE)
                    ]
                    for task in late:
                        events, code = await task
                        assert code == 1000 and _seqs(events) == all_seqs
                    assert {e["type"] for e in events} <= set(DURABLE)

    asyncio.run(main())


def test_viewers_of_a_session_that_is_over(daemon, talk) -> None:
    """Get it whole, or from where they were, and a normal close."""

    async def main() -> None:
        async with daemon() as d:
            await talk.open(d.service)
            await talk.say(d.service, 1, 3)
            await talk.stop(d.service, 4)
            for query, seqs in (("?after=0", [1, 2, 3, 4]), ("?after=3", [4]), ("?after=4", [])):
                async with _watch(d.url, "talk", query) as viewer:
                    events, code = await _read(viewer)
                    assert (_seqs(events), code) == (seqs, 1000)
            async with _watch(d.url, "talk") as viewer:
                events, code = await _read(viewer)
                assert len(events) == 1 and code == 1000
                assert events[0]["live"] is False and len(events[0]["utterances"]) == 3

    asyncio.run(main())


@pytest.mark.parametrize(
    ("session", "query", "headers", "code", "name"),
    [
        ("nobody", "", {}, 4404, "unknown_session"),
        ("a%20b", "", {}, 4404, "unknown_session"),
        ("talk", "?after=x", {}, 4400, "bad_message"),
        ("talk", "?after=-1", {}, 4400, "bad_message"),
        ("talk", f"?after={'9' * 40}", {}, 4400, "bad_message"),
        ("talk", "?partials=perhaps", {}, 4400, "bad_message"),
        ("talk", "", {"Authorization": "Bearer wrong"}, 4401, "unauthorized"),
        ("nobody", "", {"Authorization": ""}, 4401, "unauthorized"),
        ("talk", "?ticket=made-up", {"Authorization": ""}, 4401, "unauthorized"),
        ("talk", "", {"Origin": "https://evil.example"}, 4403, "forbidden_origin"),
    ],
)
def test_refusals(
    daemon, talk, session: str, query: str, headers: dict[str, str], code: int, name: str
) -> None:
    """Are told in an event and by the close code."""

    async def main() -> None:
        async with daemon(auth={"tokens": ["secret"]}) as d:
            await talk.open(d.service)
            sent = {"Authorization": "Bearer secret"} | headers
            async with _watch(d.url, session, query, additional_headers=sent) as viewer:
                (error,), closed = await _read(viewer)
                assert (error["type"], error["code"], closed) == ("error", name, code)
                assert error["fatal"] and len(error["message"]) > 20
            assert d.service.hub.viewers == 0

    asyncio.run(main())


def test_a_ticket(daemon, talk) -> None:
    """Lets a browser's WebSocket in, once."""

    async def main() -> None:
        async with daemon(auth={"tokens": ["secret"]}) as d, httpx.AsyncClient(base_url=d.url) as client:
            await talk.open(d.service)
            issued = await client.post("/v1/tickets", headers={"Authorization": "Bearer secret"})
            query = f"?ticket={issued.json()['ticket']}"
            async with _watch(d.url, "talk", query, origin=d.url) as viewer:
                assert json.loads(await viewer.recv())["type"] == "snapshot"
            async with _watch(d.url, "talk", query) as viewer:
                assert (await _read(viewer))[1] == 4401

    asyncio.run(main())


def test_a_durable_event_is_in_the_journal_before_anyone_sees_it(daemon, producer, pcm, tmp_path) -> None:
    """At the moment a viewer reads it, another connection to the database finds it there."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            await p.start(session="reading")
            async with _watch(d.url, "reading", "?after=0") as viewer:
                db = sqlite3.connect(tmp_path / "journal.db")

                async def speak() -> None:
                    await p.send(pcm(seconds=8), pause_s=0.002)
                    await p.say(type="stop")

                speaking, durable = asyncio.create_task(speak()), 0
                async for message in viewer:
                    event = json.loads(message)
                    if event["type"] in DURABLE:
                        durable += 1
                        row = db.execute("SELECT json FROM event WHERE seq = ?", (event["seq"],)).fetchone()
                        assert json.loads(row[0]) == event
                db.close()
                await speaking
                assert durable >= 3

    asyncio.run(main())


def test_a_viewer_that_stops_reading(daemon, talk) -> None:
    """Is closed with 1013 after partials were dropped, and goes on by `after`; nobody else is held up."""

    async def main() -> None:
        async with daemon(viewers={"queue_size": 16}) as d:
            await talk.open(d.service)
            small = socket.socket()
            small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            small.connect(("127.0.0.1", int(d.url.rsplit(":", 1)[1])))
            async with (
                _watch(d.url, "talk", "?after=0", sock=small, max_queue=1) as slow,
                _watch(d.url, "talk", "?after=0") as quick,
            ):
                reading = asyncio.create_task(_read(quick))
                while d.service.hub.viewers < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                seq, slowest = 0, 0.0
                while d.service.hub.viewers == 2:
                    seq += 1
                    began = time.monotonic()
                    d.service.hub.publish(
                        "talk", Partial(utterance=seq, start=0, end=1, text="y" * 30_000, tentative="")
                    )
                    slowest = max(slowest, time.monotonic() - began)
                    await talk.say(d.service, seq, seq, "x" * 30_000)
                    await asyncio.sleep(0)
                    assert seq < 2_000
                assert slowest < 0.1
                assert d.service.metrics.registry.get_sample_value("amanuensis_viewers") is not None
                await asyncio.sleep(0.7)  # it has not read for long enough not to be waited for
                events, code = await _read(slow)
                assert code == 1013 and "slow" in (slow.close_reason or "")
                seen = _seqs(events)
                assert seen == list(range(1, len(seen) + 1)) and len(seen) < seq
                assert len([e for e in events if e["type"] == "partial"]) < seq
                async with _watch(d.url, "talk", f"?after={seen[-1]}&partials=false") as again:
                    await talk.stop(d.service, seq + 1)
                    assert _seqs((await _read(again))[0]) == list(range(seen[-1] + 1, seq + 2))
                assert _seqs((await reading)[0]) == list(range(1, seq + 2))

    asyncio.run(main())


def test_viewers_that_leave(daemon, talk) -> None:
    """Are forgotten, however they leave."""

    async def main() -> None:
        async with daemon() as d:
            await talk.open(d.service)
            for index in range(10):
                viewer = await _watch(d.url, "talk")
                await viewer.recv()
                if index % 2:
                    viewer.transport.abort()
                else:
                    await viewer.close()
            async with asyncio.timeout(2):
                while d.service.hub.viewers:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    asyncio.run(main())


def test_a_session_to_which_nobody_comes_back(daemon, talk) -> None:
    """Ends for those who wait for it as well, with the end that the journal has."""

    async def main() -> None:
        async with daemon() as d:
            await talk.open(d.service)
            await talk.say(d.service, 1, 2)
        async with (
            daemon(server={"resume_window_s": 0.3}) as d,
            _watch(d.url, "talk", "?after=1") as viewer,
        ):
            events, code = await _read(viewer)
            assert ([e["type"] for e in events], code) == (["final", "stopped"], 1000)

    asyncio.run(main())


def test_a_viewer_that_talks(daemon, talk) -> None:
    """Is not listened to."""

    async def main() -> None:
        async with daemon() as d:
            await talk.open(d.service)
            async with _watch(d.url, "talk", "?after=0") as viewer:
                for message in ("{}", b"\x00" * 1000, "not json", '{"type": "stop"}'):
                    await viewer.send(message)
                await talk.say(d.service, 1, 1)
                assert json.loads(await viewer.recv())["seq"] == 1

    asyncio.run(main())


def test_a_shutdown(daemon, talk) -> None:
    """Closes viewers with 1012, after what they still had to get."""

    async def main() -> None:
        async with daemon() as d:
            await talk.open(d.service)
            async with _watch(d.url, "talk", "?after=0") as viewer:
                await talk.say(d.service, 1, 1)
                reading = asyncio.create_task(_read(viewer))
                await asyncio.sleep(0.05)
                await d.service.stop()
                events, code = await reading
                assert (_seqs(events), events[-1]["code"], code) == ([1], "restarting", 1012)

    asyncio.run(main())


def test_a_daemon_that_is_killed(daemon_process, producer, pcm) -> None:
    """A viewer goes on by `after` with the next daemon: every event once, those seen unchanged."""

    async def main() -> None:
        first = daemon_process(auth={})
        async with producer(first.url) as p, _watch(first.url, "reading", "?after=0") as refused:
            assert (await _read(refused))[1] == 4404
            started = await p.start(session="reading")
            async with _watch(first.url, "reading", "?after=0&partials=false") as viewer:
                reading = asyncio.create_task(_read(viewer))
                await p.send(pcm(seconds=10), pause_s=0.002)
                await asyncio.sleep(0.3)
                first.kill()
                seen, _ = await reading
                with pytest.raises(ConnectionClosed):
                    await p.hear()
                    while True:
                        await p.hear()
        assert len(seen) >= 2
        second = daemon_process()
        async with producer(second.url) as p:
            async with _watch(second.url, "reading", f"?after={seen[-1]['seq']}") as viewer:
                reading = asyncio.create_task(_read(viewer))
                resumed = await p.start(session="reading", resume={"token": started["resume_token"]})
                assert resumed["type"] == "started"
                await p.send(pcm(seconds=10)[2 * resumed["next_sample"] :], pause_s=0.002)
                await p.say(type="stop")
                rest, code = await reading
                assert code == 1000
            async with _watch(second.url, "reading", "?after=0") as viewer:
                whole, _ = await _read(viewer)
        assert _seqs(seen + rest) == list(range(1, len(whole) + 1))
        assert whole[: len(seen)] == seen

    asyncio.run(main())


def test_many_viewers_at_once(daemon, talk) -> None:
    """All get everything."""

    async def main() -> None:
        async with daemon() as d:
            await talk.open(d.service)
            await talk.say(d.service, 1, 5)

            async def watch(index: int) -> list[int]:
                async with _watch(d.url, "talk", f"?after={index % 6}") as viewer:
                    return _seqs((await _read(viewer))[0])

            tasks = [asyncio.create_task(watch(index)) for index in range(100)]
            await talk.say(d.service, 6, 30)
            while d.service.hub.viewers < 100:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await talk.say(d.service, 31, 50)
            await talk.stop(d.service, 51)
            for index, task in enumerate(tasks):
                assert await task == list(range(index % 6 + 1, 52))

    asyncio.run(main())
