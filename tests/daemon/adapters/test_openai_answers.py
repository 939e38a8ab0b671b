"""OpenAI's answers, made of a transcript; their client itself is in tests/end_to_end/test_openai.py."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from daemon.adapters.openai_answers import answer
from npu.transcripts import Transcript
from streaming.events import SpeakerLabel, SpokenWord, Utterance


def _line(number: int, speaker: SpeakerLabel | None = None, confidence: float = 1.0) -> Utterance:
    return Utterance(
        utterance=number,
        start=number,
        end=number + 0.5,
        text=f"line {number}",
        language="en",
        speaker=speaker,
        words=(SpokenWord(text="line", start=number, end=number + 0.2, confidence=confidence),),
    )


def _answer(*lines: Utterance, response_format: str = "json") -> dict[str, Any]:
    transcript = Transcript("talk", lines, duration_s=12.3, speech_s=10.0, language="en")
    body: dict[str, Any] = json.loads(bytes(answer(transcript, response_format).body))
    return body


def test_letters() -> None:
    """A to Z, then two; names where there are any; and a word for nobody."""
    lines = [_line(at, SpeakerLabel(id=f"S{at}", name="Anna" if at == 2 else None)) for at in range(1, 30)]
    segments = _answer(*lines, _line(30), response_format="diarized_json")["segments"]
    speakers = [segment["speaker"] for segment in segments]
    assert speakers[:3] == ["A", "Anna", "C"] and speakers[25:29] == ["Z", "AA", "AB", "AC"]
    assert speakers[29] == "unknown"
    assert [segment["id"] for segment in segments[:2]] == ["seg_0", "seg_1"]


def test_log_probabilities() -> None:
    """Are means over words; no word is impossible."""
    segments = _answer(_line(1, None, 0.5), _line(2, None, 0.0), response_format="verbose_json")["segments"]
    assert segments[0]["avg_logprob"] == pytest.approx(math.log(0.5))
    assert segments[1]["avg_logprob"] == pytest.approx(math.log(1e-10))
    assert segments[1]["seek"] == 200


def test_no_speech() -> None:
    """Is a complete answer."""
    assert _answer() == {"text": "", "usage": {"type": "duration", "seconds": 13}}
    assert _answer(response_format="verbose_json")["segments"] == []
    assert _answer(response_format="diarized_json")["text"] == ""
