"""Encoders and decoders in 8 bits, in NumPy: equal to the kernels bit for bit, on real speech."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.backends.reference import ReferenceBackend
from npu.checkpoint import Checkpoint
from npu.moonshine import TINY
from npu.tokens import Tokenizer
from npu.weights import Weights
from npu.whisper import architecture_of
from npu.xdna import float_decoder, oracle
from npu.xdna.decoder_i8 import Decoder8
from npu.xdna.encoder_i8 import Encoder8, Fixed, NumpyOperators, fixed, in_float, numpy_encoder, value_scales
from npu.xdna.float_encoder import FloatEncoder, in_bf16, of_moonshine, of_whisper
from npu.xdna.float_model import FloatModel
from npu.xdna.host_kernels import HostKernels
from npu.xdna.oracle import TILE, Rows, blocked, unblocked
from npu.xdna.quant import QuantisedEncoder, quantise
from npu.xdna.quant_decoder import quantise_decoder
from npu.xdna.quant_model import texts
from npu.xdna.quant_parts import Normalisation, Product
from streaming.containers import decode_container
from streaming.window import SAMPLE_RATE

Values = NDArray[Any]
Array = NDArray[np.float32]

FIXTURES = Path(__file__).parents[2] / "fixtures"
SECONDS = 3  # 125 frames of Moonshine's: two tiles


def padded(x: Values, rows: int = TILE, columns: int = TILE) -> Values:
    return np.pad(x, ((0, -len(x) % rows), (0, -x.shape[1] % columns)))


class KernelOperators:
    """The kernels themselves, tile by tile."""

    def __init__(self, kernels: HostKernels) -> None:
        self._kernels = kernels

    def layer_norm(self, x: Fixed, norm: Normalisation) -> Rows:
        q, token = np.zeros(x.shape, np.int8), np.zeros(len(x), np.int32)
        scratch = np.zeros(x.shape[1], np.int32)
        self._ask("layer_norm_i8", x, norm.gain, norm.offset, scratch, q, token, *x.shape, norm.epsilon)
        return q, token

    def quantise(self, x: Fixed, gain: NDArray[np.int32]) -> Rows:
        wide = padded(x, 1, 16)
        gain = np.pad(gain, (0, -len(gain) % 16))
        q, token = np.zeros(wide.shape, np.int8), np.zeros(len(x), np.int32)
        self._ask("quantise_i8", wide, gain, np.zeros(len(gain), np.int32), q, token, *wide.shape)
        return q[:, : x.shape[1]], token

    def product(self, rows: Rows, product: Product, residual: Fixed | None = None) -> Fixed:
        shape = (len(rows[0]), product.values.shape[1])
        a, b = padded(rows[0]), padded(product.values)
        token, channel, bias = (
            np.pad(each, (0, -len(each) % TILE)) for each in (rows[1], product.channel, product.bias)
        )
        added = padded(np.zeros(shape, np.int16) if residual is None else residual)
        table = np.zeros(257, np.int16) if product.table is None else product.table
        out = np.zeros((len(a), b.shape[1]), np.int16)
        for m, n in np.ndindex(len(a) // TILE, b.shape[1] // TILE):
            here, columns = (slice(at * TILE, at * TILE + TILE) for at in (m, n))
            c, tile = np.zeros(TILE * TILE, np.int32), np.zeros((16, 8, 4, 8), np.int16)
            for k in range(0, a.shape[1], TILE):
                depth = slice(k, k + TILE)
                self._ask("gemm_i8", blocked(a[here, depth], 4, 8), blocked(b[depth, columns], 8, 8), c)
            self._ask(
                "epilogue_i16", c, channel[columns], token[here], bias[columns], table,
                blocked(added[here, columns], 4, 8), tile, product.channel_shift, product.token_shift,
                int(product.table is not None), int(residual is not None),
            )  # fmt: skip
            out[here, columns] = unblocked(tile)
        return out[: shape[0], : shape[1]]

    def rotate(self, x: Fixed, cosine: Fixed, sine: Fixed) -> Fixed:
        turned = x.copy()
        self._ask("rope_i16", turned, cosine, sine, *x.shape, cosine.shape[1])
        return turned

    def rescale(self, x: Fixed, down: int) -> Fixed:
        """Times the table's function of a gate of 8, which beyond the table is the gate itself: 2^13."""
        hidden, eight = padded(x, 1, 32), 8 << oracle.ACTIVATION_BITS
        out, gate = np.zeros(hidden.shape, np.int16), np.full(hidden.shape, eight, np.int16)
        self._ask("swiglu_i16", hidden, gate, np.zeros(257, np.int16), out, out.size, 13 + down)
        return out[:, : x.shape[1]]

    def gate(self, hidden: Fixed, gate: Fixed, table: Fixed, shift: int) -> Fixed:
        wide, gate = padded(hidden, 1, 32), padded(gate, 1, 32)
        out = np.zeros(wide.shape, np.int16)
        self._ask("swiglu_i16", wide, gate, table, out, out.size, shift)
        return out[:, : hidden.shape[1]]

    def attend(
        self, query: Rows, key: Rows, value: Rows, shifts: tuple[int, int], first: int | None = None
    ) -> Fixed:
        (q, q_scale), (k, k_scale), (v, v_scale) = (
            (padded(x), np.pad(scale, (0, -len(scale) % TILE))) for x, scale in (query, key, value)
        )
        out = np.zeros(q.shape, np.int16)
        scores, statistics, o = (np.zeros(n, np.int32) for n in (TILE * TILE, 2 * TILE, TILE * TILE))
        p, tile = np.zeros(TILE * TILE, np.uint8), np.zeros((16, 8, 4, 8), np.int16)
        for at_query in range(0, len(q), TILE):
            rows = slice(at_query, at_query + TILE)
            self._ask("attention_start", statistics, o)
            for at in range(0, len(k), TILE):
                span = slice(at, at + TILE)
                self._ask(
                    "attention_step", blocked(q[rows], 4, 8), blocked(k[span].T, 8, 8), blocked(v[span], 8, 8),
                    q_scale[rows], k_scale[span], v_scale[span], oracle.POWERS, scores, p, statistics, o, *shifts,
                    at_query + (first or 0), at, len(key[0]), int(first is not None),
                )  # fmt: skip
            self._ask("attention_finish", o, statistics, tile)
            out[rows] = unblocked(tile)
        return out[: len(query[0]), : query[0].shape[1]]

    def _ask(self, name: str, *arguments: Values | int) -> None:
        self._kernels.call(
            name,
            [
                int(each) if isinstance(each, int) else np.ascontiguousarray(each).view(np.uint8)
                for each in arguments
            ],
        )


