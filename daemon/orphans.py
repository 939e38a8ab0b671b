"""Orphans: sessions in the journal that have not ended, and that nobody drives."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from daemon.journal import Journal
from streaming.errors import JournalError
from streaming.events import Stopped
from streaming.window import SAMPLE_RATE

logger = logging.getLogger("amanuensis.orphans")

_ALL = 1_000_000  # more sessions than a journal ever holds


class Orphans:
    """They wait `resume_window_s` for their producers, from when the daemon started or their driver left."""

    def __init__(self, journal: Journal, resume_window_s: float) -> None:
        self._journal = journal
        self._window_s = resume_window_s
        self._since: dict[str, float] = {}
        self._kept: frozenset[str] = frozenset()

    async def find(self, keep: Iterable[str] = ()) -> None:
        """Those a daemon before this one left behind, except sessions that will be taken up again anyway."""
        self._kept = frozenset(keep)
        for record in await self._journal.sessions(_ALL):
            if not record.ended:
                self.add(record.id)

    def add(self, session: str) -> None:
        """Its driver left."""
        if session not in self._kept:
            self._since[session] = time.monotonic()

    def discard(self, session: str) -> None:
        """It has a driver again."""
        self._since.pop(session, None)

    def due(self) -> list[str]:
        """Those that have waited for long enough."""
        now = time.monotonic()
        return [session for session, since in self._since.items() if now - since > self._window_s]

    async def close(self, session: str) -> None:
        """Writes the end of a session, where its last watermark stands."""
        self.discard(session)
        try:
            record = await self._journal.session(session)
            if record is None or record.ended:
                return
            audio_end = record.decided_sample / SAMPLE_RATE
            stopped = Stopped(seq=record.last_seq + 1, audio_end=audio_end, ledger=record.ledger)
            await self._journal.append(session, [stopped], record.decided_sample, record.ledger)
            logger.info("session %s: nobody came back for it, it is closed at %.1f s", session, audio_end)
        except JournalError as error:
            self.add(session)  # tried again after another window
            logger.warning("session %s could not be closed: %s", session, error)
