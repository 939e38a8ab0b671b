"""Log-mel features by the kernels: as their oracle bit for bit, and as Whisper's on speech."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from npu.xdna import mel
from npu.xdna.host_kernels import HostKernels
from npu.xdna.oracle import TILE, blocked, unblocked

Values = NDArray[Any]


def by_kernels(kernels: HostKernels, frames: NDArray[np.int16], floor: int) -> NDArray[np.int16]:
    """[16 n, 448] -> [16 n, 80]."""
    used = mel.filters()
    found = []
    for at in range(0, len(frames), mel.FRAMES):
        spectra = [transformed(kernels, frames[at : at + mel.FRAMES], each) for each in mel.fourier()]
        out = np.zeros((mel.FRAMES, len(used.first)), np.int16)
        tables = (used.first, used.count, used.weights, mel.LOGARITHMS, out)
        kernels.call("mel_i16", [*(each.view(np.uint8) for each in (*spectra, *tables)), 80, floor])
        found.append(out)
    return np.concatenate(found)


def transformed(kernels: HostKernels, frames: Values, matrix: Values) -> NDArray[np.int32]:
    """[16, 448] times [448, 256] -> [4][4][16][4][4]."""
    c = np.zeros((mel.WIDTH // TILE, 4, 16, 4, 4), np.int32)
    for tile in range(len(c)):
        for k in range(0, mel.DEPTH, TILE):
            a = blocked(frames[:, k : k + TILE], 4, 4)
            b = blocked(matrix[k : k + TILE, tile * TILE : tile * TILE + TILE], 4, 4)
            kernels.call("gemm_i16", [*(each.view(np.uint8) for each in (a, b, c)), tile, mel.SHIFT])
    return c


@pytest.mark.parametrize("kind", ["random", "extreme", "quiet", "silent"])
def test_oracle(kernels: HostKernels, kind: str) -> None:
    """Every step in integers."""
    random = np.random.default_rng(1)
    frames = random.integers(-(2**15), 2**15, (mel.FRAMES, mel.DEPTH), np.int16)
    if kind == "extreme":
        frames = random.choice(np.array([-(2**15), 2**15 - 1], np.int16), frames.shape)
        frames[0] = np.where(mel.fourier()[0][:, 5] < 0, -(2**15), 2**15 - 1)
    elif kind != "random":
        frames >>= 14 if kind == "quiet" else 15
        frames[frames < 0] = 0
    real, imaginary = (mel.spectrum(frames, each) for each in mel.fourier())
    for each, expected in zip(mel.fourier(), (real, imaginary), strict=True):
        found = transformed(kernels, frames, each)
        assert np.array_equal(np.concatenate([unblocked(tile) for tile in found], axis=1), expected)
    for doubled in (0, 9):
        floor = mel.floor_of(doubled)
        expected = mel.log_mel(real, imaginary, mel.filters(), floor)
        assert np.array_equal(by_kernels(kernels, frames, floor), expected)


@pytest.mark.parametrize("gain", [1.0, 0.01])
def test_speech(kernels: HostKernels, clips: dict[str, NDArray[np.float32]], gain: float) -> None:
    """Correlates with Whisper's features in double precision, loud and quiet, to four nines."""
    audio = clips["two_cities"][: 3 * mel.SAMPLE_RATE] * gain
    frames = sliding_window_view(np.pad(audio, mel.WINDOW // 2, "reflect"), mel.WINDOW)[:: mel.HOP][:-1]
    frames = frames[: len(frames) // mel.FRAMES * mel.FRAMES]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(mel.WINDOW) / mel.WINDOW)
    power = np.abs(np.fft.rfft(frames.astype(np.float64) * window)) ** 2 @ mel.mel_weights().T
    decimal = np.log10(np.maximum(power, 1e-10))
    expected = (np.maximum(decimal, decimal.max() - 8) + 4) / 4
    fixed, doubled = mel.fixed(frames)
    padded = np.pad(fixed, ((0, 0), (0, mel.DEPTH - mel.WINDOW)))
    found = mel.features(by_kernels(kernels, padded, mel.floor_of(doubled)), doubled)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] >= 0.9999
    assert np.abs(found - expected).max() < 0.01
