"""Encoded audio (WebM, Ogg, FLAC, MP3, WAV ...) becomes 16 kHz mono float32. The one module that imports PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import av
import numpy as np

from streaming.audio import Samples
from streaming.errors import AudioError
from streaming.window import SAMPLE_RATE


class Readable(Protocol):
    """Where a container's bytes come from: a file, or a pipe that blocks until there are some."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; none at the end."""


def decode_container(readable: Readable, block_s: float = 0.1) -> Iterator[Samples]:
    """Blocks of about block_s seconds, as the bytes arrive. AudioError where they are no audio."""
    try:
        with av.open(readable, "r") as container:
            if not container.streams.audio:
                raise AudioError("The file holds no audio stream.")
            resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE, round(block_s * SAMPLE_RATE))
            for frame in container.decode(container.streams.audio[0]):
                frame.pts = None  # a live recording's time stamps may jump; samples count time here
                yield from _samples(resampler.resample(frame))
            yield from _samples(resampler.resample(None))
    except av.FFmpegError as error:
        raise AudioError(
            f"The audio cannot be decoded ({error.strerror}): is it what it was declared to be?"
        ) from error


def duration_of(path: Path) -> float | None:
    """Seconds of audio in a file as its header tells, None where it does not."""
    try:
        with av.open(str(path)) as container:
            return None if container.duration is None else container.duration / av.time_base
    except av.FFmpegError as error:
        raise AudioError(f"{path} cannot be read as audio ({error.strerror}).") from error


def _samples(frames: list[av.AudioFrame]) -> Iterator[Samples]:
    for frame in frames:
        block = np.clip(np.nan_to_num(frame.to_ndarray().reshape(-1)), -1.0, 1.0)
        if len(block):
            yield block.astype(np.float32)
