"""Whisper's log-mel features in integers: the matrices and tables that the kernels are given, and their oracle.

Frames of 400 samples, 160 apart, a Hann window, 80 triangular filters on Slaney's scale with an area of one each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil, log2

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from npu.xdna.oracle import TILE, round_even, saturate

SAMPLE_RATE = 16_000
WINDOW, HOP = 400, 160  # samples
BINS = WINDOW // 2 + 1
DEPTH = ceil(WINDOW / TILE) * TILE  # samples of a frame, with zeros up to whole tiles
WIDTH = ceil(BINS / TILE) * TILE  # bins, likewise
FRAMES = 16  # what the kernels do at a time

MATRIX_BITS = 15  # fraction bits of samples, and of the matrix
SPECTRUM_BITS, WEIGHT_BITS, LOG_BITS = 22, 20, 9
SHIFT = 2 * MATRIX_BITS - SPECTRUM_BITS
_LOG_STEPS = 8
_LEAST = 1e-10  # power, the least that Whisper knows
LOGARITHMS = np.round(np.log2(1 + np.arange(257) / 256) * (1 << LOG_BITS)).astype(np.int16)

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Filters:
    """The bins that filters see, and how much of them."""

    first: NDArray[np.int32]  # [mels]
    count: NDArray[np.int32]  # [mels]
    weights: NDArray[np.int32]  # [sum of counts], 20 fraction bits


@cache
def fourier() -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """[448, 256] twice: cosines and sines times the window, 15 fraction bits; zero beyond 400 samples, 201 bins."""
    n = np.arange(WINDOW)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / WINDOW)
    angle = 2 * np.pi * n[:, None] * np.arange(BINS) / WINDOW
    found = []
    for wave in (np.cos(angle), np.sin(angle)):
        fixed = np.clip(np.round(window[:, None] * wave * (1 << MATRIX_BITS)), -(1 << 15), (1 << 15) - 1)
        found.append(np.pad(fixed.astype(np.int16), ((0, DEPTH - WINDOW), (0, WIDTH - BINS))))
    return found[0], found[1]


def mel_weights(mels: int = 80) -> NDArray[np.float64]:
    """[mels, bins]: triangles between points that are evenly apart on Slaney's scale, each with an area of one."""
    step = np.log(6.4) / 27  # above 1 kHz the scale is logarithmic

    def hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(step * (mel - 15)))

    edges = hertz(np.linspace(0, 15 + np.log(SAMPLE_RATE / 2 / 1000) / step, mels + 2))
    bins = np.arange(BINS) * SAMPLE_RATE / WINDOW
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(triangles * (2 / (edges[2:] - edges[:-2]))[:, None], np.float64)


@cache
def filters(mels: int = 80) -> Filters:
    """As `mel_i16` wants them."""
    fixed = np.round(mel_weights(mels) * (1 << WEIGHT_BITS)).astype(np.int32)
    spans = [np.flatnonzero(row) for row in fixed]
    first = np.array([span[0] if len(span) else 0 for span in spans], np.int32)
    count = np.array([span[-1] - span[0] + 1 if len(span) else 0 for span in spans], np.int32)
    used = [row[start : start + n] for row, start, n in zip(fixed, first, count, strict=True)]
    return Filters(first, count, np.concatenate(used))


def spectrum(frames: NDArray[np.int16], matrix: NDArray[np.int16]) -> Ints:
    """[frames, 448] times [448, 256], rounded after every 64 samples, 22 fraction bits."""
    total = np.zeros((len(frames), matrix.shape[1]), np.int64)
    for at in range(0, DEPTH, TILE):
        part = frames[:, at : at + TILE].astype(np.int64) @ matrix[at : at + TILE].astype(np.int64)
        total = saturate(round_even((total << SHIFT) + part, SHIFT), 32)
    return total


def log_mel(real: Ints, imaginary: Ints, used: Filters, floor: int) -> NDArray[np.int16]:
    """Spectra [frames, 256], a multiple of 4 frames -> log2 of the power in each filter [frames, mels]."""
    out = np.zeros((len(real), len(used.first)), np.int16)
    ends = np.cumsum(used.count)
    for group in range(0, len(real), 4):
        re, im = real[group : group + 4], imaginary[group : group + 4]
        most = int(max(np.abs(re).max(), np.abs(im).max()))
        shift = max(2 * most.bit_length() + 1 - 31, 0)
        power = saturate(round_even(re * re + im * im, shift), 32)
        down = 2 * SPECTRUM_BITS + WEIGHT_BITS - shift
        for mel, (first, count, end) in enumerate(zip(used.first, used.count, ends, strict=True)):
            totals = power[:, first : first + count] @ used.weights[end - count : end].astype(np.int64)
            out[group : group + 4, mel] = [_logarithm(int(total), down, floor) for total in totals]
    return out


def _logarithm(value: int, down: int, floor: int) -> int:
    if not value:
        return floor
    top = value.bit_length() - 1
    fraction = (value >> (top - 16) if top > 16 else value << (16 - top)) & 0xFFFF
    i, rest = fraction >> _LOG_STEPS, fraction & ((1 << _LOG_STEPS) - 1)
    low, high = int(LOGARITHMS[i]), int(LOGARITHMS[i + 1])
    between = low + int(round_even(np.array((high - low) * rest), _LOG_STEPS))
    return max(floor, ((top - down) << LOG_BITS) + between)


def logarithms(samples: NDArray[np.int16], frames: int, mels: int, floor: int) -> NDArray[np.int16]:
    """Samples from the first frame's on -> [frames, mels]: what the kernels make of them one after the other.

    Four frames share a scale, so there are samples for whole fours.
    """
    rows = sliding_window_view(samples, DEPTH)[::HOP][: ceil(frames / 4) * 4]
    real, imaginary = (spectrum(rows, each) for each in fourier())
    return log_mel(real, imaginary, filters(mels), floor)[:frames]


def fixed(audio: NDArray[np.float32]) -> tuple[NDArray[np.int16], int]:
    """Audio in 16 bits, and how often it was doubled to fill them: what is quiet must not be lost in rounding."""
    most = float(np.abs(audio).max(initial=2.0**-MATRIX_BITS))
    doubled = min(-int(np.frexp(most)[1]), MATRIX_BITS)
    scaled = np.round(audio * 2.0 ** (MATRIX_BITS + doubled))
    return np.clip(scaled, -(1 << 15), (1 << 15) - 1).astype(np.int16), doubled


def floor_of(doubled: int) -> int:
    """The least power Whisper knows, of audio that was doubled so often: the argument `floor` of `mel_i16`."""
    return round((log2(_LEAST) + 2 * doubled) * (1 << LOG_BITS))


def features(logarithms: NDArray[np.int16], doubled: int) -> NDArray[np.float32]:
    """Whisper's: decimal logarithms, at most 8 below the largest of the window, shifted and scaled."""
    decimal = (logarithms / (1 << LOG_BITS) - 2 * doubled) * np.log10(2)
    return np.asarray((np.maximum(decimal, decimal.max() - 8) + 4) / 4, np.float32)
