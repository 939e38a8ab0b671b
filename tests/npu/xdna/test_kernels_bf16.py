"""Epilogues, layer norm, rotation and attention in bf16, tile by tile: both paths as their oracle, and close to float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.backends.reference import gelu
from npu.xdna.host_kernels import HostKernels
from npu.xdna.oracle import TILE, blocked, from_bf16, to_bf16, unblocked
from npu.xdna.oracle_bf16 import (
    KEYS,
    QUERIES,
    Seen,
    activated_bf16,
    attention_bf16,
    epilogue_bf16,
    fixed_scores,
    layer_norm_bf16,
    power_bf16,
    reciprocal_bf16,
    rope_bf16,
    two_to,
    weights_bf16,
)
from npu.xdna.overlay import DEPTH, Activation

Values = NDArray[Any]


def chance(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ask(kernels: HostKernels, name: str, *arguments: Values | int) -> None:
    """Calls a kernel on arrays of any kind."""
    kernels.call(name, [each if isinstance(each, int) else each.view(np.uint8) for each in arguments])


def activate(kernels: HostKernels, sums: NDArray[np.float32], function: Activation) -> None:
    """The function's kernel on sums."""
    if function is Activation.GELU:
        ask(kernels, "gelu_f32", sums)
    else:
        ask(kernels, "activate_f32", sums, int(function))


def words(**said: float | int) -> NDArray[np.int32]:
    """[128]: what is kept of a header; w3=... is its word 3."""
    kept = np.zeros(128, np.int32)
    for name, value in said.items():
        kept[int(name[1:])] = np.float32(value).view(np.int32) if isinstance(value, float) else value
    return kept


def tiles(x: Values) -> list[Values]:
    """[64, n] as tiles of A."""
    return [blocked(x[:, at : at + DEPTH], 4, 8) for at in range(0, x.shape[1], DEPTH)]


@pytest.mark.parametrize("function", [None, *Activation])
@pytest.mark.parametrize("joined", [None, "added", "multiplied"])
def test_epilogue(kernels: HostKernels, function: Activation | None, joined: str | None) -> None:
    """Bias, function and what is joined in float, narrowed once."""
    c, bias, other = chance(1, TILE, TILE) * 3, chance(2, TILE), to_bf16(chance(3, TILE, TILE))
    columns, sums, out = np.zeros(1024, np.float32), blocked(c, 4, 4), np.zeros((16, 16, 4, 4), np.uint16)
    columns[:TILE] = bias
    ask(kernels, "start_f32", sums, columns)
    if function is not None:
        activate(kernels, sums, function)
    for which in range(2 if joined else 0):
        half = blocked(other[which * 32 : which * 32 + 32], 8, 4)
        ask(kernels, "join_half_f32", half, sums, which, int(joined == "multiplied"))
    ask(kernels, "narrow_bf16", sums, out)
    expected = epilogue_bf16(c, bias, function, other if joined else None, joined == "multiplied")
    assert np.array_equal(unblocked(out), expected)


TOLERANCES = {Activation.GELU: 2.5e-4, Activation.SILU: 1e-3, Activation.TANH: 0}  # absolute
EXACT = {Activation.GELU: gelu, Activation.SILU: lambda x: x / (1 + np.exp(-x)), Activation.TANH: np.tanh}


@pytest.mark.parametrize("function", Activation)
def test_activation(kernels: HostKernels, function: Activation) -> None:
    """As close as bf16 is, from one far end to the other; a tangent near zero keeps all its digits."""
    x = np.concatenate(
        [np.linspace(-14, 14, TILE * TILE - 90), np.geomspace(1e-6, 0.5, 80), 10.0 ** np.arange(-1, 9)]
    )
    x = x.astype(np.float32) * np.where(np.arange(x.size) % 2, 1, -1).astype(np.float32)
    found = x.copy()
    activate(kernels, found, function)
    assert np.array_equal(found, activated_bf16(x, function))
    with np.errstate(over="ignore"):
        exact = EXACT[function](x.astype(np.float64))
    assert np.allclose(found, exact, rtol=2**-8, atol=TOLERANCES[function])


def test_gelu_of_zero(kernels: HostKernels) -> None:
    """Is zero."""
    found = np.zeros(TILE * TILE, np.float32)
    activate(kernels, found, Activation.GELU)
    assert not found.any()


def test_weights() -> None:
    """One of bf16's last places from 2^score at the most, from 16 above the level to 45 below; further down zero."""
    scores, level = np.linspace(-45, 16, 500_001).astype(np.float32), fixed_scores(np.zeros(1, np.float32))
    found, exact = weights_bf16(fixed_scores(scores), level), to_bf16(2.0 ** (scores.astype(np.float64) - 81))
    assert np.abs(found.astype(np.int64) - exact).max() <= 1
    assert not weights_bf16(fixed_scores(np.array([-46.01, -1e3, -1e9], np.float32)), level).any()


