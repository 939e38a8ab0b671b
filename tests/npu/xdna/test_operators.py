"""Each 8-bit operator against float32, on what Moonshine's layers see when somebody speaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.backends import reference as fp32
from npu.backends.reference import ReferenceBackend
from npu.decoding import Rules, decode
from npu.layers import quantised_by_column
from npu.weights import EncoderLayer, Linear, Weights
from npu.xdna import oracle
from npu.xdna.curves import curve_of
from npu.xdna.encoder_i8 import Operators, fixed
from npu.xdna.host_kernels import HostKernels
from npu.xdna.oracle import TILE, Rows, blocked, unblocked
from npu.xdna.quant_parts import Normalisation, Product
from npu.xdna.scaling import attention_scales, fraction_bits, requantiser, smoothing
from streaming.window import SAMPLE_RATE

Values = NDArray[Any]
Array = NDArray[np.float32]

HEADS, SECONDS, ENOUGH = 8, 3, 0.999
EPSILON = 1e-5  # of every norm


def cosine(x: Values, y: Values) -> float:
    a, b = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def padded(x: Values, rows: int = TILE, columns: int = TILE) -> Values:
    """With zeros up to whole tiles."""
    return np.pad(x, ((0, -len(x) % rows), (0, -x.shape[1] % columns)))


def ask(kernels: HostKernels, name: str, *arguments: Values | int) -> None:
    kernels.call(name, [each if isinstance(each, int) else each.view(np.uint8) for each in arguments])


class InFloat:
    """Operators in 8 bits on float matrices."""

    def __init__(self, operators: Operators) -> None:
        self._operators = operators

    def norm(self, x: Array, gain: Array) -> tuple[Values, Values]:
        """-> values in 8 bits, scales with 24 fraction bits."""
        bits, none = fraction_bits(x), np.zeros(len(gain), np.float32)
        fixed_gain = np.round(gain * 2**oracle.GAIN_BITS).astype(np.int32)
        epsilon = round(EPSILON * 4**bits)
        norm = Normalisation(fixed_gain, np.zeros_like(fixed_gain), epsilon, none, none)
        return self._operators.layer_norm(fixed(x, bits), norm)

    def rows(self, x: Array) -> tuple[Values, Values, int]:
        """-> values in 8 bits, scales, fraction bits of those."""
        bits = fraction_bits(x)
        gain = np.full(x.shape[1], 1 << oracle.GAIN_BITS, np.int32)
        return (*self._operators.quantise(fixed(x, bits), gain), oracle.PLAIN_BITS + bits)

    def linear(
        self, q: Values, token: Values, token_bits: int, weights: Linear, bits: int,
        curve: Values | None = None, residual: Array | None = None,
    ) -> Array:  # fmt: skip
        """[rows, k] times an 8-bit matrix, and what follows; bits: fraction bits of the output."""
        scales = requantiser(np.asarray(weights.scale), q.shape[1], token_bits, 2.0**-bits)
        bias = np.zeros(weights.values.shape[1]) if weights.bias is None else weights.bias
        product = Product(
            weights.values, scales.channel, np.round(bias * 2.0**bits).astype(np.int32), scales.channel_shift,
            scales.token_shift, bits, curve,
        )  # fmt: skip
        added = None if residual is None else fixed(residual, bits)
        return (self._operators.product((q, token), product, added) / 2.0**bits).astype(np.float32)

    def attention(self, query: Array, key: Array, value: Array, causal: bool = False) -> Array:
        """One head, [rows, width] each."""
        (q, q_token, q_bits), (k, k_token, k_bits), (v, v_token, v_bits) = map(self.rows, (query, key, value))
        scales = attention_scales(
            q_token * 2.0**-q_bits, k_token * 2.0**-k_bits, v_token * 2.0**-v_bits, query.shape[1]
        )
        shift = scales.shift
        rows = (q, scales.query), (k, scales.key), (v, scales.value)
        found = later_unseen(*rows, shift) if causal else self._operators.attend(*rows, shift)
        return (found * scales.unit).astype(np.float32)


def later_unseen(query: Rows, key: Rows, value: Rows, shift: int) -> Values:
    """Attention by the oracle, to which the kernels are held: nobody sees what comes later."""
    (q, q_scale), (k, k_scale), (v, v_scale) = (
        (padded(x), np.pad(scale, (0, -len(scale) % TILE))) for x, scale in (query, key, value)
    )
    found = [
        oracle.attention(q[at : at + TILE], k, v, (q_scale[at : at + TILE], k_scale, v_scale), shift, at,
                         len(key[0]), causal=True)
        for at in range(0, len(q), TILE)
    ]  # fmt: skip
    return np.concatenate(found)[: len(query[0]), : query[0].shape[1]]


@dataclass(frozen=True, eq=False)
class Seen:
    """What one layer of the encoder sees, [frames, width] each."""

    layer: EncoderLayer
    x: Array
    heads: tuple[Array, Array, Array]  # query, key, value: [heads, frames, head width]
    seen: Array
    between: Array  # after attention
    hidden: Array  # within the network


@pytest.fixture(scope="session")
def layers(reference: ReferenceBackend, weights: Weights, clips: dict[str, Array]) -> list[Seen]:
    """Every layer, while somebody reads."""
    return list(_layers(reference, weights, clips["two_cities"][: SECONDS * SAMPLE_RATE]))


def _layers(reference: ReferenceBackend, weights: Weights, audio: Array) -> Iterator[Seen]:
    x = reference._stem(audio.reshape(1, -1))
    for layer in weights.encoder:
        heads = reference._projected(fp32.norm(x, layer.attention_norm), layer.attention, HEADS, 0)
        seen, _ = fp32.attend(*heads)
        between = x + fp32.linear(seen, layer.attention.output)
        hidden = fp32.gelu(fp32.linear(fp32.norm(between, layer.network_norm), layer.up))
        yield Seen(layer, x, heads, seen, between, hidden)
        x = between + fp32.linear(hidden, layer.down)


@pytest.fixture(scope="session")
def largest(reference: ReferenceBackend, weights: Weights, clips: dict[str, Array]) -> list[Array]:
    """[width] of each layer: how large the network's normalised inputs get while somebody else speaks."""
    other = _layers(reference, weights, clips["beckett"][: SECONDS * SAMPLE_RATE])
    return [np.abs(fp32.norm(each.between, each.layer.network_norm)).max(axis=0) for each in other]


