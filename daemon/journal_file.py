"""The journal's file: schema, settings, the one writing connection, and what SQLite's errors mean."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from streaming.errors import JournalError

try:
    import fcntl
except ImportError:  # Windows: two daemons on one journal are then told apart by nothing
    fcntl = None  # type: ignore[assignment]

Durability = Literal["normal", "full"]

APPLICATION_ID = 0x416D616E  # marks the file as ours
SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 5.0

_SCHEMA = """
CREATE TABLE session (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    title TEXT,
    created REAL NOT NULL,
    model TEXT NOT NULL,
    language TEXT NOT NULL,
    token_sha256 TEXT NOT NULL,
    sample_rate INTEGER NOT NULL,
    options TEXT NOT NULL,
    last_seq INTEGER NOT NULL,
    decided_sample INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    ledger TEXT NOT NULL
);
CREATE INDEX session_created ON session (created);
CREATE TABLE event (
    session INTEGER NOT NULL REFERENCES session (key) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    type TEXT NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (session, seq)
) WITHOUT ROWID;
"""


class JournalFile:
    """An open journal file, locked against a second daemon. `transaction` belongs to one thread."""

    def __init__(self, path: Path, db: sqlite3.Connection, lock: int) -> None:
        """Use `JournalFile.open`."""
        self.path = path
        self._db = db
        self._lock = lock  # file descriptor
        self._readers: list[sqlite3.Connection] = []

    @classmethod
    def open(cls, path: Path, durability: Durability = "normal") -> JournalFile:
        """Creates or checks the file; JournalError where it cannot be written or is not a journal."""
        lock = _lock(path)
        db: sqlite3.Connection | None = None
        try:
            with translated(path):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # transcripts are the owner's alone
                db = _connect(path)
                _refuse_foreign(path, db)
                db.execute("PRAGMA journal_mode = WAL")
                db.execute(f"PRAGMA synchronous = {durability}")
                db.execute("PRAGMA secure_delete = ON")  # what is deleted is gone from the file
                _migrate(db)
        except BaseException:
            if db is not None:
                db.close()
            os.close(lock)
            raise
        return cls(path, db, lock)

    def connect(self) -> sqlite3.Connection:
        """A further connection, for the calling thread to read by; `close` closes it."""
        db = _connect(self.path)
        self._readers.append(db)
        return db

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commits when the block ends, or undoes all of it; usable again after any failure."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        finally:
            if db.in_transaction:  # SQLite itself rolls back on some errors (a full disk), not on others
                db.execute("ROLLBACK")

    def close(self) -> None:
        """Folds the write-ahead log into the file as far as there is room, and unlocks it. No thread uses it now."""
        for reader in self._readers:
            reader.close()
        with contextlib.suppress(sqlite3.Error):  # what is committed is safe in the log as well
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()
        os.close(self._lock)


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's and the system's errors as JournalError, with the remedy."""
    try:
        yield
    except sqlite3.Error as error:
        raise JournalError(_explain(path, error)) from error
    except OSError as error:
        raise JournalError(
            f"The journal {path} cannot be used ({error.strerror}). Give the daemon write access to "
            f"{path.parent}, or set journal.path to a place it may write."
        ) from error


def _explain(path: Path, error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code
    match code:
        case sqlite3.SQLITE_FULL:
            return f"The disk of the journal {path} is full. Free some space; nothing committed is lost."
        case sqlite3.SQLITE_IOERR:
            return (
                f"The system failed to read or write the journal {path} ({error}). Look for a full or failing "
                "disk or a file size limit; nothing committed is lost."
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return (
                f"The journal {path} cannot be written ({error}). Give the daemon write access to the file and "
                f"to {path.parent}, or set journal.path to a place it may write."
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return (
                f"The journal {path} is damaged ({error}). Move it aside, or save what is readable with "
                f"`sqlite3 {path} .recover`; the daemon makes a new one when it starts."
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"Another program holds the journal {path} locked. Close it and try again."
        case _:
            return f"The journal {path} cannot be used ({error}). Move it aside, or set journal.path anew."


def _lock(path: Path) -> int:
    """The descriptor that keeps a second daemon from this journal; the system frees it on any death."""
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    if fcntl is not None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise JournalError(
                f"Another daemon uses the journal {path}. Stop it, or set journal.path to a file of its own."
            ) from error
        except OSError:
            pass  # a file system without locks: SQLite's own still keep the file whole
    return lock


def _connect(path: Path) -> sqlite3.Connection:
    # Not bound to a thread: the writer's is opened by `open` and closed by `close`, in other threads.
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _refuse_foreign(path: Path, db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if application == APPLICATION_ID and version > SCHEMA_VERSION:
        raise JournalError(
            f"The journal {path} was written by a later release of Amanuensis (schema {version}, this one "
            f"knows {SCHEMA_VERSION}). Install that release, or set journal.path to another file."
        )
    if (tables or version or application) and application != APPLICATION_ID:
        raise JournalError(
            f"{path} is the database of another program. Set journal.path to a file of the daemon's own."
        )
    if application == APPLICATION_ID and version and not {"session", "event"} <= tables:
        raise JournalError(f"The journal {path} lacks its tables. Move it aside; the daemon makes a new one.")


def _migrate(db: sqlite3.Connection) -> None:
    """Brings the schema up to SCHEMA_VERSION, in one transaction."""
    db.execute("BEGIN IMMEDIATE")  # also proves, before any session starts, that the file can be written
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version < 1:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
