"""Log-mel on the whole array: it fits, it is the oracle's bit for bit, and its patterns matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.xdna import mel
from npu.xdna.array import Array
from npu.xdna.check import check
from npu.xdna.design import Design, Pattern, Start
from npu.xdna.host_kernels import HostKernels
from npu.xdna.log_mel import centred
from npu.xdna.mel_design import COLUMN, MOST_ROUNDS, ROUND, Window, header, matrix, mel_design, stages

Values = NDArray[np.int16]
Audio = NDArray[np.float32]


def dispatched(array: Array, window: Window, samples: Values, floor: int) -> Values:
    """[rounds * 256, mels]: all that the array makes."""
    found = np.zeros((window.rounds * ROUND, window.mels), np.int16)
    arguments = {"header": header(window, floor), "matrix": matrix(), "audio": samples, "logarithms": found}
    array.run(window.name, {name: each.view(np.uint8) for name, each in arguments.items()})
    return found


@pytest.mark.parametrize("mels", [80, 128])
def test_limits(kernels: HostKernels, mels: int) -> None:
    """It fits the hardware, with as many rounds as a transfer can have."""
    windows = tuple(Window(rounds * ROUND, mels) for rounds in (1, 12, MOST_ROUNDS))
    assert not check(mel_design(kernels.stacks, windows))


@pytest.mark.parametrize("seed", range(2))
def test_windows_in_turn(kernels: HostKernels, clips: dict[str, Audio], seed: int) -> None:
    """On one overlay each is what it is alone: nothing remains of the one before, whoever works first."""
    long, short = Window(260, 80), Window(20, 80)
    array = Array(mel_design(kernels.stacks, (long, short)), kernels, seed=seed)
    for window, gain in ((long, 1), (short, 0.02), (long, 0.1)):
        samples, doubled = centred(clips["beckett"][: window.frames * mel.HOP] * np.float32(gain), window)
        floor = mel.floor_of(doubled)
        found = dispatched(array, window, samples, floor)[: window.frames]
        assert np.array_equal(found, mel.logarithms(samples, window.frames, 80, floor))


@pytest.mark.parametrize(("place", "wrong"), [("shim", [4, 5, 6, 7]), ("memory", [6])])
def test_wrong_strides(kernels: HostKernels, clips: dict[str, Audio], place: str, wrong: list[int]) -> None:
    """Give wrong logarithms, in those frames that pass there and in no others."""
    window = Window(ROUND, 80)
    samples, _ = centred(clips["beckett"][: ROUND * mel.HOP], window)
    design = mel_design(kernels.stacks, (window,))
    broken = further_apart(design) if place == "shim" else in_rows(design)
    found, expected = (
        dispatched(Array(each, kernels), window, samples, mel.floor_of(0)).reshape(16, -1)
        for each in (broken, design)
    )
    assert [core for core in range(16) if not np.array_equal(found[core], expected[core])] == wrong


def further_apart(design: Design) -> Design:
    """The second column's frames are 162 samples apart."""
    (sequence,) = design.sequences
    steps = [
        replace(step, pattern=Pattern((7, COLUMN, 64), (64, 162, 1), step.pattern.offset))
        if isinstance(step, Start) and step.fifo == "A1"
        else step
        for step in sequence.steps
    ]
    return replace(design, sequences=(replace(sequence, steps=tuple(steps)),))


def in_rows(design: Design) -> Design:
    """The third core of the second column gets rows of 64 samples."""
    fifos = [replace(each, sent=None) if each.name == "a1_2" else each for each in design.fifos]
    return replace(design, fifos=tuple(fifos))


@pytest.mark.parametrize("frames", [0, MOST_ROUNDS * ROUND + 1])
def test_windows_of_another_length(frames: int) -> None:
    """Are refused, with what to do."""
    with pytest.raises(ValueError, match="part the audio"):
        Window(frames, 80)


def test_stages() -> None:
    """Of 30 s there are twelve rounds, with 56 products on every core."""
    (stage,) = stages(Window(3000, 80))
    assert stage.calls == {"keep_header": 1, "zero_i32": 24, "gemm_i16": 672, "mel_i16": 12}
