"""Recordings as a source."""

from __future__ import annotations

import asyncio
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from clients.file import Recording, play
from streaming.errors import AudioError


class _Sink:
    """Notes when how much arrived."""

    def __init__(self) -> None:
        self.data = b""
        self.arrivals: list[tuple[float, int]] = []

    async def send(self, data: bytes) -> None:
        self.data += data
        self.arrivals.append((time.monotonic(), len(self.data)))


def _tone(path: Path, seconds: float = 1.0, rate: int = 44_100, channels: int = 2) -> Path:
    t = np.arange(round(seconds * rate)) / rate
    frames = np.repeat((np.sin(2 * np.pi * 440 * t) * 16_000).astype("<i2"), channels)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(frames.tobytes())
    return path


def test_any_rate_and_channels(tmp_path: Path) -> None:
    """It becomes 16 kHz mono of the same length and level."""
    recording = Recording(_tone(tmp_path / "tone.wav"))
    assert recording.duration_s == pytest.approx(1.0)
    samples = np.frombuffer(b"".join(recording.blocks()), "<i2")
    assert abs(len(samples) - 16_000) < 50
    assert np.abs(samples[4_000:12_000]).max() == pytest.approx(16_000, rel=0.05)


def test_at_real_time(tmp_path: Path) -> None:
    """A block comes when its last sample would have been spoken, not before."""
    sink, told = _Sink(), []
    begun = time.monotonic()
    sent_s = asyncio.run(play(Recording(_tone(tmp_path / "tone.wav", 0.6)), sink, 1.0, told.append))
    assert sent_s == pytest.approx(0.6, abs=0.01) and told[-1] == sent_s
    assert all(at - begun >= size / 32_000 - 0.001 for at, size in sink.arrivals)


def test_as_fast_as_it_goes(tmp_path: Path) -> None:
    """With speed 0 nothing waits."""
    sink = _Sink()
    begun = time.monotonic()
    asyncio.run(play(Recording(_tone(tmp_path / "tone.wav", 20.0)), sink, 0.0))
    assert time.monotonic() - begun < 5.0
    assert len(sink.data) == pytest.approx(640_000, abs=200)


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "empty"])
def test_no_recording(tmp_path: Path, kind: str) -> None:
    """The error names the file, whatever is wrong with it."""
    path = tmp_path / f"{kind}.wav"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(b"once upon a time " * 500 if kind == "text" else b"")
    with pytest.raises(AudioError, match=kind):
        list(Recording(path).blocks())
