"""Viewers of a real daemon, over Server-Sent Events."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import httpx

from daemon import viewers
from streaming.events import Partial


async def _sse(response: httpx.Response) -> AsyncIterator[dict[str, str]]:
    """The fields of each event, comments under the name ''."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            yield fields
            fields = {}


def test_an_event_stream(daemon, talk) -> None:
    """Carries the same events, seq as their id, and ends with the session."""

    async def main() -> None:
        async with daemon() as d, httpx.AsyncClient(base_url=d.url) as client:
            await talk.open(d.service)
            await talk.say(d.service, 1, 2, "naïve “text”\n\n日本")
            events = []
            headers = {"accept": "text/event-stream"}
            async with client.stream("GET", "/v1/sessions/talk/events", headers=headers) as response:
                assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
                assert response.headers["cache-control"] == "no-store"
                async for event in _sse(response):
                    events.append(event)
                    if len(events) == 2:
                        d.service.hub.publish(
                            "talk", Partial(utterance=3, start=3, end=4, text="", tentative="so")
                        )
                    if len(events) == 3:  # a final that came at once would take the partial's place
                        await talk.say(d.service, 3, 3)
                        await talk.stop(d.service, 4)
            assert "retry" in events[0]
            assert [(e["event"], e.get("id")) for e in events[1:]] == [
                ("snapshot", "2"),
                ("partial", None),
                ("final", "3"),
                ("stopped", "4"),
            ]
            assert json.loads(events[1]["data"])["utterances"][0]["text"] == "naïve “text”\n\n日本"

    asyncio.run(main())


def test_an_event_stream_that_is_opened_again(daemon, talk) -> None:
    """Goes on after Last-Event-ID, which is newer than the URL; a session that is over says: stay away."""

    async def main() -> None:
        async with daemon() as d, httpx.AsyncClient(base_url=d.url) as client:
            await talk.open(d.service)
            await talk.say(d.service, 1, 5)
            await talk.stop(d.service, 6)
            path = "/v1/sessions/talk/events"
            answer = await client.get(path, params={"after": 1}, headers={"last-event-id": "4"})
            assert [line for line in answer.text.splitlines() if line.startswith("id")] == ["id: 5", "id: 6"]
            assert (await client.get(path, headers={"last-event-id": "6"})).status_code == 204
            assert (await client.get(path, headers={"last-event-id": "junk"})).status_code == 400
            assert (await client.get(path, params={"partials": "perhaps"})).status_code == 400

    asyncio.run(main())


def test_an_event_stream_on_which_nothing_happens(daemon, talk, monkeypatch) -> None:
    """Shows a sign of life now and then, and a viewer that leaves it is forgotten."""
    monkeypatch.setattr(viewers, "KEEP_ALIVE_S", 0.05)

    async def main() -> None:
        async with daemon() as d, httpx.AsyncClient(base_url=d.url) as client:
            await talk.open(d.service)
            async with client.stream("GET", "/v1/sessions/talk/events?after=0") as response:
                count = 0
                async for event in _sse(response):
                    count += "" in event
                    if count == 3:
                        break
                assert d.service.hub.viewers == 1
                await talk.say(d.service, 1, 1)
            async with asyncio.timeout(2):
                while d.service.hub.viewers:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    asyncio.run(main())


def test_an_event_stream_that_is_not_read(daemon, talk) -> None:
    """Is given up; the session is not held up by it."""

    async def main() -> None:
        async with daemon(viewers={"queue_size": 16}) as d:
            await talk.open(d.service)
            small = socket.socket()
            small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            small.connect(("127.0.0.1", int(d.url.rsplit(":", 1)[1])))
            small.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=small, limit=1024)
            writer.write(b"GET /v1/sessions/talk/events?after=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await reader.readline()
            while not d.service.hub.viewers:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            seq = 0
            while d.service.hub.viewers:
                seq += 1
                await talk.say(d.service, seq, seq, "x" * 30_000)
                assert seq < 2_000
            await asyncio.sleep(1.2)
            assert d.service.metrics.registry.get_sample_value("amanuensis_slow_viewers_total") == 1
            writer.transport.abort()

    asyncio.run(main())


def test_a_shutdown_under_an_event_stream(daemon, talk) -> None:
    """Ends it with an `error` event that says so."""

    async def main() -> None:
        async with daemon() as d, httpx.AsyncClient(base_url=d.url) as client:
            await talk.open(d.service)
            async with client.stream("GET", "/v1/sessions/talk/events?after=0") as response:
                events = []
                async for event in _sse(response):
                    events.append(event)
                    if len(events) == 1:
                        stopping = asyncio.create_task(d.service.stop())
                await stopping
            assert events[-1]["event"] == "error"
            assert json.loads(events[-1]["data"])["code"] == "restarting"

    asyncio.run(main())