@pytest.fixture
def in_float(operators: Operators) -> InFloat:
    return InFloat(operators)


LAYERS = pytest.mark.parametrize("at", range(6))


@LAYERS
def test_norm(in_float: InFloat, layers: list[Seen], at: int) -> None:
    """Normalised rows in 8 bits."""
    q, token = in_float.norm(layers[at].x, layers[at].layer.attention_norm.gain)
    expected = fp32.norm(layers[at].x, layers[at].layer.attention_norm)
    assert cosine(q * token[:, None] * 2.0**-oracle.NORM_BITS, expected) >= ENOUGH


@LAYERS
def test_projections(in_float: InFloat, layers: list[Seen], at: int) -> None:
    """Query, key and value of normalised rows."""
    attention = layers[at].layer.attention
    h = fp32.norm(layers[at].x, layers[at].layer.attention_norm)
    q, token = in_float.norm(layers[at].x, layers[at].layer.attention_norm.gain)
    for each in (attention.query, attention.key, attention.value):
        expected = fp32.linear(h, each)
        weights = quantised_by_column(each.dense(), each.bias)
        found = in_float.linear(q, token, oracle.NORM_BITS, weights, fraction_bits(expected))
        assert cosine(found, expected) >= ENOUGH


@LAYERS
def test_attention(in_float: InFloat, layers: list[Seen], at: int) -> None:
    """All heads together, over two tiles of frames and more."""
    heads = [in_float.attention(*head) for head in zip(*layers[at].heads, strict=True)]
    assert cosine(np.concatenate(heads, axis=1), layers[at].seen) >= ENOUGH


@LAYERS
def test_output(in_float: InFloat, layers: list[Seen], at: int) -> None:
    """What attention adds to the residual: alone, and with it."""
    output = layers[at].layer.attention.output
    weights = quantised_by_column(output.dense(), output.bias)
    rows = in_float.rows(layers[at].seen)
    alone = fp32.linear(layers[at].seen, output)
    assert cosine(in_float.linear(*rows, weights, fraction_bits(alone)), alone) >= ENOUGH
    bits = fraction_bits(layers[at].between)
    found = in_float.linear(*rows, weights, bits, residual=layers[at].x)
    assert cosine(found, layers[at].between) >= ENOUGH


@LAYERS
def test_network(in_float: InFloat, layers: list[Seen], largest: list[Array], at: int) -> None:
    """Up with GELU, smoothed by what another recording showed, and down again."""
    layer, between = layers[at].layer, layers[at].between
    curve = curve_of(fp32.gelu, oracle.ACTIVATION_BITS)
    smooth = smoothing(largest[at], layer.up.dense())
    q, token = in_float.norm(between, layer.network_norm.gain / smooth)
    up = quantised_by_column(layer.up.dense() * smooth[:, None], layer.up.bias)
    found = in_float.linear(q, token, oracle.NORM_BITS, up, oracle.ACTIVATION_BITS, curve)
    assert cosine(found, layers[at].hidden) >= ENOUGH
    expected = fp32.linear(layers[at].hidden, layer.down)
    down = quantised_by_column(layer.down.dense(), layer.down.bias)
    rows = in_float.rows(layers[at].hidden)
    assert cosine(in_float.linear(*rows, down, fraction_bits(expected)), expected) >= ENOUGH


