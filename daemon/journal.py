"""The journal: every durable event, in SQLite, before anyone sees it.

One thread writes. It takes all writes that wait, of all sessions, into one transaction (group commit); a
write returns once its transaction is committed. At most `MAX_PENDING` writes wait in the queue; further
callers are suspended, which slows their sessions and loses nothing. Readers have connections of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, cast

from daemon.journal_file import SCHEMA_VERSION, Durability, JournalFile, translated
from streaming.errors import JournalError, SessionBusy, StateError, UnknownSession
from streaming.events import DurableEvent, Ledger, Stopped, parse_event

MAX_PENDING = 1_024  # writes in the queue of the writer
MAX_GROUP = 256  # writes in one transaction
READERS = 2  # threads that read, each with its connection
MAX_READS = 64  # reads in their queue; further callers are suspended

T = TypeVar("T")


@dataclass(frozen=True)
class SessionRecord:
    """A session as the journal knows it."""

    id: str
    title: str | None
    created: float  # unix seconds
    model: str
    language: str
    token_sha256: str  # hex digest of the resume token; the token itself is stored nowhere
    sample_rate: int  # Hz, as declared by the producer
    options: str  # JSON of the producer's Start
    last_seq: int = 0
    decided_sample: int = 0  # at 16 kHz; everything before it is final, silent, suppressed or a gap
    ended: bool = False
    ledger: Ledger = field(default_factory=Ledger)


@dataclass(frozen=True)
class StoredEvent:
    """A durable event as it was shown: its frame's text, unparsed."""

    seq: int
    type: str
    json: str

    def parse(self) -> DurableEvent:
        """The event itself."""
        return cast(DurableEvent, parse_event(self.json))


@dataclass(frozen=True)
class _Write:
    """A change on its way to the writer, and whoever waits for it."""

    change: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]


