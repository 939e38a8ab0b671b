"""Containers and codecs: webm, ogg, flac, mp3, wav and their like become 16 kHz mono float32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import av
import av.error
import av.logging
import numpy as np
from av.container import InputContainer

from streaming.audio import ChannelMeter, Samples
from streaming.errors import AudioError
from streaming.window import SAMPLE_RATE

# Only formats that hold their audio themselves: a playlist would make the demuxer open other files and URLs.
FORMATS = "aac,aiff,amr,au,caf,flac,matroska,webm,mov,mp4,m4a,3gp,mp3,ogg,wav,w64"
_PROBE_BYTES = 32_768  # read before the format is decided; a live stream cannot wait for the library's 5 MB
_ANALYSE_US = 100_000  # microseconds of audio looked at for the codec's parameters
MAX_BROKEN = 50  # packets in a row that cannot be decoded before the stream is given up
_BUFFER_BYTES = 4_096  # asked of the reader at a time: a live stream is decoded in steps this small

av.logging.set_level(None)  # what the library has to say arrives as exceptions


class Readable(Protocol):
    """Where the bytes come from."""

    def read(self, n: int, /) -> bytes:
        """At most n bytes; blocks until there are some; empty at the end."""


def decode_container(
    readable: Readable, block_s: float = 0.1, meter: ChannelMeter | None = None
) -> Iterator[Samples]:
    """Blocks [block_s * 16000] at 16 kHz mono, the last one shorter; blocks while `readable` does.

    meter: gets the channels, at 16 kHz, before they are mixed.

    AudioError where the bytes are no known container, hold no audio, or turn out to be something else.
    """
    try:
        with av.open(readable, "r", options=_options(), buffer_size=_BUFFER_BYTES) as container:
            yield from in_blocks(mixed(_resampled(container), meter), block_s)
    except av.error.FFmpegError as error:
        raise AudioError(
            f"The audio is not a stream this daemon can read ({reason_of(error)}); "
            "send webm, ogg, flac, mp3 or wav from its first byte, or raw PCM."
        ) from error


def in_blocks(decoded: Iterator[Samples], block_s: float) -> Iterator[Samples]:
    """The same samples, cut anew."""
    size = max(1, round(block_s * SAMPLE_RATE))
    held: list[Samples] = []
    count = 0
    for samples in decoded:
        held.append(samples)
        count += len(samples)
        if count >= size:
            joined = np.concatenate(held)
            whole = count - count % size
            yield from (joined[at : at + size] for at in range(0, whole, size))
            held, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(held)


def duration_of(path: Path) -> float | None:
    """Seconds of audio in a file as its header tells; None where it does not. AudioError if it is no audio."""
    try:
        with av.open(str(path), "r", options=_options()) as container:
            return None if container.duration is None else container.duration / av.time_base
    except (av.error.FFmpegError, OSError) as error:
        raise AudioError(f"{path.name} cannot be read as audio: {reason_of(error)}.") from error


def mixed(decoded: Iterator[Samples], meter: ChannelMeter | None = None) -> Iterator[Samples]:
    """[channels, n] -> [n], the mean of the channels."""
    for planes in decoded:
        if meter is not None:
            meter.receive(planes.T)
        yield planes.mean(axis=0, dtype=np.float32)


def _resampled(container: InputContainer) -> Iterator[Samples]:
    """[channels, n] of every frame of the first audio stream through the library's resampler, whose tail comes last."""
    if not container.streams.audio:
        raise AudioError("The stream has no audio track; send one that has.")
    # Its own mixing to mono would make two equal channels louder by 3 dB, and clip; so the mean is taken here.
    resampler = av.AudioResampler(format="flt", rate=SAMPLE_RATE)
    broken = 0
    for packet in container.demux(container.streams.audio[0]):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError as error:
            broken += 1
            if broken > MAX_BROKEN:
                raise AudioError("The audio has become unreadable; open a fresh stream.") from error
            continue
        broken = 0 if frames else broken
        for frame in frames:
            for block in resampler.resample(frame):
                yield bounded(block)
    for block in resampler.resample(None):
        yield bounded(block)


def bounded(block: av.AudioFrame) -> Samples:
    """The frame's channels, [channels, n] within -1..1; it is packed: of planes the library knows only the first 8."""
    packed: Samples = np.nan_to_num(block.to_ndarray(), nan=0.0)
    return np.clip(packed, -1.0, 1.0).reshape(-1, len(block.layout.channels)).T


def _options() -> dict[str, str]:
    # No `fflags=nobuffer`: it throws away the packets that probing has read.
    return {
        "format_whitelist": FORMATS,
        "probesize": str(_PROBE_BYTES),
        "analyzeduration": str(_ANALYSE_US),
    }


def reason_of(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
