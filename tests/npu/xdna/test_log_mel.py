"""Features by the runtime over the emulated XRT: the oracle's bit for bit, and Whisper's."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.mel import log_mel
from npu.xdna import mel
from npu.xdna.emulator import KERNEL, Emulator, Fault, Faults, Package, instructions
from npu.xdna.failures import NpuUnavailable
from npu.xdna.host_kernels import HostKernels
from npu.xdna.log_mel import LogMel, centred
from npu.xdna.mel_design import Window, mel_design
from npu.xdna.runtime import Built, Npu

Array = NDArray[np.float32]


def opened(kernels: HostKernels, window: Window, faults: Faults | None = None, seed: int = 0) -> LogMel:
    """On an emulated NPU of its own."""
    design = mel_design(kernels.stacks, (window,))
    xrt = Emulator({"mel.xclbin": Package(design, lambda: kernels)}, faults, seed)
    built = Built(design.name, "mel.xclbin", KERNEL, {window.name: instructions(design, window.name)})
    return LogMel(Npu(xrt), built, window)


def oracle(window: Window, audio: Array) -> Array:
    """[frames, mels], with the integers of the kernels."""
    samples, doubled = centred(audio, window)
    found = mel.logarithms(samples, window.frames, window.mels, mel.floor_of(doubled))
    return mel.features(found, doubled)


def correlation(found: Array, expected: Array) -> float:
    """Of all values."""
    return float(np.corrcoef(found.ravel(), expected.ravel())[0, 1])


@pytest.mark.parametrize("mels", [80, 128])
def test_speech(kernels: HostKernels, clips: dict[str, Array], mels: int) -> None:
    """Three seconds are the oracle's to the last bit, and Whisper's with a correlation of four nines."""
    window, audio = Window(300, mels), clips["two_cities"][: 3 * mel.SAMPLE_RATE]
    found = opened(kernels, window, seed=mels).features(audio)
    assert found.shape == (300, mels) and found.dtype == np.float32
    assert np.array_equal(found, oracle(window, audio))
    expected = log_mel(audio, mels)
    assert correlation(found, expected) >= 0.9999
    assert np.abs(found - expected).max() < 0.01


def test_context(kernels: HostKernels, clips: dict[str, Array]) -> None:
    """Thirty seconds, filled up with silence as Whisper's are, one after the other, loud and quiet."""
    seconds = 30
    by_npu = opened(kernels, Window(seconds * 100, 80))
    for name, gain in (("endgame_nagg_nell", 1), ("beckett", 0.003)):
        audio = clips[name] * np.float32(gain)
        expected = log_mel(audio, 80, seconds * mel.SAMPLE_RATE)
        assert correlation(by_npu.features(audio), expected) >= 0.9999


@pytest.mark.parametrize("samples", [1, 160, 1000, 7 * mel.HOP + 159])
def test_short_window(kernels: HostKernels, clips: dict[str, Array], samples: int) -> None:
    """With fewer frames than one core has there are these, and no others."""
    window, audio = Window(7, 80), clips["beckett"][8000 : 8000 + samples]
    found = opened(kernels, window).features(audio)
    assert found.shape == (7, 80)
    assert np.array_equal(found, oracle(window, audio))
    assert np.abs(found - log_mel(audio, 80, 7 * mel.HOP)).max() < 0.02


@pytest.mark.parametrize("samples", [0, mel.SAMPLE_RATE])
def test_silence(kernels: HostKernels, samples: int) -> None:
    """Has the least power there is, everywhere."""
    found = opened(kernels, Window(100, 80)).features(np.zeros(samples, np.float32))
    expected = log_mel(np.zeros(mel.SAMPLE_RATE, np.float32), 80)
    assert np.ptp(found) == 0
    assert np.abs(found - expected).max() < 0.001


def test_too_long(kernels: HostKernels) -> None:
    """Is refused, with what there is room for."""
    with pytest.raises(ValueError, match="1600 samples are more than the 9 frames"):
        opened(kernels, Window(9, 80)).features(np.zeros(1600, np.float32))


def test_failure(kernels: HostKernels, clips: dict[str, Array]) -> None:
    """The NPU is tried once more, then it is unavailable."""
    window, audio = Window(20, 80), clips["beckett"][:3200]
    once = opened(kernels, window, Faults({Fault.TIMEOUT: 1})).features(audio)
    assert np.array_equal(once, oracle(window, audio))
    with pytest.raises(NpuUnavailable, match="did not end"):
        opened(kernels, window, Faults({Fault.TIMEOUT: None})).features(audio)
