"""An encoder's layers in 8 bits through the runtime and the emulated XRT: the fast path's numbers, on real speech."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.xdna.check import check
from npu.xdna.emulator import KERNEL, Emulator, Package, instructions
from npu.xdna.encoder_i8 import Fixed, in_float, numpy_encoder
from npu.xdna.float_encoder import FloatEncoder, in_bf16
from npu.xdna.host_kernels import HostKernels
from npu.xdna.layers_i8 import Layers, LayersDesign
from npu.xdna.quant import QuantisedEncoder
from npu.xdna.runtime import Built, Npu
from streaming.errors import ModelError

Array = NDArray[np.float32]


def emulated(kernels: HostKernels, design: LayersDesign, seed: int = 0) -> Layers:
    """The layers on an emulated array."""
    made = design.design(kernels.stacks)
    package = f"{made.name}.xclbin"
    xrt = Emulator({package: Package(made, lambda: kernels)}, seed=seed)
    code = {each.name: instructions(made, each.name) for each in made.sequences}
    return Layers(Npu(xrt), Built(made.name, package, KERNEL, code), design)


@pytest.fixture(scope="session")
def design(quantised: QuantisedEncoder) -> LayersDesign:
    return LayersDesign(quantised, (1, 2))


@pytest.fixture(scope="session")
def frames(moonshine: FloatEncoder, quantised: QuantisedEncoder, spoken: Array) -> Fixed:
    """What the first layer sees, [125, width]."""
    return numpy_encoder(quantised).frames(moonshine.sound(spoken, in_bf16))


def test_moonshine(
    kernels: HostKernels, design: LayersDesign, moonshine: FloatEncoder, quantised: QuantisedEncoder,
    spoken: Array,
) -> None:  # fmt: skip
    """Six layers and the last norm in one dispatch: states and scales are the same numbers, and near float32's."""
    sound = moonshine.sound(spoken, in_bf16)
    layers, fast = emulated(kernels, design, seed=int(kernels.vector)), numpy_encoder(quantised)
    rows = layers.states(fast.frames(sound))
    for found, expected in zip(rows, fast.states(sound), strict=True):
        assert np.array_equal(found, expected)
    found, expected = in_float(rows, quantised.last), moonshine.states(spoken)
    cosine = np.sum(found * expected) / np.linalg.norm(found) / np.linalg.norm(expected)
    assert cosine > 0.999


def test_windows(kernels: HostKernels, quantised: QuantisedEncoder, frames: Fixed) -> None:
    """A window knows nothing of the one before it, and of several plans the shortest that fits is taken."""
    short = replace(quantised, layers=quantised.layers[:1])
    layers, fast = emulated(kernels, LayersDesign(short, (1, 2))), numpy_encoder(short)
    for window in (np.concatenate([frames] * 3), frames[:40], frames[:1]):
        x = fast.layer(window, short.layers[0], fast.bits()[0])
        expected = fast.operators.layer_norm(x, short.last)
        for found, wanted in zip(layers.states(window), expected, strict=True):
            assert np.array_equal(found, wanted)


def test_a_window_that_is_too_long(kernels: HostKernels, design: LayersDesign, frames: Fixed) -> None:
    """Is refused."""
    with pytest.raises(ModelError, match=r"615 frames; the NPU takes 512"):
        emulated(kernels, design).states(np.concatenate([frames] * 5))


def test_limits(kernels: HostKernels, design: LayersDesign) -> None:
    """It fits the hardware."""
    assert not check(design.design(kernels.stacks))
    assert len(design.design(kernels.stacks).sequences) == 2