def test_gated_network(
    kernels: HostKernels, reference: ReferenceBackend, weights: Weights, clips: dict[str, Array], rules: Rules
) -> None:
    """The decoder's: SiLU of the gate, times the hidden half."""
    encoded = reference.encode(clips["two_cities"][: SECONDS * SAMPLE_RATE])
    tokens = decode(reference, encoded.start(), rules).tokens
    embedding, layer = weights.embedding, weights.decoder[0]
    x = (embedding.values[list(tokens)].astype(np.float32) - np.float32(embedding.zero)) * embedding.scale
    heads = reference._projected(fp32.norm(x, layer.attention_norm), layer.attention, HEADS, 0)
    later = np.triu(np.full((len(x), len(x)), -np.inf, np.float32), 1)
    x = x + fp32.linear(fp32.attend(*heads, later)[0], layer.attention.output)
    query = fp32.apart(fp32.linear(fp32.norm(x, layer.cross_norm), layer.cross.query), HEADS)
    x = x + fp32.linear(fp32.attend(query, *encoded.cross[0])[0], layer.cross.output)
    hidden, gate = np.split(fp32.linear(fp32.norm(x, layer.network_norm), layer.up), 2, axis=1)
    expected = fp32.silu(gate) * hidden
    bits = fraction_bits(expected)
    curve = curve_of(fp32.silu, oracle.ACTIVATION_BITS)
    out = np.zeros(hidden.shape, np.int16)
    hidden_fixed, gate_fixed = (
        np.round(each * 2.0**by).astype(np.int16)
        for each, by in ((hidden, fraction_bits(hidden)), (gate, oracle.ACTIVATION_BITS))
    )
    shift = fraction_bits(hidden) + oracle.ACTIVATION_BITS - bits
    ask(kernels, "swiglu_i16", hidden_fixed, gate_fixed, curve, out, out.size, shift)
    assert cosine(out, expected) >= ENOUGH


@LAYERS
def test_bf16(kernels: HostKernels, layers: list[Seen], at: int) -> None:
    """A product in bf16 is far closer than one in 8 bits."""
    layer = layers[at].layer
    h, weights = fp32.norm(layers[at].between, layer.network_norm), layer.up.dense()
    a, b = padded(oracle.to_bf16(h), TILE, TILE // 2), padded(oracle.to_bf16(weights), TILE // 2, TILE)
    c = np.zeros((16, 16, 4, 4), np.float32)
    for k in range(0, a.shape[1], TILE // 2):
        depth = slice(k, k + TILE // 2)
        ask(kernels, "gemm_bf16", blocked(a[:TILE, depth], 4, 8), blocked(b[depth, :TILE], 8, 4), c)
    out = np.zeros(c.shape, np.uint16)
    ask(kernels, "narrow_bf16", c, out)
    assert cosine(oracle.from_bf16(unblocked(out)), h[:TILE] @ weights[:, :TILE]) >= 0.99999


@LAYERS
def test_rotation(operators: Operators, reference: ReferenceBackend, layers: list[Seen], at: int) -> None:
    """Queries turned by their position, in 16 bits."""
    layer, frequencies = layers[at].layer, reference._weights.frequencies
    plain = fp32.apart(
        fp32.linear(fp32.norm(layers[at].x, layer.attention_norm), layer.attention.query), HEADS
    )
    angle = np.arange(plain.shape[1])[:, None] * frequencies
    turns = [np.round(f(angle) * (1 << oracle.ANGLE_BITS)).astype(np.int16) for f in (np.cos, np.sin)]
    bits = fraction_bits(plain)
    for head, expected in zip(plain, layers[at].heads[0], strict=True):
        assert cosine(operators.rotate(fixed(head, bits), *turns), expected) >= 0.99999


@LAYERS
def test_causal_attention(in_float: InFloat, layers: list[Seen], at: int) -> None:
    """Nobody sees what comes later."""
    later = np.triu(np.full((layers[at].x.shape[0],) * 2, -np.inf, np.float32), 1)
    expected, _ = fp32.attend(*layers[at].heads, later)
    heads = [in_float.attention(*head, causal=True) for head in zip(*layers[at].heads, strict=True)]
    assert cosine(np.concatenate(heads, axis=1), expected) >= ENOUGH
