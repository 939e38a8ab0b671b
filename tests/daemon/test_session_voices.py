"""The voices of sessions: while they last, for a while after, and no longer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from daemon.session_voices import KEPT, SessionVoices
from streaming.errors import UnknownVoice
from streaming.roster import Voice

VOICE, OTHER = (Voice(np.eye(2, dtype=np.float32)[axis], 9.0) for axis in (0, 1))


class Labels:
    """Of a session with these voices."""

    def __init__(self, **voices: Voice) -> None:
        self._voices = voices

    def voices(self) -> dict[str, Any]:
        return self._voices


def test_a_session_that_is_live_and_then_over() -> None:
    """Has its voices; of a speaker it does not have, it says who there is."""
    voices, labels = SessionVoices(), Labels(S1=VOICE)
    voices.opened("monday", labels)
    assert voices.voice("monday", "S1") is VOICE
    voices.closed("monday", labels)
    assert voices.voice("monday", "S1") is VOICE
    with pytest.raises(UnknownVoice, match=r"S2.*those of S1 are"):
        voices.voice("monday", "S2")


def test_a_session_that_goes_on_after_a_pause() -> None:
    """Has the voices of both parts."""
    voices, first, second = SessionVoices(), Labels(S1=VOICE), Labels(S2=OTHER)
    voices.opened("monday", first)
    voices.closed("monday", first)
    voices.opened("monday", second)
    assert voices.voice("monday", "S1") is VOICE and voices.voice("monday", "S2") is OTHER
    voices.closed("monday", second)
    assert voices.voice("monday", "S1") is VOICE and voices.voice("monday", "S2") is OTHER


def test_many_sessions_later() -> None:
    """The oldest are gone, and the remedy is named."""
    voices = SessionVoices()
    for number in range(KEPT + 1):
        labels = Labels(S1=VOICE)
        voices.opened(f"s{number}", labels)
        voices.closed(f"s{number}", labels)
    assert voices.voice("s1", "S1") is VOICE
    with pytest.raises(UnknownVoice, match=f"gone.*last {KEPT} sessions.*enroll NAME FILE"):
        voices.voice("s0", "S1")


def test_a_session_that_is_deleted() -> None:
    """Takes its voices with it, live or over."""
    voices, labels = SessionVoices(), Labels(S1=VOICE)
    voices.opened("monday", labels)
    voices.forget("monday")
    voices.closed("monday", labels)
    with pytest.raises(UnknownVoice):
        voices.voice("monday", "S1")
