"""The books of a session: every sample of it is speech, silence, suppressed or a gap."""

from __future__ import annotations

from typing import Literal

from streaming.events import Ledger
from streaming.window import SAMPLE_RATE

Kind = Literal["speech", "silence", "suppressed", "gap"]


class Account:
    """Stretches of audio booked in order; what lies between two of them was silence."""

    def __init__(self, start: int, ledger: Ledger) -> None:
        """start: sample index up to which `ledger` already accounts."""
        self.position = start  # everything before is booked
        self._spent: dict[Kind, int] = {
            "speech": round(ledger.speech_s * SAMPLE_RATE),
            "silence": round(ledger.silence_s * SAMPLE_RATE),
            "suppressed": round(ledger.suppressed_s * SAMPLE_RATE),
            "gap": round(ledger.gap_s * SAMPLE_RATE),
        }

    def book(self, start: int, end: int, kind: Kind) -> None:
        """Samples start..end were of one kind."""
        self._spent["silence"] += start - self.position
        self._spent[kind] += end - start
        self.position = end

    def ledger(self, until: int) -> Ledger:
        """The sums at a sample index at or after `position`, silence in between; they add up to it."""
        silence = self._spent["silence"] + until - self.position
        return Ledger(
            speech_s=self._spent["speech"] / SAMPLE_RATE,
            silence_s=silence / SAMPLE_RATE,
            suppressed_s=self._spent["suppressed"] / SAMPLE_RATE,
            gap_s=self._spent["gap"] / SAMPLE_RATE,
        )
