"""Samples: raw PCM of any rate and encoding becomes 16 kHz mono float32, and a tape keeps what is still needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final as Constant

import numpy as np
import soxr
from numpy.typing import NDArray

from streaming.errors import AudioError
from streaming.protocol import AudioFormat
from streaming.window import SAMPLE_RATE

Samples = NDArray[np.float32]

LEVELS_PER_S: Constant = 100  # of a channel meter
_SAMPLE_BYTES: Constant = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
RAW_ENCODINGS: Constant = frozenset(_SAMPLE_BYTES)


def _mulaw_table() -> Samples:
    """Level of each of the 256 codes, ITU-T G.711 mu-law, full scale 1."""
    code = ~np.arange(256, dtype=np.int64) & 0xFF
    exponent, mantissa = (code >> 4) & 7, code & 15
    magnitude = (((mantissa << 3) + 132) << exponent) - 132
    return (np.where(code & 0x80, -magnitude, magnitude) / 32768).astype(np.float32)


def _alaw_table() -> Samples:
    """Level of each of the 256 codes, ITU-T G.711 A-law, full scale 1."""
    code = np.arange(256, dtype=np.int64) ^ 0x55
    exponent, mantissa = (code >> 4) & 7, code & 15
    magnitude = np.where(
        exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 264) << np.maximum(exponent - 1, 0)
    )
    return (np.where(code & 0x80, magnitude, -magnitude) / 32768).astype(np.float32)


_MULAW, _ALAW = _mulaw_table(), _alaw_table()

_READERS: dict[str, Callable[[bytes], Samples]] = {
    "pcm_s16le": lambda data: np.multiply(
        np.frombuffer(data, "<i2"), np.float32(1 / 32768), dtype=np.float32
    ),
    "pcm_f32le": lambda data: np.clip(np.nan_to_num(np.frombuffer(data, "<f4"), nan=0.0), -1.0, 1.0),
    "mulaw": lambda data: _MULAW[np.frombuffer(data, np.uint8)],
    "alaw": lambda data: _ALAW[np.frombuffer(data, np.uint8)],
}


class PcmDecoder:
    """Raw PCM in messages of any length -> 16 kHz mono float32; nothing depends on where the messages are cut.

    Bytes of an incomplete sample frame wait for the next message. NaN becomes 0, anything beyond -1..1 is clipped.
    """

    def __init__(self, audio: AudioFormat, metered: bool = False) -> None:
        """metered: `levels` of the channels are wanted."""
        if audio.encoding not in RAW_ENCODINGS:
            raise AudioError(f"{audio.encoding} is a container, not raw PCM: decode it first.")
        self._read = _READERS[audio.encoding]
        self._channels = audio.channels
        self._frame_bytes = _SAMPLE_BYTES[audio.encoding] * audio.channels
        self._rest = b""
        self._resampler = None
        if audio.sample_rate != SAMPLE_RATE:
            self._resampler = soxr.ResampleStream(audio.sample_rate, SAMPLE_RATE, 1, dtype="float32")
        self.received = 0  # sample frames taken in, at the declared rate
        self._meter = ChannelMeter(audio.channels, audio.sample_rate) if metered else None

    def decode(self, data: bytes) -> Samples:
        """The samples that are complete with this message: [n] at 16 kHz."""
        data = self._rest + data if self._rest else data
        whole = len(data) - len(data) % self._frame_bytes
        self._rest = bytes(data[whole:])
        samples = self._read(data[:whole] if self._rest else data)
        if self._meter is not None:
            self._meter.receive(samples.reshape(-1, self._channels))
        if self._channels > 1:
            samples = samples.reshape(-1, self._channels).mean(axis=1, dtype=np.float32)
        self.received += len(samples)
        return samples if self._resampler is None else self._resample(samples, last=False)

    @property
    def metered(self) -> bool:
        """The channels' levels are measured."""
        return self._meter is not None

    def levels(self) -> Samples:
        """[hops, channels] since the last call, where they are measured."""
        assert self._meter is not None
        return self._meter.take()

    def flush(self) -> Samples:
        """What the resampler still holds, once no more audio comes; an incomplete sample frame is dropped."""
        self._rest = b""
        if self._resampler is None:
            return np.zeros(0, np.float32)
        return self._resample(np.zeros(0, np.float32), last=True)

    def _resample(self, samples: Samples, last: bool) -> Samples:
        assert self._resampler is not None
        resampled: Samples = self._resampler.resample_chunk(samples, last=last)
        return np.clip(resampled, -1.0, 1.0)  # the filter overshoots at full scale