def test_powers_and_reciprocals() -> None:
    """A power is as close as bf16 is, and a reciprocal closer."""
    x = np.linspace(-40, 40, 100_001).astype(np.float32)
    exponent, fraction = power_bf16(x, -126, 127)
    assert np.allclose(fraction * two_to(exponent), 2.0 ** x.astype(np.float64), rtol=2**-7.8)
    x = np.geomspace(1e-20, 1e20, 100_001).astype(np.float32)
    assert np.allclose(reciprocal_bf16(x), 1 / x.astype(np.float64), rtol=1e-4)
    assert not two_to(np.array([-127, -(1 << 30)])).any()


@pytest.mark.parametrize("width", [64, 320, 1280])
@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 1e4])
def test_layer_norm(kernels: HostKernels, width: int, size: float) -> None:
    """Also of rows that are constant, and with a channel that stands out."""
    values = chance(1, TILE, width) * np.float32(size) + np.float32(size)
    values[1, 5] *= 300
    x, gain, offset = to_bf16(values), chance(2, width), chance(3, width)
    lanes, statistics = np.zeros((2, 16, 4, 8), np.float32), np.zeros(3 * TILE, np.float32)
    for tile in tiles(x):
        ask(kernels, "add_up_bf16", tile, lanes)
    ask(kernels, "row_statistics_f32", lanes, words(w3=1 / width), statistics)
    found = normalised(kernels, x, statistics, gain, offset)
    assert np.array_equal(found, layer_norm_bf16(x, gain, offset))
    exact = from_bf16(x).astype(np.float64)
    exact -= exact.mean(axis=1, keepdims=True)
    exact = exact / np.sqrt(exact.var(axis=1, keepdims=True) + 1e-5) * gain + offset
    assert np.allclose(from_bf16(found), exact, rtol=2**-7, atol=2e-2 if size > 1 else 3e-3)


def normalised(kernels: HostKernels, x: Values, statistics: Values, gain: Values, offset: Values) -> Values:
    """[64, n], 64 columns at a time."""
    parts = []
    for at in range(0, x.shape[1], TILE):
        columns, out = np.zeros(1024, np.float32), np.zeros((16, 16, 4, 4), np.uint16)
        columns[:TILE], columns[TILE : 2 * TILE] = gain[at : at + TILE], offset[at : at + TILE]
        for half, tile in enumerate(tiles(x[:, at : at + TILE])):
            ask(kernels, "normalise_bf16", tile, statistics, columns, out, half)
        parts.append(unblocked(out))
    return np.concatenate(parts, axis=1)


def test_group_norm(kernels: HostKernels) -> None:
    """Rows that do not count are left out of the statistics; what sixteen cores saw is one group."""
    counted, cores = 40, 16
    groups = [to_bf16(chance(seed, 2 * TILE, TILE) * 3 + 1) for seed in range(cores)]
    partials = np.zeros((cores, 2 * TILE), np.uint16)
    for x, partial in zip(groups, partials, strict=True):
        total, out = np.array([1e9, 1e9], np.float32), np.zeros((16, 16, 4, 4), np.uint16)
        for first, rows in ((0, TILE), (TILE, counted)):
            lanes = np.zeros((2, 16, 4, 8), np.float32)
            for tile in tiles(x[first : first + TILE]):
                ask(kernels, "add_up_bf16", tile, lanes)
            ask(kernels, "group_add_f32", lanes, words(w4=rows, w5=int(first == 0)), total)
        ask(kernels, "group_out_f32", total, out)
        partial[:] = out.ravel()[: 2 * TILE]
    everything = np.concatenate([from_bf16(x[: TILE + counted]) for x in groups]).astype(np.float64)
    statistics = np.zeros(3 * TILE, np.float32)
    ask(kernels, "group_statistics_f32", partials, words(w3=1 / everything.size), statistics)
    assert np.allclose(statistics[:TILE], everything.mean(), rtol=1e-5)
    assert np.allclose(statistics[TILE : 2 * TILE], 1 / everything.std(), rtol=1e-5)