class Journal:
    """Sessions and their durable events. All methods belong to the event loop that opened it."""

    def __init__(self, file: JournalFile) -> None:
        """Use `Journal.open`."""
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._pending: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()  # bounded by _write_slots
        self._write_slots = asyncio.Semaphore(MAX_PENDING)
        self._read_slots = asyncio.Semaphore(MAX_READS)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="journal-read")
        self._connections = threading.local()
        self._closed = False
        self.on_commit: Callable[[float], None] = lambda seconds: (
            None
        )  # duration; called in the writer's thread
        self._failing = False  # the last transaction could not be made
        self._writer = threading.Thread(target=self._write_until_closed, name="journal-write", daemon=True)

    @classmethod
    async def open(cls, path: Path, durability: Durability = "normal") -> Journal:
        """Opens or creates the journal; JournalError where it cannot be used.

        `normal` survives kill -9 of the daemon; `full` also survives loss of power, at an fsync a commit.
        """
        file = await asyncio.to_thread(JournalFile.open, path, durability)
        journal = cls(file)
        journal._writer.start()
        return journal

    async def close(self) -> None:
        """Writes what waits, then gives the file back. Closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        self._pending.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        await asyncio.to_thread(self._file.close)

    # writing

    async def create(self, record: SessionRecord) -> None:
        """Enters a session; SessionBusy if its name is taken."""

        def change(db: sqlite3.Connection) -> None:
            if db.execute("SELECT 1 FROM session WHERE id = ?", (record.id,)).fetchone():
                raise SessionBusy(
                    f"A session named {record.id!r} exists; choose another name, or resume it with its token."
                )
            values = [getattr(record, name) for name in _FIELDS[:-1]]
            db.execute(
                f"INSERT INTO session ({_COLUMNS}) VALUES ({', '.join('?' * len(_FIELDS))})",
                (*values, record.ledger.model_dump_json()),
            )

        await self._write(change)

    async def append(
        self, session: str, events: Sequence[DurableEvent], decided_sample: int, ledger: Ledger
    ) -> None:
        """Commits events and watermark together, and returns once they are safe.

        The events must follow the last `seq` without a hole (StateError). Without events only the watermark
        moves. A caller that is cancelled may find its events committed: they are shown on the next replay.
        """
        rows = [(event.seq, event.type, event.to_json()) for event in events]
        ended = any(isinstance(event, Stopped) for event in events)
        account = ledger.model_dump_json()

        def change(db: sqlite3.Connection) -> None:
            key, last_seq = _find(db, session)
            expected = list(range(last_seq + 1, last_seq + 1 + len(rows)))
            if [row[0] for row in rows] != expected:
                raise StateError(
                    f"Session {session!r} stands at seq {last_seq}; events {[row[0] for row in rows]} do not "
                    "follow it. Read the session's record again before numbering events."
                )
            db.executemany(
                "INSERT INTO event (session, seq, type, json) VALUES (?, ?, ?, ?)",
                [(key, *row) for row in rows],
            )
            db.execute(
                "UPDATE session SET last_seq = ?, decided_sample = ?, ledger = ?, ended = ended OR ?"
                " WHERE key = ?",
                (last_seq + len(rows), decided_sample, account, ended, key),
            )

        await self._write(change)

    async def set_title(self, id: str, title: str | None) -> None:
        """Names a session; UnknownSession if there is none."""

        def change(db: sqlite3.Connection) -> None:
            key, _ = _find(db, id)
            db.execute("UPDATE session SET title = ? WHERE key = ?", (title, key))

        await self._write(change)

    async def delete(self, id: str) -> bool:
        """Forgets a session and its events, overwriting them in the file; False if there was none."""

        def change(db: sqlite3.Connection) -> bool:
            return db.execute("DELETE FROM session WHERE id = ?", (id,)).rowcount > 0

        deleted = cast(bool, await self._write(change))
        if deleted:
            await self._read(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
        return deleted

    async def probe(self) -> None:
        """JournalError when nothing can be written just now. Looks only if the last write failed."""
        if self._failing:
            await self._write(lambda db: db.execute("PRAGMA user_version = " + str(SCHEMA_VERSION)))

    # reading

    async def session(self, id: str) -> SessionRecord | None:
        """One session, or None."""
        row = await self._read(
            lambda db: db.execute(f"SELECT {_COLUMNS} FROM session WHERE id = ?", (id,)).fetchone()
        )
        return _record(row) if row else None

    async def sessions(self, limit: int = 200) -> list[SessionRecord]:
        """The newest sessions, newest first."""
        rows = await self._read(
            lambda db: db.execute(
                f"SELECT {_COLUMNS} FROM session ORDER BY created DESC, key DESC LIMIT ?", (limit,)
            ).fetchall()
        )
        return [_record(row) for row in rows]

    async def events(self, id: str, after: int = 0) -> list[DurableEvent]:
        """All events with seq > after, in order; none for a session that does not exist."""
        return [stored.parse() for stored in await self.stored(id, after)]

    async def stored(self, id: str, after: int = 0, limit: int = -1) -> list[StoredEvent]:
        """Events with seq > after as they were shown, at most `limit` of them (-1: all)."""
        rows = await self._read(
            lambda db: db.execute(
                "SELECT seq, type, json FROM event WHERE session = (SELECT key FROM session WHERE id = ?)"
                " AND seq > ? ORDER BY seq LIMIT ?",
                (id, after, limit),
            ).fetchall()
        )
        return [StoredEvent(*row) for row in rows]

    # the threads

    async def _write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        await self._write_slots.acquire()
        if self._closed:
            self._write_slots.release()
            raise JournalError("The journal is closed: the daemon is shutting down.")
        done: asyncio.Future[T] = self._loop.create_future()
        self._pending.put(_Write(change, done))
        return await done  # cancelled here: the change is still made, its slot freed by _settle

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            with translated(self._file.path):
                db: sqlite3.Connection | None = getattr(self._connections, "db", None)
                if db is None:
                    db = self._connections.db = self._file.connect()
                return query(db)

        if self._closed:
            raise JournalError("The journal is closed: the daemon is shutting down.")
        async with self._read_slots:
            return await self._loop.run_in_executor(self._readers, run)

    def _write_until_closed(self) -> None:
        """The writer thread: groups of writes until `None` comes."""
        while (first := self._pending.get()) is not None:
            group, closing = [first], False
            with contextlib.suppress(queue.Empty):
                while len(group) < MAX_GROUP:
                    write = self._pending.get_nowait()
                    if write is None:
                        closing = True
                        break
                    group.append(write)
            began = time.perf_counter()
            results = self._commit(group)
            self.on_commit(time.perf_counter() - began)
            self._failing = any(isinstance(result, JournalError) for result in results)
            with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever waited
                self._loop.call_soon_threadsafe(self._settle, group, results)
            if closing:
                return

    def _commit(self, group: list[_Write]) -> list[Any]:
        """Makes all changes in one transaction -> result or exception of each.

        When the transaction fails as a whole, each write is tried in one of its own: what cannot be written
        (the event that no longer fits the disk) must not take its neighbours with it.
        """
        try:
            with translated(self._file.path), self._file.transaction() as db:
                return [_attempt(write.change, db) for write in group]
        except Exception as error:  # whatever it is, it belongs to the callers, and the thread goes on
            if len(group) == 1:
                return [error]
        return [self._commit([write])[0] for write in group]

    def _settle(self, group: list[_Write], results: list[Any]) -> None:
        for write, result in zip(group, results, strict=True):
            self._write_slots.release()
            if write.done.done():  # its caller was cancelled
                continue
            if isinstance(result, Exception):
                write.done.set_exception(result)
            else:
                write.done.set_result(result)


_FIELDS = tuple(field.name for field in fields(SessionRecord))
_COLUMNS = ", ".join(_FIELDS)


def _record(row: tuple[Any, ...]) -> SessionRecord:
    values = dict(zip(_FIELDS, row, strict=True))
    ledger = Ledger.model_validate_json(values["ledger"])
    return SessionRecord(**values | {"ended": bool(values["ended"]), "ledger": ledger})


def _find(db: sqlite3.Connection, id: str) -> tuple[int, int]:
    """(key, last_seq) of a session."""
    row = db.execute("SELECT key, last_seq FROM session WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise UnknownSession(f"No session is named {id!r}; GET /v1/sessions lists those there are.")
    return cast(tuple[int, int], row)


def _attempt(change: Callable[[sqlite3.Connection], Any], db: sqlite3.Connection) -> Any:
    """A refusal concerns one write only: changes refuse before they touch the database."""
    try:
        return change(db)
    except (SessionBusy, StateError, UnknownSession) as refusal:
        return refusal


@contextlib.asynccontextmanager
async def opened(path: Path, durability: Durability = "normal") -> AsyncIterator[Journal]:
    """A journal for the length of a block."""
    journal = await Journal.open(path, durability)
    try:
        yield journal
    finally:
        await journal.close()
