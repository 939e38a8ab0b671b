"""Recordings decoded in batches, on real speech with the real model."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.recordings import transcribe
from npu.transcriber import ModelTranscriber
from streaming.events import Final, Stopped

Array = NDArray[np.float32]


def test_several_recordings(transcriber: ModelTranscriber, clips: dict[str, Array]) -> None:
    """Each has its own finals, in order, and an account of its audio; none knows that others were decoded with it."""
    names = ("two_cities", "beckett", "endgame_nagg_nell")

    def heard(chosen: tuple[str, ...], block: int) -> dict[str, list[str]]:
        texts: dict[str, list[str]] = {}
        sources = (
            (name, [clips[name][at : at + block] for at in range(0, len(clips[name]), block)])
            for name in chosen
        )
        for name, event in transcribe(sources, transcriber, judges=None):
            if isinstance(event, Final):
                texts.setdefault(name, []).append(event.text)
            if isinstance(event, Stopped):
                total = sum(event.ledger.model_dump().values())
                assert abs(total - len(clips[name]) / 16_000) < 0.03
                texts.setdefault(name, []).append("stopped")
        return texts

    together = heard(names, 160_000)
    assert {name: lines[-1] for name, lines in together.items()} == dict.fromkeys(names, "stopped")
    assert "best of times" in together["two_cities"][0]
    for name in names:
        assert heard((name,), 7_777)[name] == together[name]


def test_a_recording_longer_than_the_pool(
    transcriber: ModelTranscriber, clips: dict[str, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is decoded in parts while it is read, with the same text."""
    audio = clips["two_cities"]
    blocks = [audio[at : at + 16_000] for at in range(0, len(audio), 16_000)]
    sources = [("a", blocks)]
    whole = [event.text for _, event in transcribe(sources, transcriber, None) if isinstance(event, Final)]
    monkeypatch.setattr("npu.recordings.POOL_S", 10.0)
    parts = [event.text for _, event in transcribe(sources, transcriber, None) if isinstance(event, Final)]
    assert parts == whole and len(whole) > 4
