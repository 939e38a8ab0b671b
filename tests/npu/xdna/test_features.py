"""Whisper's features on the overlay: kernels and stages as their oracle, and close to `npu.mel`."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.mel import HOP, WIDTH, log_mel
from npu.xdna.array import Array
from npu.xdna.check import check
from npu.xdna.composition import Constants
from npu.xdna.cost import KERNELS
from npu.xdna.counts import disagreements
from npu.xdna.features import HOP_VALUES, ROWS_BEHIND, FeatureComposer, heard
from npu.xdna.gemm import TILE
from npu.xdna.host_kernels import HostKernels
from npu.xdna.oracle import blocked, from_bf16, to_bf16, unblocked
from npu.xdna.oracle_mel import ABOVE, lifted, log_mel_bf16, logarithm, squared
from npu.xdna.overlay import DEPTH, overlay
from npu.xdna.regions import Region
from streaming.window import SAMPLE_RATE

Audio = NDArray[np.float32]
Values = NDArray[np.generic]
SECOND = SAMPLE_RATE // HOP  # frames


def ask(kernels: HostKernels, name: str, *arguments: Values | int) -> None:
    kernels.call(name, [each if isinstance(each, int) else each.view(np.uint8) for each in arguments])


def correlation(found: Values, expected: Values) -> float:
    return float(np.corrcoef(found.ravel(), expected.ravel())[0, 1])


def spread(low: float, high: float) -> NDArray[np.float32]:
    """[64, 64]: numbers over many powers of ten, shuffled."""
    values = np.geomspace(low, high, TILE * TILE).astype(np.float32)
    return np.random.default_rng(1).permutation(values).reshape(TILE, TILE)


def test_squares(kernels: HostKernels) -> None:
    """Are those of floats, not of what bf16 has of them."""
    x = spread(1e-12, 1e4)
    found = x.copy()
    ask(kernels, "square_f32", found)
    assert np.array_equal(found, squared(x))
    assert np.allclose(found, x.astype(np.float64) ** 2, rtol=2**-15, atol=0)


@pytest.mark.parametrize("rows", [0, 1, 6, 64, 200])
def test_logarithms(kernels: HostKernels, rows: int) -> None:
    """Are exact to a thousandth of a decade, zero among them; the loudest is sought in the rows that count."""
    x = spread(1e-14, 1e6)
    x[0, :3] = 0, 1e-10, 1
    kept, peak, sums = np.zeros(128, np.int32), np.array([1.5, 0], np.float32), blocked(x, 4, 4)
    kept[6] = rows
    ask(kernels, "logarithm_f32", sums, kept, peak)
    above = logarithm(x)
    assert np.array_equal(unblocked(sums), above - ABOVE)
    assert peak[0] == max(1.5, above[:rows].max(initial=0))
    exact = (np.log10(np.maximum(x.astype(np.float64), 1e-10)) + 4) / 4
    assert np.abs(unblocked(sums) - exact).max() < 1e-3 / 4
    kept[7] = 1
    ask(kernels, "logarithm_f32", blocked(x, 4, 4), kept, peak)
    assert peak[0] == above[:rows].max(initial=0)


@pytest.mark.parametrize("rows", [0, 5, 64])
def test_lifting(kernels: HostKernels, rows: int) -> None:
    """Two below the loudest of sixteen cores, and nothing behind the rows that count."""
    y = to_bf16(np.random.default_rng(1).uniform(-1.5, 1.9, (TILE, TILE)))
    partials, peak = np.zeros((16, 2 * TILE), np.uint16), np.zeros(2, np.float32)
    for core, found in enumerate(np.random.default_rng(2).permutation(np.linspace(0, 3.5, 16))):
        partials[core, :2] = np.array([found], np.float32).view(np.uint16)
    ask(kernels, "loudest_f32", partials, peak)
    assert peak[0] == 3.5
    kept, out = np.zeros(128, np.int32), np.zeros((16, 16, 4, 4), np.uint16)
    kept[4] = rows
    for half in range(2):
        tile = blocked(y[:, half * DEPTH : (half + 1) * DEPTH], 4, 8)
        ask(kernels, "lift_bf16", tile, kept, peak, out, half)
    found = from_bf16(unblocked(out))
    assert np.array_equal(found[:rows], from_bf16(lifted(y, peak[0]))[:rows])
    assert not found[rows:].any()
    assert np.abs(found - np.maximum(from_bf16(y), -0.5))[:rows].max(initial=0) < 1e-6


class Bench:
    """Features for so many frames at most, on the emulated array, whose memory is used again."""

    def __init__(self, kernels: HostKernels, most: int, mels: int) -> None:
        self._constants = Constants()
        self.composer = FeatureComposer(self._constants)
        self.composer.unit("all")
        self._samples = self.composer.input(most + ROWS_BEHIND, HOP_VALUES)
        self._out: Region = self.composer.region(most, mels)
        self.composer.log_mel(self._samples, mels, self._out, lambda lengths: lengths["frames"])
        self.sequence = self.composer.sequence("all", self.composer.units, self.composer.work)
        self.design = overlay(kernels.stacks, (self.sequence,))
        self._array = Array(self.design, kernels)
        self._work = np.zeros(self.composer.work, np.uint16)

    def features(self, audio: Audio, frames: int) -> NDArray[np.uint16]:
        """The whole region."""
        samples = np.zeros(self._samples.rows * HOP_VALUES, np.uint16)
        laid = heard(audio, frames)
        samples[: len(laid)] = laid
        self._work[self._samples.offset : self._samples.offset + len(samples)] = samples
        self._array.run("all", self.memory(frames))
        end = self._out.offset + self._out.rows * self._out.width
        return self._work[self._out.offset : end].reshape(-1, self._out.width)

    def memory(self, frames: int) -> dict[str, NDArray[np.uint8]]:
        parts = {
            "constants": self._constants.laid(),
            "headers": self.composer.headers({"frames": frames}),
            "work": self._work,
        }
        return {name: each.view(np.uint8) for name, each in parts.items()}


@pytest.mark.parametrize("mels", [80, 128])
def test_speech(kernels: HostKernels, clips: dict[str, Audio], mels: int) -> None:
    """Is the oracle's bit for bit and Whisper's with four nines, loud and quiet in turn, long and short."""
    bench = Bench(kernels, 3 * SECOND, mels)
    for name, gain, frames in (("two_cities", 1, 3 * SECOND), ("beckett", 0.003, SECOND + 6)):
        audio = clips[name][2 * SAMPLE_RATE :][: frames * HOP] * np.float32(gain)
        found = bench.features(audio, frames)
        assert np.array_equal(found[:frames, :mels], log_mel_bf16(heard(audio, frames), frames, mels))
        assert not from_bf16(found[frames:]).any()
        expected = log_mel(audio, mels)
        features = from_bf16(found[:frames, :mels])
        assert correlation(features, expected) >= 0.9999
        assert np.abs(features - expected).max() < 0.006


@pytest.mark.parametrize("samples", [0, 1, 1000, 7 * HOP])
def test_short_audio(portable: HostKernels, clips: dict[str, Audio], samples: int) -> None:
    """Is followed by silence; where nothing is heard, everything is as low as can be."""
    audio = clips["beckett"][8000 : 8000 + samples]
    found = from_bf16(Bench(portable, 8, 80).features(audio, 8)[:8, :80])
    assert np.abs(found - log_mel(audio, 80, 8 * HOP)).max() < 0.006


def test_what_is_heard() -> None:
    """Of 16-bit samples nothing is lost, and both ends are mirrored."""
    audio = np.random.default_rng(1).integers(-(1 << 15), 1 << 15, 3 * HOP).astype(np.float32) / (1 << 15)
    parts = from_bf16(heard(audio, 3)).reshape(-1, 3, 80)
    assert np.array_equal(parts[:, 0], parts[:, 2])
    mirrored = np.pad(audio, WIDTH // 2, mode="reflect")[: 2 * HOP + WIDTH]
    assert np.array_equal((parts[:, 0] + parts[:, 1]).ravel(), mirrored)


def test_limits_and_counts(portable: HostKernels) -> None:
    """It fits the hardware, and says how often its kernels are called, over more than one span of rows."""
    bench = Bench(portable, 3 * SECOND, 128)
    assert not check(bench.design)
    assert {function.name for function in bench.design.functions} <= set(KERNELS)
    stages = bench.composer.units["all"]
    assert not disagreements(bench.design, bench.sequence, stages, bench.memory(3 * SECOND), portable)
