"""Encoders and decoders in 8 bits, in NumPy: equal to the kernels bit for bit, on real speech."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npu.backends.reference import ReferenceBackend
from npu.checkpoint import Checkpoint
from npu.moonshine import TINY
from npu.tokens import Tokenizer
from npu.weights import Weights
from npu.whisper import architecture_of
from npu.xdna import float_decoder
from npu.xdna.decoder_i8 import Decoder8
from npu.xdna.encoder_i8 import (
    Encoder8,
    NumpyOperators,
    Operators,
    fixed,
    in_float,
    numpy_encoder,
    value_scales,
)
from npu.xdna.float_encoder import FloatEncoder, in_bf16, of_moonshine, of_whisper
from npu.xdna.float_model import FloatModel
from npu.xdna.quant import QuantisedEncoder, quantise
from npu.xdna.quant_decoder import quantise_decoder
from npu.xdna.quant_model import texts
from npu.xdna.quant_parts import Product
from streaming.containers import decode_container
from streaming.window import SAMPLE_RATE

Array = NDArray[np.float32]

FIXTURES = Path(__file__).parents[2] / "fixtures"
SECONDS = 3


def read(name: str) -> Array:
    with (FIXTURES / "speech" / name).open("rb") as file:
        return np.concatenate(list(decode_container(file)))


def test_moonshine_by_the_kernels(
    operators: Operators, moonshine: FloatEncoder, quantised: QuantisedEncoder, spoken: Array
) -> None:
    """Every layer's frames, the states with their scales, and the decoder's keys and values are the same numbers."""
    fast, tiled = numpy_encoder(quantised), Encoder8(quantised, operators)
    x = fast.frames(moonshine.sound(spoken, in_bf16))
    for layer, bits in zip(quantised.layers, fast.bits(), strict=True):
        found = tiled.layer(x, layer, bits)
        x = fast.layer(x, layer, bits)
        assert np.array_equal(found, x)
    states = fast.operators.layer_norm(x, quantised.last)
    for found, expected in zip(tiled.operators.layer_norm(x, quantised.last), states, strict=True):
        assert np.array_equal(found, expected)
    crosses = [each.cross(states, quantised.crosses[0]) for each in (tiled, fast)]
    for found, expected in zip(*crosses, strict=True):
        assert np.array_equal(found, expected)


def test_a_decoder_by_the_kernels(
    operators: Operators,
    weights: Weights,
    quantised: QuantisedEncoder,
    tokenizer: Tokenizer,
    clips: dict[str, Array],
) -> None:
    """A text at once and token by token, over the cross-attention of three seconds: the logits are the same numbers."""
    reference, decoder = ReferenceBackend(TINY, weights), float_decoder.of_moonshine(weights)
    model = FloatModel(of_moonshine(weights), decoder, reference, TINY, tokenizer, 512)
    audio = clips["two_cities"][: SECONDS * SAMPLE_RATE]
    (text,) = texts(model, [audio])
    in_eight = quantise_decoder(decoder, quantised.crosses, [text], lambda _line: None)
    rows = numpy_encoder(quantised).states(model.encoder.sound(TINY.prepare(audio, False), in_bf16))
    crosses = [numpy_encoder(quantised).cross(rows, cross) for cross in quantised.crosses]
    found = []
    for each in (operators, NumpyOperators()):
        # one layer and the head of a few tokens: the emulated products of the whole vocabulary take long
        few = replace(in_eight, layers=in_eight.layers[:1], head=first_columns(in_eight.head, 200))
        decoder8 = Decoder8(few, each)
        heard = decoder8.heard(crosses[:1])
        embedded = decoder.embedded(text.tokens, 0)
        together, _ = decoder8.extend(embedded, [None], heard)
        logits, held = decoder8.extend(embedded[:5], [None], heard)
        apart = [logits]
        for row in embedded[5:]:
            logits, held = decoder8.extend(row[None], held, heard)
            apart.append(logits)
        assert np.array_equal(np.concatenate(apart), together)
        found.append(together)
    assert np.array_equal(*found)
    assert np.ptp(found[0]) > 1


def first_columns(product: Product, n: int) -> Product:
    return replace(product, values=product.values[:, :n], channel=product.channel[:n], bias=product.bias[:n])


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
