"""Layer norm and attention in bf16: both paths as their oracle, and close to float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.xdna import oracle
from npu.xdna.host_kernels import HostKernels
from npu.xdna.oracle import blocked, from_bf16, to_bf16, unblocked
from npu.xdna.oracle_bf16 import KEYS, QUERIES, attention_bf16, layer_norm_bf16

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
