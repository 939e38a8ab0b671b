"""Logging: one line an event on stderr, which journald keeps. No audio and no text of anyone above debug level."""

from __future__ import annotations

import logging
import os
import sys
from typing import Literal

Level = Literal["debug", "info", "warning", "error"]

_SYSLOG = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class OneLine(logging.Formatter):
    """A record as one line; with its syslog priority in front where journald reads it."""

    def __init__(self, for_journald: bool) -> None:
        super().__init__(
            "%(levelname)s %(name)s %(message)s"
            if for_journald
            else "%(asctime)s %(levelname)s %(name)s %(message)s"
        )
        self._for_journald = for_journald

    def format(self, record: logging.LogRecord) -> str:
        """The line; a traceback is folded into it."""
        line = super().format(record).replace("\n", " | ")
        return f"<{_SYSLOG.get(record.levelno, 6)}>{line}" if self._for_journald else line


def _broken_peer(record: logging.LogRecord) -> bool:
    """A peer that breaks the WebSocket protocol is worth a line, not a traceback."""
    if record.exc_info and "UTF-8" in str(record.msg):
        record.exc_info = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def configure(level: Level = "info") -> None:
    """Sets up logging for the whole process; calling it again changes the level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(for_journald="JOURNAL_STREAM" in os.environ))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "websockets"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)  # its announcements are ours to make
    if _broken_peer not in (server := logging.getLogger("uvicorn.error")).filters:
        server.addFilter(_broken_peer)
