"""The hub: every viewer gets every durable event once and in order, however it reads; nobody waits for it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from daemon.hub import REPLAY_PAGE, Hub, Subscription
from daemon.journal import Journal, SessionRecord, opened
from streaming.errors import Overloaded, Restarting, UnknownSession
from streaming.events import DurableEvent, Event, Final, Gap, Ledger, Partial, Revise, Speech, Stopped


def _final(seq: int, utterance: int | None = None) -> Final:
    return Final(
        seq=seq, utterance=utterance or seq, start=seq, end=seq + 0.5, text=f"text {seq}", language="en"
    )


def _partial(utterance: int, text: str = "") -> Partial:
    return Partial(utterance=utterance, start=utterance, end=utterance + 0.2, text=text, tentative="x")


class Talk:
    """A session that speaks: into the journal, then to the hub, as a driver does."""

    def __init__(self, journal: Journal, hub: Hub, id: str = "talk") -> None:
        self.journal, self.hub, self.id, self.seq = journal, hub, id, 0

    async def say(self, *events: Event, publish: bool = True) -> None:
        durable = [event for event in events if isinstance(event, DurableEvent)]
        if durable:
            await self.journal.append(self.id, durable, 0, Ledger())
            self.seq = durable[-1].seq
        for event in events if publish else ():
            self.hub.publish(self.id, event)

    async def stop(self) -> None:
        await self.say(Stopped(seq=self.seq + 1, audio_end=1.0, ledger=Ledger()))
        self.hub.end(self.id)


@asynccontextmanager
async def _talk(tmp_path: Path, queue_size: int = 256) -> AsyncIterator[Talk]:
    async with opened(tmp_path / "j.db") as journal:
        await journal.create(SessionRecord("talk", "Title", 1.0, "m", "en", "", 16_000, "{}"))
        yield Talk(journal, Hub(journal, queue_size))


async def _seqs(viewer: Subscription) -> list[int]:
    return [frame.seq async for frame in viewer if frame.seq is not None]


def test_events_are_serialised_once(tmp_path: Path) -> None:
    """All viewers share the very same text."""

    async def main() -> None:
        async with (
            _talk(tmp_path) as talk,
            talk.hub.subscribe("talk", 0) as one,
            talk.hub.subscribe("talk", 0) as two,
        ):
            first, second = asyncio.create_task(one.take()), asyncio.create_task(two.take())
            await asyncio.sleep(0.05)
            await talk.say(_final(1))
            assert (await first)[0].json is (await second)[0].json

    asyncio.run(main())


def test_a_viewer_of_a_session_that_does_not_exist(tmp_path: Path) -> None:
    """UnknownSession, and nothing of it remains."""

    async def main() -> None:
        async with _talk(tmp_path) as talk:
            with pytest.raises(UnknownSession):
                await talk.hub.subscribe("nobody", None).enter()
            assert talk.hub.viewers == 0 and not talk.hub._channels

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(6))
def test_viewers_that_come_at_any_moment(tmp_path: Path, seed: int) -> None:
    """Replay joins live without hole or duplicate, from any seq, while the session speaks."""

    async def main() -> None:
        dice = random.Random(seed)
        total = REPLAY_PAGE + 300

        async def watch(talk: Talk, after: int) -> list[int]:
            await asyncio.sleep(dice.random() * 0.3)
            async with talk.hub.subscribe("talk", after) as viewer:
                return await _seqs(viewer)

        async with _talk(tmp_path, queue_size=total) as talk, asyncio.TaskGroup() as group:
            afters = [dice.choice([0, 1, dice.randrange(total)]) for _ in range(30)]
            watching = [group.create_task(watch(talk, after)) for after in afters]
            while talk.seq < total:
                size = dice.randrange(1, 20)
                await talk.say(*(_final(talk.seq + n) for n in range(1, size + 1)))
                await asyncio.sleep(dice.choice([0, 0, 0.002]))
            await talk.stop()
            for after, seen in zip(afters, watching, strict=True):
                assert await seen == list(range(after + 1, talk.seq + 1))
        assert talk.hub.viewers == 0

    asyncio.run(main())


def test_events_committed_but_not_yet_published(tmp_path: Path) -> None:
    """Come once: from the journal, and not again when they are published."""

    async def main() -> None:
        async with _talk(tmp_path) as talk, talk.hub.subscribe("talk", 0) as viewer:
            await talk.say(_final(1), publish=False)
            assert [frame.seq for frame in await viewer.take()] == [1]
            reading = asyncio.create_task(viewer.take())
            await asyncio.sleep(0.05)
            talk.hub.publish("talk", _final(1))
            await talk.say(_final(2))
            assert [frame.seq for frame in await reading] == [2]

    asyncio.run(main())


def test_a_viewer_without_after(tmp_path: Path) -> None:
    """Begins with a snapshot: revisions applied, the open partial with it; then follows."""

    async def main() -> None:
        async with _talk(tmp_path) as talk:
            await talk.say(_final(1), Revise(seq=2, utterance=1, rev=1, text="better"), _partial(2, "so far"))
            async with talk.hub.subscribe("talk", None) as viewer:
                (frame,) = await viewer.take()
                snapshot = json.loads(frame.json)
                assert snapshot["type"] == "snapshot" and snapshot["title"] == "Title"
                assert (snapshot["seq"], frame.seq, snapshot["live"]) == (2, 2, True)
                assert [(u["text"], u["rev"]) for u in snapshot["utterances"]] == [("better", 1)]
                assert snapshot["partial"]["text"] == "so far"
                assert snapshot["gaps"] == [] and "settle_after_s" not in snapshot
                await talk.say(_final(3, utterance=2))
                await talk.stop()
                assert await _seqs(viewer) == [3, 4]

    asyncio.run(main())


def test_a_snapshot_of_a_session_with_gaps(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Has them in order of time, and says when labels settle if the hub was told. Each was logged."""
    caplog.set_level("INFO", "amanuensis.hub")

    async def main() -> None:
        async with _talk(tmp_path) as talk:
            await talk.say(
                _final(1),
                Gap(seq=2, start=30.0, end=31.0, reason="overload"),
                Gap(seq=3, start=20.0, end=21.5, reason="suppressed:silence"),
            )
            async with talk.hub.subscribe("talk", None, settle_after_s=12.0) as viewer:
                (frame,) = await viewer.take()
                snapshot = json.loads(frame.json)
                assert [(gap["seq"], gap["start"], gap["reason"]) for gap in snapshot["gaps"]] == [
                    (3, 20.0, "suppressed:silence"),
                    (2, 30.0, "overload"),
                ]
                assert snapshot["settle_after_s"] == 12.0
                assert "session talk has no text from 20.0 to 21.5 s: suppressed:silence" in caplog.text
                await talk.say(Gap(seq=4, start=40.0, end=41.0, reason="overload"))
                assert [frame.seq for frame in await viewer.take()] == [4]

    asyncio.run(main())