class ChannelMeter:
    """Samples of several channels -> their mean squares, LEVELS_PER_S times a second.

    Channels that were not announced are left out; those that do not come are silent.
    """

    def __init__(self, channels: int, sample_rate: int) -> None:
        self._channels = channels
        self._hop = sample_rate / LEVELS_PER_S  # may be no whole number, as at 11,025 Hz
        self._rest = np.zeros((0, channels), np.float32)
        self._taken = 0  # hops measured
        self._position = 0  # samples before `_rest`
        self._ready: list[Samples] = []

    def receive(self, samples: Samples) -> None:
        """samples [n, channels] that follow the last ones."""
        samples = samples[:, : self._channels]
        missing = self._channels - samples.shape[1]
        self._rest = np.concatenate([self._rest, np.pad(samples, ((0, 0), (0, missing)))])
        count = int((self._position + len(self._rest)) / self._hop) - self._taken
        if count <= 0:
            return
        edges = (
            np.round(np.arange(self._taken, self._taken + count + 1) * self._hop).astype(int) - self._position
        )
        sums = np.add.reduceat(self._rest[: edges[-1]] ** 2, edges[:-1], axis=0)
        self._ready.append((sums / np.diff(edges)[:, None]).astype(np.float32))
        self._taken += count
        self._position += int(edges[-1])
        self._rest = self._rest[edges[-1] :].copy()

    def take(self) -> Samples:
        """[hops, channels] measured since the last call."""
        ready, self._ready = self._ready, []
        return np.concatenate([np.zeros((0, self._channels), np.float32), *ready])


class Tape:
    """The recent samples of a session, addressed by their index since its first one."""

    def __init__(self, start: int = 0) -> None:
        self.start = start  # index of the oldest sample kept
        self.end = start  # index after the newest
        self._buffer = np.zeros(4 * SAMPLE_RATE, np.float32)

    def append(self, samples: Samples) -> None:
        """Puts samples at the end."""
        held = self.end - self.start
        if held + len(samples) > len(self._buffer):
            grown = np.zeros(2 * (held + len(samples)), np.float32)
            grown[:held] = self._buffer[:held]
            self._buffer = grown
        self._buffer[held : held + len(samples)] = samples
        self.end += len(samples)

    def cut(self, start: int, end: int) -> Samples:
        """A copy of samples[start:end]; both must be on the tape."""
        if not self.start <= start <= end <= self.end:
            raise IndexError(f"{start}:{end} is not on the tape, which holds {self.start}:{self.end}")
        return self._buffer[start - self.start : end - self.start].copy()

    def forget(self, before: int) -> None:
        """Drops everything before an index, and the memory of a long stretch with it."""
        drop = min(before, self.end) - self.start
        if drop <= 0:
            return
        held = self.end - self.start - drop
        if drop < len(self._buffer) // 2 and held:
            return  # moving memory is worth it only when much of it goes
        size = max(4 * SAMPLE_RATE, 2 * held)
        kept = self._buffer[drop : drop + held]
        self._buffer = np.zeros(size, np.float32) if size < len(self._buffer) else self._buffer
        self._buffer[:held] = kept.copy()
        self.start += drop

    def skip(self, samples: int) -> None:
        """Moves the end on over samples that nobody has; what was on the tape is forgotten."""
        self.start = self.end = self.end + samples
