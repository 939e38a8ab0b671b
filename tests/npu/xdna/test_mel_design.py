"""Log-mel on the whole array, through the runtime: its oracle bit for bit, and Whisper's features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

import npu.mel
from npu.xdna import mel
from npu.xdna.array import Array as Tiles
from npu.xdna.check import check
from npu.xdna.design import Design, Pattern, Start
from npu.xdna.emulator import KERNEL, Emulator, Package, instructions
from npu.xdna.host_kernels import HostKernels
from npu.xdna.log_mel import LogMel, centred
from npu.xdna.mel_design import MOST_ROUNDS, ROUND, Window, header, matrix, mel_design, stages
from npu.xdna.runtime import Built, Npu

Array = NDArray[np.float32]
Values = NDArray[np.int16]


def features(kernels: HostKernels, window: Window, audio: Array, seed: int = 0) -> Array:
    """[mels, frames], by the runtime and the emulated XRT."""
    design = mel_design(kernels.stacks, (window,))
    xrt = Emulator({"mel.xclbin": Package(design, lambda: kernels)}, seed=seed)
    built = Built(design.name, "mel.xclbin", KERNEL, {window.name: instructions(design, window.name)})
    return LogMel(Npu(xrt), built, window).features(audio)


def oracle(window: Window, audio: Array) -> Array:
    """[mels, frames], with the integers of the kernels."""
    values, doubled = centred(audio, window)
    return mel.features(logarithms(window, values, doubled), doubled).T


def logarithms(window: Window, values: Values, doubled: int) -> Values:
    """[frames, mels], of audio as the array is given it. Powers share a scale in fours, so whole fours are needed."""
    frames = sliding_window_view(values, mel.DEPTH)[:: mel.HOP][: -(-window.frames // 4) * 4]
    real, imaginary = (mel.spectrum(frames, each) for each in mel.fourier())
    found = mel.log_mel(real, imaginary, mel.filters(window.mels), mel.floor_of(doubled))
    return found[: window.frames]


@pytest.mark.parametrize("mels", [80, 128])
def test_limits(kernels: HostKernels, mels: int) -> None:
    """It fits the hardware, with as many rounds as a transfer can have."""
    windows = tuple(Window(rounds * ROUND, mels) for rounds in (1, 12, MOST_ROUNDS))
    assert not check(mel_design(kernels.stacks, windows))


@pytest.mark.parametrize("mels", [80, 128])
def test_speech(kernels: HostKernels, clips: dict[str, Array], mels: int) -> None:
    """One dispatch of 3 s: the oracle's to the last bit, and Whisper's with a correlation of four nines."""
    window, audio = Window(300, mels), clips["two_cities"][: 3 * mel.SAMPLE_RATE]
    found = features(kernels, window, audio, seed=mels)
    assert found.shape == (mels, 300) and found.dtype == np.float32
    assert np.array_equal(found, oracle(window, audio))
    expected = npu.mel.log_mel(audio, mels).T
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] >= 0.9999
    assert np.abs(found - expected).max() < 0.01


def test_padded_window(kernels: HostKernels, clips: dict[str, Array]) -> None:
    """Silence fills it up, as Whisper's context is filled, and what is quiet is as exact as what is loud."""
    audio = clips["beckett"][: 5 * mel.SAMPLE_RATE + 77] * np.float32(0.01)
    found = features(kernels, Window(800, 80), audio)
    expected = npu.mel.log_mel(audio, 80, 8 * mel.SAMPLE_RATE).T
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] >= 0.9999


@pytest.mark.parametrize("samples", [1, 160, 1000, 7 * mel.HOP + 159])
def test_short_window(kernels: HostKernels, clips: dict[str, Array], samples: int) -> None:
    """Fewer frames than one core has: the same, and no others."""
    window, audio = Window(7, 80), clips["beckett"][8000 : 8000 + samples]
    found = features(kernels, window, audio)
    assert found.shape == (80, 7)
    assert np.array_equal(found, oracle(window, audio))
    expected = npu.mel.log_mel(audio, 80, 7 * mel.HOP).T
    assert np.abs(found - expected).max() < 0.02