def attend(
    kernels: HostKernels, q: Values, k: Values, v: Values, scale: float, seen: Seen
) -> NDArray[np.uint16]:
    """The four kernels in turn."""
    statistics, o = np.zeros(9 * TILE, np.int32), np.zeros((16, 16, 4, 4), np.float32)
    turned, out = np.zeros((8, 8, 8, 4), np.uint16), np.zeros((16, 16, 4, 4), np.uint16)
    kept = words(
        w1=seen.past // KEYS, w4=scale, w5=seen.groups, w6=seen.queries, w7=seen.shared, w8=int(seen.alone)
    )
    kept[TILE : 2 * TILE] = seen.keys
    pair = np.zeros((2, 16, 4, 4, 8), np.uint16)
    for which, tile in enumerate(tiles(q)):
        ask(kernels, "keep_queries_bf16", tile, kept, pair, which)
    ask(kernels, "attention_start_bf16", statistics, o)
    for first in range(0, len(k), KEYS):
        ask(kernels, "turn_keys_bf16", blocked(k[first : first + KEYS], 8, 4), turned)
        assert np.array_equal(unblocked(turned), k[first : first + KEYS].T)
        values = blocked(v[first : first + KEYS], 8, 4)
        memory = (pair, turned, values, kept, out, statistics, o)
        ask(kernels, "attention_step_bf16", *memory)
    ask(kernels, "attention_finish_bf16", o, statistics, out)
    return unblocked(out)


def keys_of(*keys: int) -> NDArray[np.int64]:
    """[64]: the last for all that follow."""
    return np.array([*keys, *(TILE - len(keys)) * keys[-1:]], np.int64)


SEEN = {
    "all": Seen(192, keys_of(192)),
    "some": Seen(192, keys_of(130), queries=37),
    "none": Seen(192, keys_of(0)),
    "one": Seen(192, keys_of(1), queries=3),
    "their own": Seen(0, keys_of(0)),
    "past and their own": Seen(128, keys_of(96), queries=50),
    "groups": Seen(192, keys_of(40, 64, 7, 33, 1, 0), groups=3, shared=2),
    "groups and their own alone": Seen(128, keys_of(17, 64), groups=2, shared=1, alone=True, queries=2),
    "their own alone": Seen(128, keys_of(96), alone=True),
}


@pytest.mark.parametrize("name", SEEN)
@pytest.mark.parametrize("size", [0.0, 1.0, 100.0, 1e4])
def test_attention(kernels: HostKernels, name: str, size: float) -> None:
    """Masked before the maximum, online over the tiles of keys, from flat weights to a single one."""
    q, k, v = (
        to_bf16(chance(1, QUERIES, 64) * np.float32(size)),
        to_bf16(chance(2, 192, 64)),
        to_bf16(chance(3, 192, 64)),
    )
    scale, seen = np.float32(1 / np.log(2) / 8), SEEN[name]
    found = attend(kernels, q, k, v, float(scale), seen)
    assert np.array_equal(found, attention_bf16(q, k, v, scale, seen))
    logits = from_bf16(q).astype(np.float64) @ from_bf16(k).T / 8
    visible = np.concatenate([seen.visible(first) for first in range(0, 192, KEYS)], axis=1)
    powers = np.exp(
        logits - np.where(visible, logits, -1e9).max(axis=1, keepdims=True), where=visible, out=0 * logits
    )
    exact = powers / np.maximum(powers.sum(axis=1, keepdims=True), 1e-30) @ from_bf16(v)
    if size <= 1:
        assert np.allclose(from_bf16(found), exact, rtol=2**-6, atol=1e-2)


def test_visible_keys() -> None:
    """By hand: two groups of one query each have 32 keys in turn, then each sees its own."""
    seen = Seen(128, keys_of(40, 3), groups=2, shared=1, alone=True, queries=2)
    visible = np.concatenate([seen.visible(first) for first in range(0, 192, KEYS)], axis=1)
    assert np.array_equal(np.flatnonzero(visible[0]), [*range(32), *range(64, 72), 128])
    assert np.array_equal(np.flatnonzero(visible[1]), [32, 33, 34, 129])
    assert not visible[2:].any()


def test_rotation(kernels: HostKernels) -> None:
    """Turns pairs at the beginning of a head, and leaves the rest of it."""
    x, angle = to_bf16(chance(1, TILE, TILE) * 30), chance(2, TILE, 12)
    cosine, sine = to_bf16(np.cos(angle)), to_bf16(np.sin(angle))
    turns = np.zeros((2, TILE, DEPTH), np.uint16)
    turns[0] = to_bf16(np.ones((TILE, DEPTH)))
    turns[0, :, :24], turns[1, :, 1:24:2] = np.repeat(cosine, 2, axis=1), sine
    turns[1, :, :24:2] = sine ^ 0x8000
    laid, out = np.stack([blocked(each, 4, 8) for each in turns]), np.zeros((16, 16, 4, 4), np.uint16)
    for half, tile in enumerate(tiles(x)):
        ask(kernels, "turn_rows_bf16", tile, laid, out, half)
    assert np.array_equal(unblocked(out), rope_bf16(x, cosine, sine))
    assert np.array_equal(unblocked(out)[:, 24:], x[:, 24:])
