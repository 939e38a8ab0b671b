"""Recordings as a source of audio: any file PyAV reads, sent as if it were spoken now, or faster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streaming.containers import decode_container, duration_of
from streaming.errors import AudioError
from streaming.protocol import AudioFormat
from streaming.window import SAMPLE_RATE

FORMAT = AudioFormat(encoding="pcm_s16le", sample_rate=SAMPLE_RATE, channels=1)
BLOCK_S = 0.05  # audio in one message
_SAMPLE_BYTES = 2


class Sink(Protocol):
    """Where the audio goes: clients.connection.Stream."""

    async def send(self, data: bytes) -> None:
        """Takes pcm_s16le."""


class Recording:
    """A file with sound in it. AudioError, naming the file, when it is missing or no audio."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir():
            raise AudioError(f"{path} is a folder. Name the recordings in it: {path}/*.wav")
        if not path.exists():
            raise AudioError(f"{path} does not exist. Check the name, or list the folder: ls {path.parent}")
        try:
            path.open("rb").close()
        except OSError as error:
            raise AudioError(f"{path} cannot be read: {error.strerror}. Check its permissions.") from error
        self.duration_s = duration_of(path)  # None where the header does not tell

    def blocks(self) -> Iterator[bytes]:
        """Its audio as pcm_s16le, 16 kHz, mono, BLOCK_S at a time. Blocks while it reads and decodes."""
        try:
            with self.path.open("rb") as file:
                for samples in decode_container(file, BLOCK_S):
                    yield to_pcm(samples)
        except AudioError as error:
            raise AudioError(f"{self.path}: {error}") from error


async def play(
    recording: Recording, sink: Sink, speed: float = 1.0, progress: Callable[[float], None] | None = None
) -> float:
    """Sends a recording at `speed` times real time, 0 as fast as the sink takes it; returns its seconds.

    A block goes out when its last sample would have been spoken, as from a microphone. progress: called with
    the seconds sent so far.
    """
    begun = time.monotonic()
    sent_s = 0.0
    blocks = recording.blocks()
    while (block := await asyncio.to_thread(next, blocks, None)) is not None:
        sent_s += len(block) / _SAMPLE_BYTES / SAMPLE_RATE
        if speed > 0:
            await asyncio.sleep(max(0.0, begun + sent_s / speed - time.monotonic()))
        await sink.send(block)
        if progress is not None:
            progress(sent_s)
    return sent_s


def to_pcm(samples: NDArray[np.float32]) -> bytes:
    """float32 [n] in -1..1 as pcm_s16le."""
    return (np.clip(samples, -1.0, 1.0) * 32_767.0).round().astype("<i2").tobytes()
