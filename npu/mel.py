"""Log-mel spectrograms as Whisper was trained on them.

Frames of 25 ms every 10 ms under a periodic Hann window, centred, the audio mirrored at both ends; power through
triangular filters that are evenly spaced on Slaney's mel scale and of equal area; the decimal logarithm, no lower than
8 below the loudest value of the recording, then (x + 4) / 4.
Sources: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022; Slaney, "Auditory
Toolbox", 1998, for scale and filters. A test holds the result equal to transformers' feature extractor.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]

HOP = SAMPLE_RATE // 100  # samples between frames
WIDTH = SAMPLE_RATE // 40  # samples of a frame
_HALF = WIDTH // 2  # samples that a frame reaches to either side of its middle
_FREQUENCIES = WIDTH // 2 + 1
_LEAST = 1e-10  # power, below which there is no sound
_RANGE = 8.0  # decades below the loudest value; what is lower is lifted to it
_CHUNK = 256  # frames transformed at once: they stay in the cache, and bound the memory

_LINEAR_HZ = 200 / 3  # of a mel, up to ...
_BREAK_HZ = 1000.0  # ... where the scale becomes logarithmic
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27  # of a mel above it


def frames_in(samples: int) -> int:
    """Frames of so many samples."""
    return samples // HOP


def log_mel(audio: Array, bins: int, samples: int | None = None) -> Array:
    """audio [n] at 16 kHz, -1..1, padded with silence to `samples` -> [frames_in(samples), bins]."""
    loud = energies(audio, bins, samples)
    return scaled(loud, peak_of(loud))


def energies(audio: Array, bins: int, samples: int | None = None) -> Array:
    """The decimal logarithms before the loudest is known: of audio [n], padded with silence to `samples`.

    Windows of a long recording are slices of this, `scaled` by the peak of it all.
    """
    n = max(len(audio), samples or 0)
    found = np.full((frames_in(n), bins), np.log10(_LEAST), np.float32)
    laid = np.pad(audio, (0, min(n - len(audio), WIDTH)))  # no frame that touches the audio sees further
    if len(laid):
        reached = -(-(len(audio) + _HALF) // HOP)
        part = found[:reached]
        part[:] = _logarithms(np.pad(laid, _HALF, mode="reflect"), len(part), bins)
    return found


def peak_of(loud: Array) -> float:
    """The loudest value of energies [frames, bins]; that of digital silence where there are none."""
    return float(loud.max(initial=np.log10(_LEAST)))


def scaled(loud: Array, peak: float) -> Array:
    """Energies as the model takes them, when the loudest value of the whole recording is `peak`."""
    return np.asarray((np.maximum(loud, np.float32(peak - _RANGE)) + 4) / 4, np.float32)


class MelStream:
    """Log-mel frames as the audio comes, equal to those of the whole.

    They are scaled by the peak given, or, where none is, by the loudest value so far.
    """

    def __init__(self, bins: int, peak: float | None = None) -> None:
        self._bins = bins
        self._given = peak
        self._heard = 0  # samples
        self._emitted = 0  # frames
        self._held = np.zeros(0, np.float32)  # audio from the start of the next frame on
        self.peak = peak_of(np.zeros((0, bins), np.float32))  # the loudest value so far

    def receive_audio(self, audio: Array) -> Array:
        """audio [n] -> [frames, bins], those that no later sample can change."""
        self._held = np.concatenate([self._held, audio])
        before, self._heard = self._heard, self._heard + len(audio)
        if self._heard <= _HALF:
            return self._scaled(0)
        if before <= _HALF:
            self._held = np.pad(self._held, (_HALF, 0), mode="reflect")
        return self._scaled(max(0, (len(self._held) - WIDTH) // HOP + 1))

    def finish(self) -> Array:
        """[frames, bins], those at the end."""
        left = frames_in(self._heard) - self._emitted
        if left:
            ends = (_HALF, _HALF) if self._heard <= _HALF else (0, _HALF)
            self._held = np.pad(self._held, ends, mode="reflect")
        return self._scaled(left)

    def _scaled(self, frames: int) -> Array:
        loud = _logarithms(self._held, frames, self._bins)
        self._held = self._held[frames * HOP :]
        self._emitted += frames
        self.peak = max(self.peak, peak_of(loud))
        return scaled(loud, self.peak if self._given is None else self._given)


def energies_by_definition(audio: Array, bins: int) -> Array:
    """`energies`, one frame after the other, with the transform written out: what the fast form is held to."""
    padded = np.pad(audio.astype(np.float64), _HALF, mode="reflect")
    turn = np.outer(np.arange(_FREQUENCIES), np.arange(WIDTH)) / WIDTH  # whole turns
    transform = np.exp(-2j * np.pi * turn)  # [frequencies, samples]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WIDTH) / WIDTH)
    rows = []
    for t in range(frames_in(len(audio))):
        frame = padded[t * HOP : t * HOP + WIDTH] * window
        power = np.abs(transform @ frame) ** 2
        rows.append(np.log10(np.maximum(power @ filters(bins), _LEAST)))
    return np.array(rows, np.float32).reshape(-1, bins)


@cache
def filters(bins: int) -> NDArray[np.float64]:
    """[frequencies, bins]: triangles between the middles of their neighbours, each of area 1 over hertz."""
    highest = _BREAK_MEL + np.log(SAMPLE_RATE / 2 / _BREAK_HZ) / _LOG_STEP
    mels = np.linspace(0, highest, bins + 2)
    hertz = np.where(
        mels < _BREAK_MEL, mels * _LINEAR_HZ, _BREAK_HZ * np.exp(_LOG_STEP * (mels - _BREAK_MEL))
    )
    left, middle, right = hertz[:-2], hertz[1:-1], hertz[2:]
    at = np.linspace(0, SAMPLE_RATE / 2, _FREQUENCIES)[:, None]
    rising, falling = (at - left) / (middle - left), (right - at) / (right - middle)
    found: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling)) * 2 / (right - left)
    return found


def _logarithms(padded: Array, frames: int, bins: int) -> Array:
    """The first frames of audio that begins where the first of them does -> [frames, bins]."""
    found = np.empty((frames, bins), np.float32)
    matrix = filters(bins).astype(np.float32)
    if frames:
        views = np.lib.stride_tricks.sliding_window_view(padded, WIDTH)[::HOP]
        for at in range(0, frames, _CHUNK):
            part = found[at : at + _CHUNK]
            spectrum = np.fft.rfft(views[at : at + len(part)] * _WINDOW)  # [part, frequencies]
            power = np.square(spectrum.real) + np.square(spectrum.imag)
            part[:] = power.astype(np.float32) @ matrix
        np.log10(np.maximum(found, np.float32(_LEAST), out=found), out=found)
    return found


_WINDOW = 0.5 - 0.5 * np.cos(
    2 * np.pi * np.arange(WIDTH) / WIDTH
)  # float64: the weakest bins are 8 decades down
