"""Every row of PROTOCOL section 4 that concerns producers: the error's code, the close code, a remedy."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

TOKEN = "a-token-nobody-guesses"


async def _refused(p: Any, code: str, close: int) -> dict[str, Any]:
    """Reads to the end and checks how it came."""
    assert await p.closed() == close
    error: dict[str, Any] = p.events[-1]
    assert (error["type"], error["code"], error["fatal"]) == ("error", code, True)
    assert len(error["message"]) > 10
    return error


@pytest.mark.parametrize(
    "frame",
    [
        "hello",
        "[1, 2]",
        "{}",
        '{"type": "begin"}',
        '{"type": "start"}',
        '{"type": "stop"}',
        '{"type": "marker", "id": "x"}',
        b"\x00\x01\x02\x03",
        json.dumps({"type": "start", "audio": {"encoding": "aiff", "sample_rate": 16_000}}),
        json.dumps({"type": "start", "audio": {"encoding": "pcm_s16le", "sample_rate": 100}}),
        json.dumps(
            {"type": "start", "audio": {"encoding": "pcm_s16le", "sample_rate": 16_000, "channels": 9}}
        ),
        json.dumps(
            {"type": "start", "audio": {"encoding": "pcm_s16le", "sample_rate": 16_000}, "sesion": "x"}
        ),
        json.dumps(
            {"type": "start", "audio": {"encoding": "pcm_s16le", "sample_rate": 16_000}, "session": "a/b"}
        ),
        json.dumps(
            {"type": "start", "audio": {"encoding": "pcm_s16le", "sample_rate": 16_000}, "model": "other"}
        ),
        json.dumps(
            {"type": "start", "audio": {"encoding": "pcm_s16le", "sample_rate": 16_000}, "task": "translate"}
        ),
        json.dumps({"type": "start", "audio": {"encoding": "pcm_s16le", "sample_rate": float("nan")}}),
    ],
)
def test_a_first_message_that_is_no_start(daemon, producer, frame: str | bytes) -> None:
    """4400 bad_message, and no session is made."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            await p.socket.send(frame)
            await _refused(p, "bad_message", 4400)
            assert not d.service.drivers and not await d.service.journal.sessions()

    asyncio.run(main())


@pytest.mark.parametrize(
    "frame",
    [
        "not json",
        '{"type": "dance"}',
        '{"type": "marker"}',
        '{"type": "skip", "samples": -3}',
        '{"type": "skip", "samples": 1e400}',
        '{"type": "skip", "samples": 1000000000000000000}',
        json.dumps({"type": "start", "audio": {"encoding": "pcm_s16le", "sample_rate": 16_000}}),
        json.dumps({"type": "marker", "id": "x" * 201}),
    ],
)
def test_a_bad_message_in_the_middle(daemon, producer, pcm, frame: str) -> None:
    """4400 bad_message; what was sent before is kept, the session can be resumed, the others go on."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p, producer(d.url) as other:
            started = await p.start()
            await other.start()
            await p.send(pcm(seconds=2))
            await p.socket.send(frame)
            await _refused(p, "bad_message", 4400)
            async with producer(d.url) as again:
                resumed = await again.start(resume={"token": started["resume_token"]})
                assert resumed["next_sample"] == 32_000
            await other.say(type="stop")
            await other.until("stopped")

    asyncio.run(main())


def test_without_a_token(daemon, producer) -> None:
    """4401 unauthorized; with the token in `start`, in a header, or as a ticket it is let in."""

    async def main() -> None:
        async with daemon(auth={"tokens": [TOKEN]}) as d:
            for wrong in (None, "wrong"):
                async with producer(d.url) as p:
                    await p.start(token=wrong) if wrong else await p.start()
                    await _refused(p, "unauthorized", 4401)
            async with producer(d.url) as p:
                assert (await p.start(token=TOKEN))["type"] == "started"
            async with producer(d.url, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as p:
                assert (await p.start())["type"] == "started"
            ticket = d.service.gatekeeper.issue_ticket().ticket
            async with producer(d.url, query=f"?ticket={ticket}") as p:
                assert (await p.start())["type"] == "started"
            async with producer(d.url, query=f"?ticket={ticket}") as p:
                await p.start()
                await _refused(p, "unauthorized", 4401)
            for record in await d.service.journal.sessions():
                assert TOKEN not in record.options

    asyncio.run(main())


def test_a_page_of_another_site(daemon, producer) -> None:
    """4403 forbidden_origin."""

    async def main() -> None:
        async with daemon() as d, producer(d.url, origin="https://elsewhere.example") as p:
            await _refused(p, "forbidden_origin", 4403)

    asyncio.run(main())


def test_a_name_that_is_taken(daemon, producer) -> None:
    """4409 session_busy, while the session lives and after it has ended."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p:
            await p.start(session="hall")
            async with producer(d.url) as second:
                await second.start(session="hall")
                await _refused(second, "session_busy", 4409)
            await p.say(type="stop")
            await p.until("stopped")
            async with producer(d.url) as third:
                await third.start(session="hall")
                await _refused(third, "session_busy", 4409)

    asyncio.run(main())