def test_silence(kernels: HostKernels) -> None:
    """Is as Whisper has it: everything at the least power there is."""
    for audio in (np.zeros(0, np.float32), np.zeros(mel.SAMPLE_RATE, np.float32)):
        found = features(kernels, Window(100, 80), audio)
        assert np.abs(found - npu.mel.log_mel(audio, 80, mel.SAMPLE_RATE).T).max() < 0.001


def test_windows_in_turn(kernels: HostKernels, clips: dict[str, Array]) -> None:
    """On one overlay each is what it is alone: nothing remains of the one before, in any order of work."""
    long, short = Window(260, 80), Window(20, 80)
    design = mel_design(kernels.stacks, (long, short))
    array = Tiles(design, kernels, seed=3)
    for window, gain in ((long, 1), (short, 0.02), (long, 0.1)):
        values, doubled = centred(clips["beckett"][: window.frames * mel.HOP] * np.float32(gain), window)
        found = dispatched(array, window, values, doubled)
        assert np.array_equal(found[: window.frames], logarithms(window, values, doubled))


def dispatched(array: Tiles, window: Window, values: Values, doubled: int) -> Values:
    """[rounds * 256, mels]: all that the array makes."""
    found = np.zeros((window.rounds * ROUND, window.mels), np.int16)
    arguments = {
        "header": header(window, mel.floor_of(doubled)), "matrix": matrix(), "audio": values, "logarithms": found
    }  # fmt: skip
    array.run(window.name, {name: each.view(np.uint8) for name, each in arguments.items()})
    return found


@pytest.mark.parametrize("place", ["shim", "memory"])
def test_wrong_strides(kernels: HostKernels, clips: dict[str, Array], place: str) -> None:
    """Give wrong logarithms, and only in the frames that pass there."""
    window = Window(ROUND, 80)
    values, doubled = centred(clips["beckett"][: ROUND * mel.HOP], window)
    design = mel_design(kernels.stacks, (window,))
    wrong = further_apart(design) if place == "shim" else in_another_order(design)
    found, expected = (
        dispatched(Tiles(each, kernels), window, values, doubled).reshape(16, -1) for each in (wrong, design)
    )
    changed = [core for core in range(16) if not np.array_equal(found[core], expected[core])]
    assert changed == ([4, 5, 6, 7] if place == "shim" else [6])


def further_apart(design: Design) -> Design:
    """The second column's frames 158 samples apart."""
    (sequence,) = design.sequences
    steps = [
        replace(step, pattern=Pattern(step.pattern.sizes, (64, 158, 1), step.pattern.offset))
        if isinstance(step, Start) and step.fifo == "A1"
        else step
        for step in sequence.steps
    ]
    return replace(design, sequences=(replace(sequence, steps=tuple(steps)),))


def in_another_order(design: Design) -> Design:
    """The third core of the second column gets samples in rows of 64."""
    fifos = [replace(each, sent=None) if each.name == "a1_2" else each for each in design.fifos]
    return replace(design, fifos=tuple(fifos))


def test_too_long(kernels: HostKernels) -> None:
    """Is refused, with what there is room for."""
    with pytest.raises(ValueError, match="1600 samples are more than the 9 frames"):
        features(kernels, Window(9, 80), np.zeros(1600, np.float32))
    for frames in (0, MOST_ROUNDS * ROUND + 1):
        with pytest.raises(ValueError, match="part the audio"):
            Window(frames, 80)


def test_stages() -> None:
    """Say what the busiest core does: of 30 s, twelve rounds of 56 products."""
    (stage,) = stages(Window(3000, 80))
    assert stage.calls == {"keep_header": 1, "zero_i32": 24, "gemm_i16": 672, "mel_i16": 12}
