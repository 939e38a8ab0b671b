"""The journal: what is committed stays, what cannot be committed is refused in a sentence."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daemon.journal import MAX_PENDING, Journal, SessionRecord, opened
from streaming.errors import JournalError, SessionBusy, StateError, UnknownSession
from streaming.events import Final, Gap, Ledger, Revise, SpokenWord, Stopped

ROOT = Path(__file__).parents[2]


def _record(id: str = "talk", created: float = 1.0) -> SessionRecord:
    return SessionRecord(id, None, created, "model", "en", "f" * 64, 48_000, "{}")


def _all_bytes(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


def _final(seq: int, text: str = "words") -> Final:
    return Final(seq=seq, utterance=seq, start=seq, end=seq + 0.5, text=text, language="en")


def test_events_come_back_as_they_went_in(tmp_path: Path) -> None:
    """Text, times and words are exact to the bit, whatever characters they are made of."""
    text = " \u0000 “naïve” 日本 👩‍👩‍👧 \u202e <b>&amp; \\ \n\t '); DROP TABLE event;-- "
    words = (SpokenWord(text="naïve", start=0.1 + 0.2, end=1 / 3, confidence=1e-300),)
    final = _final(1).model_copy(update={"text": text, "words": words})
    events = [
        final,
        Gap(seq=2, start=1.5, end=2.5, reason="suppressed:noise"),
        Revise(seq=3, utterance=1, rev=1, text=""),
        Stopped(seq=4, audio_end=3.0, ledger=Ledger(speech_s=1.0, silence_s=2.0)),
    ]

    async def main() -> None:
        async with opened(tmp_path / "j.db") as journal:
            await journal.create(_record())
            await journal.append("talk", events[:1], 100, Ledger(speech_s=1.0))
            await journal.append("talk", events[1:], 48_000, Ledger(speech_s=1.0, silence_s=2.0))
        async with opened(tmp_path / "j.db") as journal:
            assert await journal.events("talk") == events
            assert await journal.events("talk", after=2) == events[2:]
            assert [stored.json for stored in await journal.stored("talk")] == [e.to_json() for e in events]
            record = await journal.session("talk")
            assert record is not None and record.ended and record.last_seq == 4
            assert record.decided_sample == 48_000 and record.ledger.silence_s == 2.0

    asyncio.run(main())


def test_a_hole_in_seq(tmp_path: Path) -> None:
    """Is refused, as is a repetition, and nothing of the batch is kept."""

    async def main() -> None:
        async with opened(tmp_path / "j.db") as journal:
            await journal.create(_record())
            await journal.append("talk", [_final(1)], 0, Ledger())
            for wrong in ([3], [1], [2, 4], [2, 2]):
                with pytest.raises(StateError, match="stands at seq 1"):
                    await journal.append("talk", [_final(seq) for seq in wrong], 0, Ledger())
            await journal.append("talk", [_final(2)], 0, Ledger())
            assert [event.seq for event in await journal.events("talk")] == [1, 2]

    asyncio.run(main())


def test_an_append_without_events(tmp_path: Path) -> None:
    """Moves the watermark and the ledger only."""

    async def main() -> None:
        async with opened(tmp_path / "j.db") as journal:
            await journal.create(_record())
            await journal.append("talk", [], 16_000, Ledger(silence_s=1.0))
            record = await journal.session("talk")
            assert record is not None and record.last_seq == 0 and not record.ended
            assert record.decided_sample == 16_000 and record.ledger == Ledger(silence_s=1.0)

    asyncio.run(main())


def test_names_of_sessions(tmp_path: Path) -> None:
    """A name is given once; what does not exist is said to be unknown; the newest stand first."""

    async def main() -> None:
        async with opened(tmp_path / "j.db") as journal:
            await journal.create(_record("a", 1.0))
            await journal.create(_record("b", 2.0))
            with pytest.raises(SessionBusy):
                await journal.create(_record("a"))
            with pytest.raises(UnknownSession):
                await journal.append("nobody", [_final(1)], 0, Ledger())
            with pytest.raises(UnknownSession):
                await journal.set_title("nobody", "x")
            await journal.set_title("a", "The title")
            assert [(r.id, r.title) for r in await journal.sessions()] == [("b", None), ("a", "The title")]
            assert [r.id for r in await journal.sessions(limit=1)] == ["b"]
            assert await journal.session("nobody") is None and await journal.events("nobody") == []

    asyncio.run(main())


def test_deleting(tmp_path: Path) -> None:
    """Forgets a session and its events, and its text is in none of the journal's files any more."""
    secret = "a confidential sentence"

    async def main() -> None:
        async with opened(tmp_path / "j.db") as journal:
            await journal.create(_record("a"))
            await journal.create(_record("b"))
            await journal.append("a", [_final(1, secret)], 0, Ledger())
            await journal.append("b", [_final(1, "other")], 0, Ledger())
            assert await journal.delete("a") and not await journal.delete("a")
            assert await journal.session("a") is None and await journal.events("a") == []
            assert len(await journal.events("b")) == 1
            assert secret.encode() not in _all_bytes(tmp_path)

    asyncio.run(main())


