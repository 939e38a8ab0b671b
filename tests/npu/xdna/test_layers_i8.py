"""An encoder's layers in 8 bits through the runtime and the emulated XRT: the fast path's numbers, on real speech."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.checkpoint import Checkpoint
from npu.moonshine import TINY
from npu.weights import Weights
from npu.whisper import architecture_of
from npu.whisper_weights import WhisperWeights
from npu.xdna.check import check
from npu.xdna.emulated import emulated
from npu.xdna.encoder_i8 import Fixed, fixed, in_float, numpy_encoder
from npu.xdna.float_encoder import FloatEncoder, in_bf16, of_whisper
from npu.xdna.host_kernels import HostKernels
from npu.xdna.layers_i8 import Layers, LayersDesign
from npu.xdna.mixed_encoder import MixedDesign, MixedEncoder
from npu.xdna.packages import Source
from npu.xdna.quant import QuantisedEncoder, quantise
from streaming.containers import decode_container
from streaming.errors import ModelError
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]

FIXTURES = Path(__file__).parents[2] / "fixtures"


def opened(kernels: HostKernels, design: LayersDesign, seed: int = 0) -> Layers:
    npu, (built,) = emulated(kernels, design.design(kernels.stacks), seed=seed)
    return Layers(npu, built, design)


def mixed(kernels: HostKernels, design: MixedDesign) -> MixedEncoder:
    """Both designs on one NPU."""
    designs = (each.design(kernels.stacks) for each in (design.convolutions, design.layers))
    npu, (stem, layers) = emulated(kernels, *designs)
    return design.on(npu, stem, layers)


def cosine(x: Array, y: Array) -> float:
    return float(np.sum(x * y) / np.linalg.norm(x) / np.linalg.norm(y))


@pytest.fixture(scope="module")
def kernels(portable: HostKernels) -> HostKernels:
    """Of one path."""
    return portable


@pytest.fixture(scope="session")
def design(quantised: QuantisedEncoder) -> LayersDesign:
    return LayersDesign(quantised, (1, 2))


@pytest.fixture(scope="session")
def frames(moonshine: FloatEncoder, quantised: QuantisedEncoder, spoken: Array) -> Fixed:
    """What the first layer sees, [125, width]."""
    return numpy_encoder(quantised).frames(moonshine.sound(spoken, in_bf16))


@pytest.mark.parametrize("seed", range(2))
def test_moonshine(
    kernels: HostKernels, design: LayersDesign, moonshine: FloatEncoder, quantised: QuantisedEncoder,
    spoken: Array, seed: int,
) -> None:  # fmt: skip
    """Six layers and the last norm in one dispatch: states and scales are the same numbers, and near float32's."""
    sound = moonshine.sound(spoken, in_bf16)
    layers, fast = opened(kernels, design, seed), numpy_encoder(quantised)
    rows = layers.states(fast.frames(sound))
    for found, expected in zip(rows, fast.states(sound), strict=True):
        assert np.array_equal(found, expected)
    assert cosine(in_float(rows, quantised.last), moonshine.states(spoken)) > 0.999


def test_the_whole_encoder(
    kernels: HostKernels,
    weights: Weights,
    moonshine: FloatEncoder,
    quantised: QuantisedEncoder,
    clips: dict[str, Array],
) -> None:
    """The convolutions in bf16, the layers in 8 bits: two designs on one NPU, and near float32."""
    encoder = mixed(kernels, MixedDesign.moonshine(weights, quantised, (1,)))
    audio = clips["two_cities"][: 3 * SAMPLE_RATE]
    found, expected = encoder.states(audio), moonshine.states(TINY.prepare(audio, False))
    assert found.shape == expected.shape
    assert cosine(found, expected) > 0.999


def test_whisper(kernels: HostKernels) -> None:
    """Convolutions in bf16 in place of those it was quantised with; heads that are not four at a time, norms with
    offsets, and no rotation: the layers are the same numbers as in NumPy, and the whole is near float32.
    """
    checkpoint = Checkpoint(FIXTURES / "whisper-small-talk")
    encoder, prepare = of_whisper(checkpoint), architecture_of(checkpoint).prepare
    quantised = quantise(encoder, [prepare(read("english-1.flac"), False)], 500, lambda _: None)
    there = mixed(kernels, MixedDesign.whisper(WhisperWeights(checkpoint, "fp32"), quantised, (1, 2)))
    for short in (True, False):
        audio = read("english-2.flac")[: 4 * SAMPLE_RATE]
        found, expected = there.states(audio, short), encoder.states(prepare(audio, short))
        assert found.shape == expected.shape
        assert cosine(found, expected) > 0.999
        frames = fixed(there.convolutions.states(audio, short), quantised.frame_bits)
        rows = numpy_encoder(quantised).encoded(frames)
        for ours, wanted in zip(there.layers.states(frames), rows, strict=True):
            assert np.array_equal(ours, wanted)
        assert np.array_equal(found, in_float(rows, quantised.last))


def read(name: str) -> Array:
    with (FIXTURES / "speech" / name).open("rb") as file:
        return np.concatenate(list(decode_container(file)))


def test_another_calibration(kernels: HostKernels, quantised: QuantisedEncoder) -> None:
    """Makes no other package."""
    layers = list(quantised.layers)
    layers[1] = replace(layers[1], heads=replace(layers[1].heads, shift=layers[0].heads.shift))
    layers[2] = replace(layers[2], heads=replace(layers[2].heads, shift=20))
    other = LayersDesign(replace(quantised, layers=tuple(layers)), (1,)).design(kernels.stacks)
    assert Source.of(other) == Source.of(LayersDesign(quantised, (1,)).design(kernels.stacks))


def test_windows(kernels: HostKernels, quantised: QuantisedEncoder, frames: Fixed) -> None:
    """A window knows nothing of the one before it, and of several plans the shortest that fits is taken."""
    short = replace(quantised, layers=quantised.layers[:1])
    layers, fast = opened(kernels, LayersDesign(short, (1, 2))), numpy_encoder(short)
    for window in (np.concatenate([frames] * 3), frames[:40], frames[:1]):
        x = fast.layer(window, short.layers[0], fast.bits()[0])
        expected = fast.operators.layer_norm(x, short.last)
        for found, wanted in zip(layers.states(window), expected, strict=True):
            assert np.array_equal(found, wanted)


def test_a_window_that_is_too_long(kernels: HostKernels, design: LayersDesign, frames: Fixed) -> None:
    """Is refused."""
    with pytest.raises(ModelError, match=r"615 frames; the NPU takes 512"):
        opened(kernels, design).states(np.concatenate([frames] * 5))


def test_limits(kernels: HostKernels, design: LayersDesign) -> None:
    """It fits the hardware."""
    assert not check(design.design(kernels.stacks))
    names = [each.name for each in design.design(kernels.stacks).sequences]
    assert names == ["layers_0", "layers_1", "canary"]
