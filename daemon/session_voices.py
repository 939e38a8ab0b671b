"""The voices of sessions, in memory only: those of live ones, and of the last ones that ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streaming.errors import UnknownVoice
from streaming.labels import Labels
from streaming.roster import Voice

KEPT = 64  # sessions that ended


class SessionVoices:
    """One daemon's. Whatever it has is gone when the daemon stops."""

    def __init__(self) -> None:
        self._live: dict[str, Labels] = {}
        self._over: dict[str, dict[str, Voice]] = {}  # by session and speaker; the last to end comes last

    def opened(self, session: str, labels: Labels) -> None:
        """A session has begun, or goes on."""
        self._live[session] = labels

    def closed(self, session: str, labels: Labels) -> None:
        """It is over, or waits for its producer: its voices stay for a while."""
        if self._live.get(session) is not labels:
            return  # deleted
        del self._live[session]
        kept = {**self._over.pop(session, {}), **labels.voices()}
        if kept:
            self._over[session] = kept
        while len(self._over) > KEPT:
            del self._over[next(iter(self._over))]

    def forget(self, session: str) -> None:
        """It was deleted."""
        self._live.pop(session, None)
        self._over.pop(session, None)

    def voice(self, session: str, speaker: str) -> Voice:
        """A speaker's voice; UnknownVoice says why there is none."""
        labels = self._live.get(session)
        if labels is None and session not in self._over:
            raise UnknownVoice(
                f"The voices of session {session!r} are gone: they are kept in memory only, for the last {KEPT} "
                "sessions, until the daemon stops. Enrol from a recording: amanuensis voices enroll NAME FILE"
            )
        voices: Mapping[str, Any] = {
            **self._over.get(session, {}),
            **(labels.voices() if labels is not None else {}),
        }
        if speaker not in voices:
            there = f"those of {', '.join(voices)} are" if voices else "none is"
            raise UnknownVoice(f"The voice of {speaker} in session {session!r} is not known; {there}.")
        voice: Voice = voices[speaker]
        return voice