def test_a_snapshot_between_commit_and_publication(tmp_path: Path) -> None:
    """Shows the final and not the partial it replaces."""

    async def main() -> None:
        async with _talk(tmp_path) as talk:
            await talk.say(_partial(1, "open"))
            await talk.say(_final(1), publish=False)
            for after in (None, 0):
                async with talk.hub.subscribe("talk", after) as viewer:
                    frames = await viewer.take()
                    assert all(f.type != "partial" for f in frames) and "partial" not in json.loads(
                        frames[0].json
                    )
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(viewer.take(), 0.1)

    asyncio.run(main())


def test_a_viewer_that_replays_into_an_open_utterance(tmp_path: Path) -> None:
    """Gets its partial at once instead of waiting for the next."""

    async def main() -> None:
        async with _talk(tmp_path) as talk:
            await talk.say(_final(1), _partial(2, "so far"))
            async with talk.hub.subscribe("talk", 0) as viewer:
                assert [frame.type for frame in await viewer.take()] == ["final"]
                assert "so far" in (await viewer.take())[0].json

    asyncio.run(main())


def test_a_viewer_without_partials(tmp_path: Path) -> None:
    """Gets durable events only."""

    async def main() -> None:
        async with _talk(tmp_path) as talk, talk.hub.subscribe("talk", 0, partials=False) as viewer:
            await talk.say(_partial(1))
            reading = asyncio.create_task(viewer.take())
            await asyncio.sleep(0.05)
            await talk.say(Speech(state="start", time=0.0), _partial(1), _final(1))
            assert [frame.type for frame in await reading] == ["final"]

    asyncio.run(main())


