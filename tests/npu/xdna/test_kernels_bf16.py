"""Layer norm and attention in bf16: both paths as their oracle, and close to float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.backends import reference as fp32
from npu.backends.reference import ReferenceBackend
from npu.moonshine import TINY
from npu.weights import Linear, Weights
from npu.xdna import oracle
from npu.xdna.host_kernels import HostKernels
from npu.xdna.oracle import blocked, from_bf16, to_bf16, unblocked
from npu.xdna.oracle_bf16 import KEYS, QUERIES, attention_bf16, layer_norm_bf16, rope_bf16
from streaming.window import SAMPLE_RATE

Values = NDArray[Any]


def chance(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("width", [16, 288, 1280])
@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 1e4])
def test_layer_norm_bf16(kernels: HostKernels, width: int, size: float) -> None:
    """Also of rows that are constant, and with a channel that stands out."""
    values = chance(1, 6, width) * np.float32(size) + np.float32(size)
    values[1, 5] *= 300
    x, gain, offset = to_bf16(values), chance(2, width), chance(3, width)
    out = np.zeros(x.shape, np.uint16)
    arguments = (x, gain, offset, np.zeros(width + 16, np.float32), out)
    kernels.call("layer_norm_bf16", [*(each.view(np.uint8) for each in arguments), *x.shape])
    assert np.array_equal(out, layer_norm_bf16(x, gain, offset))
    exact = from_bf16(x).astype(np.float64)
    exact -= exact.mean(axis=1, keepdims=True)
    exact = exact / np.sqrt(exact.var(axis=1, keepdims=True) + 1e-5) * gain + offset
    assert np.allclose(from_bf16(out), exact, rtol=2**-7, atol=2e-2 if size > 1 else 2e-3)


def attend(
    kernels: HostKernels, q: Values, k: Values, v: Values, scale: np.float32, *masks: int
) -> NDArray[np.uint16]:
    """The three kernels in turn. masks: first query, keys, causal."""
    first_query, keys, causal = masks
    statistics, o = np.zeros(2 * QUERIES, np.int32), np.zeros((8, 16, 4, 4), np.float32)
    scores, p, out = o.copy(), np.zeros((8, 8, 4, 8), np.uint16), np.zeros((8, 16, 4, 4), np.uint16)
    kernels.call("attention_start_bf16", [statistics.view(np.uint8), o.view(np.uint8)])
    for first in range(0, len(k), KEYS):
        tiles = (
            blocked(q, 4, 8),
            blocked(k[first : first + KEYS].T, 8, 4),
            blocked(v[first : first + KEYS], 8, 4),
        )
        memory = (*tiles, np.array([scale]), oracle.POWERS, scores, p, statistics, o)
        kernels.call(
            "attention_step_bf16",
            [*(each.view(np.uint8) for each in memory), first_query, first, keys, causal],
        )
    kernels.call("attention_finish_bf16", [each.view(np.uint8) for each in (o, statistics, out)])
    return unblocked(out)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize(("first_query", "keys"), [(0, 192), (96, 130), (0, 0), (0, 1)])
@pytest.mark.parametrize("size", [0.0, 1.0, 100.0, 1e4])
def test_attention_bf16(kernels: HostKernels, causal: int, first_query: int, keys: int, size: float) -> None:
    """Masked before the maximum, online over the tiles of keys, from flat weights to a single one."""
    q, k, v = (
        to_bf16(chance(1, QUERIES, 64) * np.float32(size)),
        to_bf16(chance(2, 192, 64)),
        to_bf16(chance(3, 192, 64)),
    )
    scale = np.float32(256 / np.log(2) / 8)
    found = attend(kernels, q, k, v, scale, first_query, keys, causal)
    assert np.array_equal(found, attention_bf16(q, k, v, scale, first_query, keys, bool(causal)))
    logits = from_bf16(q).astype(np.float64) @ from_bf16(k).T / 8
    key, query = np.arange(192), np.arange(first_query, first_query + QUERIES)[:, None]
    visible = (key < keys) & ((key <= query) | (not causal))
    powers = np.exp(
        logits - np.where(visible, logits, -1e9).max(axis=1, keepdims=True), where=visible, out=0 * logits
    )
    exact = powers / np.maximum(powers.sum(axis=1, keepdims=True), 1e-30) @ from_bf16(v)
    if size <= 1:
        assert np.allclose(from_bf16(found), exact, rtol=2**-6, atol=1e-2)


def test_rope_bf16(kernels: HostKernels) -> None:
    """Turns the first pairs, and leaves the rest."""
    x, angle = to_bf16(chance(1, 9, 64) * 30), chance(2, 9, 16)
    cosine, sine = to_bf16(np.cos(angle)), to_bf16(np.sin(angle))
    turned = x.copy()
    kernels.call("rope_bf16", [*(each.view(np.uint8) for each in (turned, cosine, sine)), 9, 64, 16])
    assert np.array_equal(turned, rope_bf16(x, cosine, sine))
    assert np.array_equal(turned[:, 32:], x[:, 32:])


def linear(
    kernels: HostKernels,
    x: Values,
    weights: Values,
    table: Values | None = None,
    residual: Values | None = None,
) -> Values:
    """[rows, k] times [k, n] with what follows, all in bf16, tile by tile; without a bias where there is no table."""
    a, b = (np.pad(each, ((0, -len(each) % by), (0, -each.shape[1] % to))) for each, by, to in (
        (x, 64, 32), (weights[0], 32, 64)
    ))  # fmt: skip
    bias = np.pad(weights[1], (0, b.shape[1] - len(weights[1])))
    out = np.zeros((len(a), b.shape[1]), np.uint16)
    added = out.copy()
    if residual is not None:
        added[: len(residual), : residual.shape[1]] = residual
    for m, n in np.ndindex(len(a) // 64, b.shape[1] // 64):
        rows, columns = (slice(at * 64, at * 64 + 64) for at in (m, n))
        c, tile = np.zeros((16, 16, 4, 4), np.float32), np.zeros((16, 16, 4, 4), np.uint16)
        for k in range(0, a.shape[1], 32):
            pair = blocked(a[rows, k : k + 32], 4, 8), blocked(b[k : k + 32, columns], 8, 4)
            kernels.call("gemm_bf16", [each.view(np.uint8) for each in (*pair, c)])
        memory = (
            c, bias[columns].astype(np.float32), np.zeros(257, np.float32) if table is None else table,
            blocked(added[rows, columns], 4, 4), tile,
        )  # fmt: skip
        flags = (int(table is not None), int(residual is not None))
        kernels.call("epilogue_bf16", [*(each.view(np.uint8) for each in memory), *flags])
        out[rows, columns] = unblocked(tile)
    return np.ascontiguousarray(out[: len(x), : weights[0].shape[1]])


def test_encoder_layers(
    kernels: HostKernels, reference: ReferenceBackend, weights: Weights, clips: dict[str, NDArray[np.float32]]
) -> None:
    """All six of Moonshine's on speech, every value between kernels in bf16: 0.999 of float32 at the end."""
    expected = reference._stem(clips["two_cities"][: 2 * SAMPLE_RATE].reshape(1, -1))
    x = to_bf16(expected)
    angle = np.arange(len(x))[:, None] * weights.frequencies
    turns = to_bf16(np.cos(angle)), to_bf16(np.sin(angle))
    table = fp32.gelu((np.arange(-128, 129) / 16).astype(np.float32))

    def product(h: Values, matrix: Linear, **others: Values) -> Values:
        bias = np.zeros(matrix.values.shape[1]) if matrix.bias is None else matrix.bias
        return linear(kernels, h, (to_bf16(matrix.dense()), bias), **others)

    def norm(gain: Values) -> Values:
        out = np.zeros(x.shape, np.uint16)
        memory = (x, gain, np.zeros_like(gain), np.zeros(x.shape[1] + 16, np.float32), out)
        kernels.call("layer_norm_bf16", [*(each.view(np.uint8) for each in memory), *x.shape])
        return out

    for layer in weights.encoder:
        expected = reference._encoder_layer(expected, layer, TINY.heads)
        attention, h = layer.attention, norm(layer.attention_norm.gain)
        heads = [product(h, each) for each in (attention.query, attention.key, attention.value)]
        seen = []
        for head in range(8):
            q, k, v = (np.ascontiguousarray(each[:, 36 * head : 36 * head + 36]) for each in heads)
            for each in (q, k):
                memory = [*(part.view(np.uint8) for part in (each, *turns)), len(x), 36, 16]
                kernels.call("rope_bf16", memory)
            q, k, v = (np.pad(each, ((0, -len(x) % 64), (0, 64 - 36))) for each in (q, k, v))
            scale = np.float32(256 / np.log(2) / 6)
            parts = [
                attend(kernels, q[at : at + QUERIES], k, v, scale, at, len(x), 0)
                for at in range(0, len(x), QUERIES)
            ]
            seen.append(np.concatenate(parts)[: len(x), :36])
        x = product(np.concatenate(seen, axis=1), attention.output, residual=x)
        hidden = product(norm(layer.network_norm.gain), layer.up, table=table)
        x = product(hidden, layer.down, residual=x)
    found = from_bf16(x).astype(np.float64).ravel()
    wanted = expected.astype(np.float64).ravel()
    cosine = found @ wanted / np.sqrt((found @ found) * (wanted @ wanted))
    assert cosine >= 0.999, cosine
