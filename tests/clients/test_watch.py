"""Viewers of a real daemon, over a cable that is cut in the middle."""

from __future__ import annotations

import asyncio

import pytest

from clients.connection import connect
from clients.file import FORMAT
from clients.retry import Retry
from clients.watch import watch
from streaming.errors import UnknownSession, Unreachable
from streaming.events import Event, Final, Partial, Snapshot, Stopped

BLOCK = 3_200  # bytes: 0.1 s


async def _produce(stream, audio: bytes, after_block=lambda index: None) -> None:
    for index, at in enumerate(range(0, len(audio), BLOCK)):
        await stream.send(audio[at : at + BLOCK])
        await asyncio.sleep(0.01)
        after_block(index)
    await stream.stop()


async def _collect(events) -> list[Event]:
    return [event async for event in events]


def _text(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]


def test_a_live_session_over_a_broken_cable(daemon, cable, pcm) -> None:
    """A snapshot first, then every final exactly once, up to `Stopped`."""

    async def main() -> None:
        async with (
            daemon() as d,
            cable(d.url) as c,
            asyncio.timeout(40),
            connect(d.url, FORMAT, session="talk", live=False) as stream,
            asyncio.TaskGroup() as tasks,
        ):
            produced = tasks.create_task(_collect(stream))
            seen = tasks.create_task(_collect(watch(c.url, "talk")))
            await asyncio.sleep(0.2)
            await _produce(stream, pcm(), lambda index: index % 100 == 50 and c.cut())
        assert isinstance(seen.result()[0], Snapshot)
        assert _text(seen.result()) == _text(produced.result())
        assert isinstance(seen.result()[-1], Stopped)
        assert any(isinstance(event, Partial) for event in seen.result())

    asyncio.run(main())


def test_after_a_seq_and_without_partials(daemon, pcm) -> None:
    """Only durable events come, only those after the one that is named, and then the iteration ends."""

    async def main() -> None:
        async with daemon() as d, asyncio.timeout(20):
            async with connect(d.url, FORMAT, session="talk", live=False) as stream:
                await _produce(stream, pcm(seconds=12))
                produced = await _collect(stream)
            durable = [event for event in produced if event.durable]
            assert await _collect(watch(d.url, "talk", 0, partials=False)) == durable
            assert await _collect(watch(d.url, "talk", 2)) == durable[2:]
            (snapshot,) = await _collect(watch(d.url, "talk"))
            assert not snapshot.live and len(snapshot.utterances) == len(_text(produced))

    asyncio.run(main())


def test_what_cannot_be_watched(daemon, cable) -> None:
    """An unknown session, no daemon, and one that stays away are told apart."""

    async def main() -> None:
        async with daemon() as d, cable(d.url) as c, asyncio.timeout(20):
            with pytest.raises(UnknownSession, match="nobody"):
                await _collect(watch(d.url, "nobody"))
            with pytest.raises(Unreachable, match="amanuensis serve"):
                await _collect(watch("http://127.0.0.1:9", "nobody"))
            async with connect(d.url, FORMAT, session="quiet"):
                viewer = asyncio.create_task(_collect(watch(c.url, "quiet", retry=Retry(limit_s=0.5))))
                await asyncio.sleep(0.3)
                c.unplug()
                with pytest.raises(Unreachable):
                    await viewer

    asyncio.run(main())


def test_what_is_said_of_speakers(scripted_wire) -> None:
    """A split and a name come through as they are, a name without an utterance too."""
    wire = scripted_wire(
        '{"type":"snapshot","session":"talk","seq":1,"live":true,"utterances":[]}',
        '{"type":"revise","seq":2,"utterance":1,"rev":1,"reason":"voices_told_apart","text":"Shall we?","end":1.5,'
        '"split":[{"utterance":9,"start":1.5,"end":2.0,"text":"Yes.","language":"en","speaker":{"id":"S2"}}]}',
        '{"type":"revise","seq":3,"reason":"named","speaker":{"id":"S2","name":"Ada"}}',
        '{"type":"revise","seq":3,"reason":"named","speaker":{"id":"S2","name":"Ada"}}',
        '{"type":"stopped","seq":4,"audio_end":2.0,"ledger":{}}',
    )
    _, split, named, stopped = asyncio.run(_collect(watch("http://nowhere", "talk", dial=wire.dial)))
    assert split.split[0].speaker.id == "S2" and (split.end, split.rev) == (1.5, 1)
    assert (named.utterance, named.rev, named.speaker.name) == (None, None, "Ada")
    assert isinstance(stopped, Stopped)