def test_no_start(daemon, producer) -> None:
    """4408 timeout after start_timeout_s."""

    async def main() -> None:
        async with daemon(server={"start_timeout_s": 0.2}) as d, producer(d.url) as p:
            await _refused(p, "timeout", 4408)

    asyncio.run(main())


def test_no_audio(daemon, producer) -> None:
    """4408 timeout after idle_timeout_s, markers notwithstanding; the session can be resumed."""

    async def main() -> None:
        async with daemon(server={"idle_timeout_s": 0.3}) as d, producer(d.url) as p:
            token = (await p.start())["resume_token"]
            await p.send(bytes(3_200))
            await p.say(type="marker", id="still here")
            await _refused(p, "timeout", 4408)
            async with producer(d.url) as again:
                assert (await again.start(resume={"token": token}))["next_sample"] == 1_600

    asyncio.run(main())


def test_a_frame_that_is_too_large(daemon, producer) -> None:
    """Closes with 1009, before it is read to its end; the session can be resumed."""

    async def main() -> None:
        async with daemon() as d:
            async with producer(d.url) as p:
                token = (await p.start())["resume_token"]
                with contextlib.suppress(ConnectionClosed):
                    await p.socket.send(bytes(10_000_000))
                assert await p.closed() == 1009
            async with producer(d.url) as again:
                assert (await again.start(resume={"token": token}))["next_sample"] == 0

    asyncio.run(main())


def test_more_sessions_than_fit(daemon, producer) -> None:
    """1013 overloaded with retry_after_s; once a place is free it is given."""

    async def main() -> None:
        async with daemon(engine={"capacity": 1}) as d, producer(d.url) as p:
            await p.start()
            async with producer(d.url) as second:
                await second.start()
                error = await _refused(second, "overloaded", 1013)
                assert error["retry_after_s"] > 0
            await p.say(type="stop")
            assert await p.closed() == 1000
            async with producer(d.url) as third:
                assert (await third.start())["type"] == "started"

    asyncio.run(main())


def test_a_daemon_that_shuts_down(daemon, producer, pcm) -> None:
    """1012 restarting, to those who are there and to those who come; what was said last is in the journal."""

    async def main() -> None:
        async with daemon() as d, producer(d.url) as p, producer(d.url) as late:
            await p.start(session="last")
            await p.send(pcm(seconds=8))
            await p.until("final")
            stopping = asyncio.create_task(d.service.stop())
            await _refused(p, "restarting", 1012)
            await late.start()
            await _refused(late, "restarting", 1012)
            await stopping
            record = await d.service.journal.session("last")
            assert record is not None and not record.ended and record.last_seq >= p.of("final")[-1]["seq"]

    asyncio.run(main())
