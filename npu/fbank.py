"""Log-mel energies as Kaldi computes them: the spectrogram that the voiceprint network was trained on.

Options: Hamming window, 80 bins from 20 Hz to the Nyquist frequency, no dither, snipped edges, samples as 16-bit
integers. Reference: kaldi-asr.org, `compute-fbank-feats`; a test holds the two equal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]

HOP = SAMPLE_RATE // 100  # samples between frames
WIDTH = SAMPLE_RATE // 40  # samples of a frame
BINS = 80
_LOWEST_HZ = 20.0
_PRE_EMPHASIS = 0.97
_FULL_SCALE = 32768.0  # Kaldi reads 16-bit integers
_FFT = 1 << (WIDTH - 1).bit_length()


def frames_in(samples: int) -> int:
    """Whole frames in so many samples."""
    return max(0, (samples - WIDTH) // HOP + 1)


def log_mel(audio: Array) -> Array:
    """audio [n] at 16 kHz, -1..1 -> [frames_in(n), BINS], natural logarithms of energy."""
    if len(audio) < WIDTH:
        return np.zeros((0, BINS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(audio, WIDTH)[::HOP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    emphasised = np.empty_like(frames)
    emphasised[:, 1:] = frames[:, 1:] - _PRE_EMPHASIS * frames[:, :-1]
    emphasised[:, 0] = (1 - _PRE_EMPHASIS) * frames[:, 0]  # the first sample stands for the one before it
    spectrum = np.fft.rfft(emphasised * _WINDOW, _FFT)[:, :-1]  # the Nyquist bin belongs to no filter
    energy = (np.square(spectrum.real) + np.square(spectrum.imag)) @ _FILTERS
    return np.log(np.maximum(energy, np.finfo(np.float32).eps), dtype=np.float32)


def _mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    scale: NDArray[np.float64] = 1127.0 * np.log1p(hertz / 700.0)
    return scale


def _filters() -> Array:
    """[_FFT / 2, BINS]: triangles, equally wide on the mel scale."""
    lowest, highest = _mel(np.array([_LOWEST_HZ, SAMPLE_RATE / 2])).tolist()
    edges = np.linspace(lowest, highest, BINS + 2)
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    at = _mel(np.arange(_FFT // 2) * SAMPLE_RATE / _FFT)[:, None]
    rising, falling = (at - left) / (middle - left), (right - at) / (right - middle)
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)), np.float32)


_FILTERS = _filters()
_WINDOW = (_FULL_SCALE * np.hamming(WIDTH)).astype(np.float32)
