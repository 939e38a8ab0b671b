"""The journal's file: what cannot be written, or is not the journal's, is refused in a sentence with what to do."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from daemon.journal import Journal, SessionRecord, opened
from streaming.errors import JournalError
from streaming.events import Final, Ledger

ROOT = Path(__file__).parents[2]


def _record(id: str = "talk", created: float = 1.0) -> SessionRecord:
    return SessionRecord(id, None, created, "model", "en", "f" * 64, 48_000, "{}")


def _final(seq: int, text: str = "words") -> Final:
    return Final(seq=seq, utterance=seq, start=seq, end=seq + 0.5, text=text, language="en")


def _modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def test_a_full_disk(tmp_path: Path) -> None:
    """Refuses the append that does not fit, loses nothing committed, and goes on once there is room."""

    async def main() -> None:
        async with opened(tmp_path / "j.db") as journal:
            for id in ("talk", "other"):
                await journal.create(_record(id))
            await journal.append("talk", [_final(1)], 1, Ledger())
            pages = journal._file._db.execute("PRAGMA page_count").fetchone()[0]
            # What SQLite says at its own limit is what it says of a full disk: SQLITE_FULL.
            journal._file._db.execute(f"PRAGMA max_page_count = {pages + 1}")
            with pytest.raises(JournalError, match=r"full.*Free some space"):
                await asyncio.gather(
                    journal.append("talk", [_final(2, "x" * 100_000)], 2, Ledger()),
                    journal.append("other", [_final(1, "small")], 1, Ledger()),
                )
            assert len(await journal.events("other")) == 1, "its neighbour in the transaction is not hurt"
            journal._file._db.execute("PRAGMA max_page_count = 1000000")
            await journal.probe()
            await journal.append("talk", [_final(2, "x" * 100_000)], 2, Ledger())
            assert [event.seq for event in await journal.events("talk")] == [1, 2]

    asyncio.run(main())


_LIMITED = """
import asyncio, resource, signal, sys
from pathlib import Path
from daemon.journal import Journal, SessionRecord
from streaming.errors import JournalError
from streaming.events import Final, Ledger
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def final(seq, size):
    return Final(seq=seq, utterance=seq, start=0, end=1, text="x" * size, language="en")
async def main():
    journal = await Journal.open(Path(sys.argv[1]))
    await journal.create(SessionRecord("talk", None, 1.0, "m", "en", "", 16000, "{}"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
    try:
        await journal.append("talk", [final(1, 400_000)], 1, Ledger())
        sys.exit("it fitted")
    except JournalError as error:
        print(error)
    await journal.append("talk", [final(1, 10)], 1, Ledger())
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await journal.append("talk", [final(2, 400_000)], 2, Ledger())
    print([event.seq for event in await journal.events("talk")])
    await journal.close()
asyncio.run(main())
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """The system's own refusal to write is told with its remedy, and the journal goes on after it."""
    run = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path / "j.db")], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    message, seqs = run.stdout.strip().splitlines()
    assert "nothing committed is lost" in message and seqs == "[1, 2]"


_OPEN = """
import asyncio, os, sys
from pathlib import Path
from daemon.journal import Journal
from streaming.errors import JournalError
async def main():
    try:
        await Journal.open(Path(sys.argv[1]))
    except JournalError as error:
        print(error)
from streaming.events import Ledger  # everything is imported: now the privileges can go
os.chdir("/")
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="no users here to lack a right")
@pytest.mark.parametrize("existing", [False, True])
def test_a_directory_that_cannot_be_written(existing: bool) -> None:
    """Is named, with what to do about it, whether or not a journal stands in it."""
    folder = Path(tempfile.mkdtemp(prefix="journal-"))  # others may come near it, unlike pytest's
    try:
        if existing:
            asyncio.run(_make_journal(folder / "j.db"))
            (folder / "j.db").chmod(0o444)
            (folder / "j.db.lock").unlink()
        folder.chmod(0o555)
        run = subprocess.run(
            [sys.executable, "-c", _OPEN, str(folder / "j.db")], cwd=ROOT, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        assert str(folder) in run.stdout and "write access" in run.stdout and "journal.path" in run.stdout
    finally:
        folder.chmod(0o755)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


async def _make_journal(path: Path) -> None:
    async with opened(path) as journal:
        await journal.create(_record())


def _refusal(path: Path) -> str:
    with pytest.raises(JournalError) as refused:
        asyncio.run(_make_journal(path))
    return str(refused.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """Is refused and left as it is."""
    path = tmp_path / "j.db"
    path.write_bytes(b"These are not the bytes of a database." * 100)
    before = path.read_bytes()
    assert "damaged" in _refusal(path) and path.read_bytes() == before


def test_a_damaged_journal(tmp_path: Path) -> None:
    """Is refused at once when its schema is gone, and on the damaged page otherwise; never a wrong text."""
    path = tmp_path / "j.db"
    asyncio.run(_make_journal(path))
    with path.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(3000))
    assert "Move it aside" in _refusal(path)


def test_a_database_of_another_program(tmp_path: Path) -> None:
    """Is refused before anything is written into it."""
    path = tmp_path / "j.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE recipe (id INTEGER)")
    db.close()
    before = path.read_bytes()
    assert "another program" in _refusal(path) and path.read_bytes() == before


def test_a_journal_of_a_later_release(tmp_path: Path) -> None:
    """Is refused, with the schema it has."""
    path = tmp_path / "j.db"
    asyncio.run(_make_journal(path))
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    assert "later release" in _refusal(path)


def test_a_second_daemon_on_the_same_journal(tmp_path: Path) -> None:
    """Is refused while the first one lives."""

    async def main() -> None:
        async with opened(tmp_path / "j.db"):
            with pytest.raises(JournalError, match="Another daemon"):
                await Journal.open(tmp_path / "j.db")
        async with opened(tmp_path / "j.db"):
            pass

    asyncio.run(main())


def test_its_files(tmp_path: Path) -> None:
    """Are made with their folders, and readable by their owner alone."""
    path = tmp_path / "a" / "b" / "j.db"

    async def main() -> None:
        async with opened(path, "full") as journal:
            await journal.create(_record())
            assert _modes(path.parent) == {0o600}

    asyncio.run(main())
