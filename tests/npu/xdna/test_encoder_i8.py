"""Encoders in 8 bits, in NumPy: equal to the kernels bit for bit, on real speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npu.checkpoint import Checkpoint
from npu.whisper import architecture_of
from npu.xdna.encoder_i8 import (
    Encoder8,
    Operators,
    fixed,
    in_float,
    numpy_encoder,
    value_scales,
)
from npu.xdna.float_encoder import FloatEncoder, in_bf16, of_whisper
from npu.xdna.quant import QuantisedEncoder, quantise
from streaming.containers import decode_container

Array = NDArray[np.float32]

FIXTURES = Path(__file__).parents[2] / "fixtures"


def read(name: str) -> Array:
    with (FIXTURES / "speech" / name).open("rb") as file:
        return np.concatenate(list(decode_container(file)))


def test_moonshine_by_the_kernels(
    operators: Operators, moonshine: FloatEncoder, quantised: QuantisedEncoder, spoken: Array
) -> None:
    """Every layer's frames, and the states with their scales, are the same numbers."""
    fast, tiled = numpy_encoder(quantised), Encoder8(quantised, operators)
    x = fast.frames(moonshine.sound(spoken, in_bf16))
    for layer, bits in zip(quantised.layers, fast.bits(), strict=True):
        found = tiled.layer(x, layer, bits)
        x = fast.layer(x, layer, bits)
        assert np.array_equal(found, x)
    states = fast.operators.layer_norm(x, quantised.last)
    for found, expected in zip(tiled.operators.layer_norm(x, quantised.last), states, strict=True):
        assert np.array_equal(found, expected)


def test_whisper_by_the_kernels(operators: Operators) -> None:
    """The convolutions, too, are the same numbers: those of a Whisper's whole window."""
    checkpoint = Checkpoint(FIXTURES / "whisper-small-talk")
    encoder, prepare = of_whisper(checkpoint), architecture_of(checkpoint).prepare
    quantised = quantise(encoder, [prepare(read("english-1.flac"), True)], 500, lambda _line: None)
    sound = encoder.sound(prepare(read("english-2.flac"), False)[:400])
    fast, tiled = numpy_encoder(quantised), Encoder8(quantised, operators)
    x = fast.frames(sound)
    assert np.array_equal(tiled.frames(sound), x)
    layer, bits = quantised.layers[0], fast.bits()[0]
    assert np.array_equal(tiled.layer(x, layer, bits), fast.layer(x, layer, bits))


def test_the_states_in_float(moonshine: FloatEncoder, quantised: QuantisedEncoder, spoken: Array) -> None:
    """What comes out is what float32 gives, nearly."""
    rows = numpy_encoder(quantised).states(moonshine.sound(spoken, in_bf16))
    found, expected = in_float(rows, quantised.last), moonshine.states(spoken)
    assert np.sum(found * expected) / np.linalg.norm(found) / np.linalg.norm(expected) > 0.999


def test_scales_of_values_beyond_what_was_seen() -> None:
    """They saturate: the largest is 65,280."""
    assert list(value_scales(np.array([0, 1 << 16, 1 << 24], np.int32), 1 << 19)) == [0, 1 << 15, 65_280]


def test_values_beyond_16_bits() -> None:
    """They saturate as well, and halves go to even."""
    assert list(fixed(np.array([1e9, -1e9, 0.25, 0.75], np.float32), 1)) == [32_767, -32_768, 0, 2]
