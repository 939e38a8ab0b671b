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
from npu.xdna.host_kernels import HostKernels
from npu.xdna.oracle import TILE, blocked, unblocked
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


class Operators:
    """Operators on whole matrices, tile by tile."""

    def __init__(self, kernels: HostKernels) -> None:
        self._kernels = kernels

    def ask(self, name: str, *arguments: Values | int) -> None:
        self._kernels.call(
            name, [each if isinstance(each, int) else each.view(np.uint8) for each in arguments]
        )

    def norm(self, x: Array, gain: Array) -> tuple[Values, Values]:
        """-> values in 8 bits, scales with 24 fraction bits."""
        bits = fraction_bits(x)
        rows, width = x.shape
        q, token = np.zeros(x.shape, np.int8), np.zeros(rows, np.int32)
        gains, none = (np.round(each * 2**oracle.GAIN_BITS).astype(np.int32) for each in (gain, 0 * gain))
        scratch, fixed = np.zeros(width, np.int32), np.round(x * 2.0**bits).astype(np.int16)
        epsilon = round(EPSILON * 4**bits)
        self.ask("layer_norm_i8", fixed, gains, none, scratch, q, token, rows, width, epsilon)
        return q, token

    def rows(self, x: Array) -> tuple[Values, Values, int]:
        """-> values in 8 bits, scales, fraction bits of those."""
        bits = fraction_bits(x)
        wide = padded(np.round(x * 2.0**bits).astype(np.int16), 1, 16)
        q, token = np.zeros(wide.shape, np.int8), np.zeros(len(x), np.int32)
        gain = np.full(wide.shape[1], 1 << oracle.GAIN_BITS, np.int32)
        self.ask("quantise_i8", wide, gain, np.zeros(wide.shape[1], np.int32), q, token, *wide.shape)
        return q[:, : x.shape[1]], token, oracle.PLAIN_BITS + bits

    def linear(
        self, q: Values, token: Values, token_bits: int, weights: Linear, bits: int,
        table: Values | None = None, residual: Array | None = None,
    ) -> Array:  # fmt: skip
        """[rows, k] times an 8-bit matrix, and what follows; bits: fraction bits of the output."""
        shape = (len(q), weights.values.shape[1])
        scales = requantiser(np.asarray(weights.scale), q.shape[1], token_bits, 2.0**-bits)
        a, b = padded(q), padded(weights.values)
        bias = np.zeros(shape[1]) if weights.bias is None else weights.bias
        tokens, channel, start = (
            np.pad(each.astype(np.int32), (0, -len(each) % TILE))
            for each in (token, scales.channel, np.round(bias * 2.0**bits))
        )
        added = padded(
            np.round((np.zeros(shape) if residual is None else residual) * 2.0**bits).astype(np.int16)
        )
        out = np.zeros((len(a), b.shape[1]), np.int16)
        for m, n in np.ndindex(len(a) // TILE, b.shape[1] // TILE):
            rows, columns = (slice(at * TILE, at * TILE + TILE) for at in (m, n))
            c, tile = np.zeros(TILE * TILE, np.int32), np.zeros((16, 8, 4, 8), np.int16)
            for k in range(0, a.shape[1], TILE):
                depth = slice(k, k + TILE)
                self.ask("gemm_i8", blocked(a[rows, depth], 4, 8), blocked(b[depth, columns], 8, 8), c)
            self.ask(
                "epilogue_i16", c, channel[columns], tokens[rows], start[columns],
                np.zeros(257, np.int16) if table is None else table, blocked(added[rows, columns], 4, 8), tile,
                scales.channel_shift, scales.token_shift, int(table is not None), int(residual is not None),
            )  # fmt: skip
            out[rows, columns] = unblocked(tile)
        return (out[: shape[0], : shape[1]] / 2.0**bits).astype(np.float32)

    def attention(self, query: Array, key: Array, value: Array, causal: bool = False) -> Array:
        """One head, [rows, width] each."""
        width = query.shape[1]
        (q, q_token, q_bits), (k, k_token, k_bits), (v, v_token, v_bits) = map(self.rows, (query, key, value))
        scales = attention_scales(
            q_token * 2.0**-q_bits, k_token * 2.0**-k_bits, v_token * 2.0**-v_bits, width
        )
        queries, keys, values = map(padded, (q, k, v))
        q_scale, k_scale, v_scale = (
            np.pad(each, (0, -len(each) % TILE)) for each in (scales.query, scales.key, scales.value)
        )
        out = np.zeros(queries.shape, np.float32)
        scores, statistics, o = (np.zeros(n, np.int32) for n in (TILE * TILE, 2 * TILE, TILE * TILE))
        p, tile = np.zeros(TILE * TILE, np.uint8), np.zeros((16, 8, 4, 8), np.int16)
        for first in range(0, len(queries), TILE):
            rows = slice(first, first + TILE)
            self.ask("attention_start", statistics, o)
            for at in range(0, len(keys), TILE):
                span = slice(at, at + TILE)
                self.ask(
                    "attention_step", blocked(queries[rows], 4, 8), blocked(keys[span].T, 8, 8),
                    blocked(values[span], 8, 8), q_scale[rows], k_scale[span], v_scale[span], oracle.POWERS,
                    scores, p, statistics, o, scales.query_shift, scales.key_shift, first, at, len(k), int(causal),
                )  # fmt: skip
            self.ask("attention_finish", o, statistics, tile)
            out[rows] = unblocked(tile) * scales.unit
        return out[: len(q), :width]


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
def operators(kernels: HostKernels) -> Operators:
    return Operators(kernels)


LAYERS = pytest.mark.parametrize("at", range(6))


@LAYERS
def test_norm(operators: Operators, layers: list[Seen], at: int) -> None:
    """Normalised rows in 8 bits."""
    q, token = operators.norm(layers[at].x, layers[at].layer.attention_norm.gain)
    expected = fp32.norm(layers[at].x, layers[at].layer.attention_norm)
    assert cosine(q * token[:, None] * 2.0**-oracle.NORM_BITS, expected) >= ENOUGH


@LAYERS
def test_projections(operators: Operators, layers: list[Seen], at: int) -> None:
    """Query, key and value of normalised rows."""
    attention = layers[at].layer.attention
    h = fp32.norm(layers[at].x, layers[at].layer.attention_norm)
    q, token = operators.norm(layers[at].x, layers[at].layer.attention_norm.gain)
    for each in (attention.query, attention.key, attention.value):
        expected = fp32.linear(h, each)
        weights = quantised_by_column(each.dense(), each.bias)
        found = operators.linear(q, token, oracle.NORM_BITS, weights, fraction_bits(expected))
        assert cosine(found, expected) >= ENOUGH


@LAYERS
def test_attention(operators: Operators, layers: list[Seen], at: int) -> None:
    """All heads together, over two tiles of frames and more."""
    heads = [operators.attention(*head) for head in zip(*layers[at].heads, strict=True)]
    assert cosine(np.concatenate(heads, axis=1), layers[at].seen) >= ENOUGH


@LAYERS
def test_output(operators: Operators, layers: list[Seen], at: int) -> None:
    """What attention adds to the residual: alone, and with it."""
    output = layers[at].layer.attention.output
    weights = quantised_by_column(output.dense(), output.bias)
    rows = operators.rows(layers[at].seen)
    alone = fp32.linear(layers[at].seen, output)
    assert cosine(operators.linear(*rows, weights, fraction_bits(alone)), alone) >= ENOUGH
    bits = fraction_bits(layers[at].between)
    found = operators.linear(*rows, weights, bits, residual=layers[at].x)
    assert cosine(found, layers[at].between) >= ENOUGH


@LAYERS
def test_network(operators: Operators, layers: list[Seen], largest: list[Array], at: int) -> None:
    """Up with GELU by table, smoothed by what another recording showed, and down again."""
    layer, between = layers[at].layer, layers[at].between
    table = oracle.activation_table(lambda x: fp32.gelu(x.astype(np.float32)))
    smooth = smoothing(largest[at], layer.up.dense())
    q, token = operators.norm(between, layer.network_norm.gain / smooth)
    up = quantised_by_column(layer.up.dense() * smooth[:, None], layer.up.bias)
    found = operators.linear(q, token, oracle.NORM_BITS, up, oracle.ACTIVATION_BITS, table)
    assert cosine(found, layers[at].hidden) >= ENOUGH
    expected = fp32.linear(layers[at].hidden, layer.down)
    down = quantised_by_column(layer.down.dense(), layer.down.bias)
    rows = operators.rows(layers[at].hidden)
    assert cosine(operators.linear(*rows, down, fraction_bits(expected)), expected) >= ENOUGH


def test_gated_network(
    operators: Operators, reference: ReferenceBackend, weights: Weights, clips: dict[str, Array], rules: Rules
) -> None:
    """The decoder's: SiLU of the gate by table, times the hidden half."""
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
    table = oracle.activation_table(lambda x: fp32.silu(x.astype(np.float32)))
    out = np.zeros(hidden.shape, np.int16)
    hidden_fixed, gate_fixed = (
        np.round(each * 2.0**by).astype(np.int16)
        for each, by in ((hidden, fraction_bits(hidden)), (gate, oracle.ACTIVATION_BITS))
    )
    shift = fraction_bits(hidden) + oracle.ACTIVATION_BITS - bits
    operators.ask("swiglu_i16", hidden_fixed, gate_fixed, table, out, out.size, shift)
    assert cosine(out, expected) >= ENOUGH


@LAYERS
def test_bf16(operators: Operators, layers: list[Seen], at: int) -> None:
    """A product in bf16 is far closer than one in 8 bits."""
    layer = layers[at].layer
    h, weights = fp32.norm(layers[at].between, layer.network_norm), layer.up.dense()
    a, b = padded(oracle.to_bf16(h), TILE, TILE // 2), padded(oracle.to_bf16(weights), TILE // 2, TILE)
    c = np.zeros((16, 16, 4, 4), np.float32)
    for k in range(0, a.shape[1], TILE // 2):
        depth = slice(k, k + TILE // 2)
        operators.ask("gemm_bf16", blocked(a[:TILE, depth], 4, 8), blocked(b[depth, :TILE], 8, 4), c)
    out = np.zeros(c.shape, np.uint16)
    operators.ask("narrow_bf16", c, out)
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
        x = np.round(head * 2.0**bits).astype(np.int16)
        operators.ask("rope_i16", x, *turns, *x.shape, angle.shape[1])
        assert cosine(x, expected) >= 0.99999


@LAYERS
def test_causal_attention(operators: Operators, layers: list[Seen], at: int) -> None:
    """Nobody sees what comes later."""
    later = np.triu(np.full((layers[at].x.shape[0],) * 2, -np.inf, np.float32), 1)
    expected, _ = fp32.attend(*layers[at].heads, later)
    heads = [operators.attention(*head, causal=True) for head in zip(*layers[at].heads, strict=True)]
    assert cosine(np.concatenate(heads, axis=1), expected) >= ENOUGH