def test_a_slow_viewer(tmp_path: Path) -> None:
    """Loses partials first and then its place; the session and the other viewers notice nothing."""

    async def main() -> None:
        async with (
            _talk(tmp_path, queue_size=8) as talk,
            talk.hub.subscribe("talk", 0) as slow,
            talk.hub.subscribe("talk", 0) as quick,
        ):
            told: list[bool] = []
            slow.on_cut_off = lambda: told.append(True)
            read: list[int] = []

            async def read_all() -> None:
                read.extend(await _seqs(quick))

            reading, first = asyncio.create_task(read_all()), asyncio.create_task(slow.take())
            await asyncio.sleep(0.05)
            await talk.say(_final(1))
            assert [frame.seq for frame in await first] == [1]  # it follows, and then reads no more
            for index in range(2, 9):
                await talk.say(_partial(index), _partial(index), _final(index))
                await asyncio.sleep(0)
            assert not told
            assert [f.type for f in slow._queue].count("final") == 7, "partials made room for finals"
            for index in (9, 10):
                await talk.say(_final(index))
                await asyncio.sleep(0)
            assert told and talk.hub.viewers_of("talk") == 1
            with pytest.raises(Overloaded, match="too slowly"):
                await slow.take()
            await talk.stop()
            await reading
            assert read == list(range(1, 12))

    asyncio.run(main())


def test_partials_for_a_viewer_whose_queue_is_full_of_finals(tmp_path: Path) -> None:
    """Are dropped without cutting it off."""

    async def main() -> None:
        async with _talk(tmp_path, queue_size=4) as talk, talk.hub.subscribe("talk", 0) as viewer:
            first = asyncio.create_task(viewer.take())
            await asyncio.sleep(0.05)
            await talk.say(_final(1))
            await first
            await talk.say(*(_final(n) for n in range(2, 6)), _partial(6), _partial(6))
            assert [frame.seq for frame in await viewer.take()] == [2, 3, 4, 5]

    asyncio.run(main())


def test_a_session_that_is_over(tmp_path: Path) -> None:
    """Is replayed, and then the viewer ends; so does one that came in time."""

    async def main() -> None:
        async with _talk(tmp_path) as talk:
            await talk.say(_final(1), _final(2))
            async with talk.hub.subscribe("talk", 0) as early:
                reading = asyncio.create_task(_seqs(early))
                await asyncio.sleep(0.05)
                await talk.stop()
                assert await reading == [1, 2, 3]
            async with talk.hub.subscribe("talk", 1) as late:
                assert await _seqs(late) == [2, 3]
            async with talk.hub.subscribe("talk", None) as late:
                frames = [frame async for frame in late]
                assert len(frames) == 1 and not json.loads(frames[0].json)["live"]
            assert not talk.hub._channels

    asyncio.run(main())


def test_a_session_whose_end_was_never_published(tmp_path: Path) -> None:
    """Its viewers get the end out of the journal."""

    async def main() -> None:
        async with _talk(tmp_path) as talk, talk.hub.subscribe("talk", 0) as viewer:
            reading = asyncio.create_task(_seqs(viewer))
            await asyncio.sleep(0.05)
            await talk.say(Stopped(seq=1, audio_end=0.0, ledger=Ledger()), publish=False)
            talk.hub.end("talk")
            assert await reading == [1]

    asyncio.run(main())


def test_a_shutdown(tmp_path: Path) -> None:
    """Viewers get what is queued, and then Restarting."""

    async def main() -> None:
        async with _talk(tmp_path) as talk, talk.hub.subscribe("talk", 0) as viewer:
            first = asyncio.create_task(viewer.take())
            await asyncio.sleep(0.05)
            await talk.say(_final(1))
            await first
            await talk.say(_final(2))
            talk.hub.close()
            assert [frame.seq for frame in await viewer.take()] == [2]
            with pytest.raises(Restarting):
                await viewer.take()

    asyncio.run(main())