def read(name: str) -> Array:
    with (FIXTURES / "speech" / name).open("rb") as file:
        return np.concatenate(list(decode_container(file)))


@pytest.fixture(scope="session")
def moonshine(weights: Weights) -> FloatEncoder:
    return of_moonshine(weights)


@pytest.fixture(scope="session")
def quantised(moonshine: FloatEncoder, clips: dict[str, Array]) -> QuantisedEncoder:
    """Moonshine's, calibrated on one reader."""
    window = TINY.prepare(clips["beckett"][: 4 * SAMPLE_RATE], False)
    return quantise(moonshine, [window], 512, lambda _line: None)


@pytest.fixture(scope="session")
def spoken(clips: dict[str, Array]) -> Array:
    """Another reader."""
    return TINY.prepare(clips["two_cities"][: SECONDS * SAMPLE_RATE], False)


def test_moonshine_by_the_kernels(
    kernels: HostKernels, moonshine: FloatEncoder, quantised: QuantisedEncoder, spoken: Array
) -> None:
    """Every layer's frames, the states with their scales, and the decoder's keys and values are the same numbers."""
    fast, tiled = numpy_encoder(quantised), Encoder8(quantised, KernelOperators(kernels))
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
    kernels: HostKernels,
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
    cross = [numpy_encoder(quantised).cross(rows, each) for each in quantised.crosses]
    found = []
    for operators in (KernelOperators(kernels), NumpyOperators()):
        # one layer and the head of a few tokens: the emulated products of the whole vocabulary take long
        few = replace(in_eight, layers=in_eight.layers[:1], head=first_columns(in_eight.head, 200))
        decoder8 = Decoder8(few, operators)
        heard = decoder8.heard(cross[:1])
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


def test_whisper_by_the_kernels(kernels: HostKernels) -> None:
    """The convolutions, too, are the same numbers: those of a Whisper's whole window."""
    checkpoint = Checkpoint(FIXTURES / "whisper-small-talk")
    encoder, prepare = of_whisper(checkpoint), architecture_of(checkpoint).prepare
    quantised = quantise(encoder, [prepare(read("english-1.flac"), True)], 500, lambda _line: None)
    sound = encoder.sound(prepare(read("english-2.flac"), False)[:400])
    fast, tiled = numpy_encoder(quantised), Encoder8(quantised, KernelOperators(kernels))
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