def test_many_sessions_at_once(tmp_path: Path) -> None:
    """Share transactions, and every one of them gets its own events, its own refusals, and its order."""

    async def speak(journal: Journal, id: str) -> None:
        await journal.create(_record(id))
        for seq in range(1, 21):
            await journal.append(id, [_final(seq, f"{id}-{seq}")], seq, Ledger())
            with pytest.raises(StateError):
                await journal.append(id, [_final(99)], seq, Ledger())

    async def main() -> None:
        async with opened(tmp_path / "j.db") as journal:
            async with asyncio.TaskGroup() as group:
                for index in range(50):
                    group.create_task(speak(journal, f"s{index}"))
            for index in range(50):
                events = await journal.events(f"s{index}")
                assert [e.text for e in events if isinstance(e, Final)] == [
                    f"s{index}-{n}" for n in range(1, 21)
                ]

    asyncio.run(main())


def test_more_writes_than_the_queue_holds(tmp_path: Path) -> None:
    """Wait their turn; none is lost and none refused."""

    async def main() -> None:
        async with opened(tmp_path / "j.db") as journal:
            await journal.create(_record())
            await asyncio.gather(
                *(journal.append("talk", [_final(n)], n, Ledger()) for n in range(1, 2 * MAX_PENDING))
            )
            record = await journal.session("talk")
            assert record is not None and record.last_seq == 2 * MAX_PENDING - 1

    asyncio.run(main())


def test_a_cancelled_append(tmp_path: Path) -> None:
    """Is still made, whole, and the journal goes on."""

    async def main() -> None:
        async with opened(tmp_path / "j.db") as journal:
            await journal.create(_record())
            task = asyncio.ensure_future(journal.append("talk", [_final(1)], 0, Ledger()))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await journal.append("talk", [_final(2)], 0, Ledger())
            assert [event.seq for event in await journal.events("talk")] == [1, 2]

    asyncio.run(main())


def test_a_closed_journal(tmp_path: Path) -> None:
    """Has written all it took, closes twice without complaint, and refuses what comes later."""

    async def main() -> None:
        journal = await Journal.open(tmp_path / "j.db")
        await journal.create(_record())
        task = asyncio.ensure_future(journal.append("talk", [_final(1)], 0, Ledger()))
        await asyncio.sleep(0)
        await journal.close()
        await journal.close()
        await task
        with pytest.raises(JournalError, match="shutting down"):
            await journal.append("talk", [_final(2)], 0, Ledger())
        with pytest.raises(JournalError, match="shutting down"):
            await journal.sessions()
        async with opened(tmp_path / "j.db") as again:
            assert len(await again.events("talk")) == 1

    asyncio.run(main())


_WRITER = """
import asyncio, sys
from pathlib import Path
from daemon.journal import Journal, SessionRecord
from streaming.events import Final, Ledger
async def main():
    journal = await Journal.open(Path(sys.argv[1]))
    record = await journal.session("talk")
    if record is None:
        await journal.create(SessionRecord("talk", None, 1.0, "m", "en", "", 16000, "{}"))
        record = await journal.session("talk")
    seq = record.last_seq
    while True:
        events = [Final(seq=seq + i, utterance=seq + i, start=0, end=1, text="x" * 300, language="en") for i in (1, 2)]
        seq += 2
        await journal.append("talk", events, seq, Ledger(speech_s=seq))
        print(seq, flush=True)
asyncio.run(main())
"""


def test_kill_9_again_and_again(tmp_path: Path) -> None:
    """Everything that was acknowledged is there, batches are whole, and the next process goes on from it."""
    path = tmp_path / "j.db"
    total = 0
    for round_ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        acknowledged = int(process.stdout.readline())
        time.sleep(0.03 * (round_ + 1))
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        process.wait()
        process.stdout.close()
        acknowledged = int(rest[-1]) if rest else acknowledged
        with sqlite3.connect(path) as db:
            seqs = [seq for (seq,) in db.execute("SELECT seq FROM event ORDER BY seq")]
            last_seq, decided = db.execute("SELECT last_seq, decided_sample FROM session").fetchone()
        db.close()
        assert acknowledged > total
        assert seqs == list(range(1, len(seqs) + 1)) and len(seqs) % 2 == 0
        assert acknowledged <= len(seqs) == last_seq == decided
        total = len(seqs)
