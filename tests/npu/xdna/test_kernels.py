"""Both host paths of every kernel compute what its oracle says, bit for bit, on random and on extreme inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npu.backends.reference import gelu, silu
from npu.xdna import oracle
from npu.xdna.curves import curve_of
from npu.xdna.encoder_i8 import Operators, value_scales
from npu.xdna.gemm import STACK
from npu.xdna.host_kernels import HostKernels
from npu.xdna.oracle import TILE, blocked, unblocked
from npu.xdna.quant_parts import Normalisation
from npu.xdna.target import NPU1

Values = NDArray[Any]

SQUARE = (TILE, TILE)
HALF = TILE // 2  # columns of a tile in 16 bits
SCALES = 5  # row of statistics where those of rows begin


def ask(kernels: HostKernels, name: str, *arguments: Values | int) -> None:
    """Calls a kernel on arrays of any kind."""
    flat = [each if isinstance(each, int) else each.reshape(-1).view(np.uint8) for each in arguments]
    kernels.call(name, flat)


def chance_i8(seed: int, extreme: bool, shape: tuple[int, ...] = SQUARE) -> NDArray[np.int8]:
    random = np.random.default_rng(seed)
    if extreme:
        return random.choice(np.array([-128, 127], np.int8), shape)
    return random.integers(-128, 128, shape, np.int8)


def extremes(seed: int, kind: type[np.signedinteger[Any]], shape: tuple[int, ...]) -> Values:
    """The largest, the smallest and the middle."""
    info = np.iinfo(kind)
    return np.random.default_rng(seed).choice(np.array([info.min, info.max, -1, 0, 1], kind), shape)


def i32(values: Values) -> NDArray[np.int32]:
    return np.ascontiguousarray(values, np.int32)


CURVE = curve_of(gelu, oracle.ACTIVATION_BITS)


def test_stacks(kernels: HostKernels) -> None:
    """No kernel needs more than what a core has without asking. On the vector path this machine puts on the stack what
    are registers there, so its designs' reserve is the limit.
    """
    assert kernels.stacks
    limit = STACK if kernels.vector else NPU1.default_stack
    assert max(kernels.stacks.values()) + 32 <= limit, kernels.stacks


@pytest.mark.parametrize("extreme", [False, True])
def test_gemm_i8(kernels: HostKernels, extreme: bool) -> None:
    """Adds exact 32-bit sums to what was there."""
    a, b = chance_i8(1, extreme), chance_i8(2, extreme)
    c = i32(np.random.default_rng(3).integers(-(2**20), 2**20, SQUARE))
    sums = blocked(c, 4, 8)
    ask(kernels, "gemm_i8", blocked(a, 4, 8), blocked(b, 8, 8), sums)
    assert np.array_equal(unblocked(sums), oracle.product(a, b, c))
    assert np.array_equal(unblocked(sums), c + a.astype(np.int32) @ b.astype(np.int32))
    ask(kernels, "zero_i32", sums)
    assert not sums.any()


@pytest.mark.parametrize("shifts", [(0, 0), (1, 31), (20, 16), (31, 24)])
@pytest.mark.parametrize("activation", [0, 1])
@pytest.mark.parametrize(("residual", "down"), [(0, 0), (1, 0), (1, 3)])
@pytest.mark.parametrize("extreme", [False, True])
def test_epilogue(
    kernels: HostKernels, shifts: tuple[int, int], activation: int, residual: int, down: int, extreme: bool
) -> None:
    """Scales, rounds, saturates, activates and adds as stated."""
    random = np.random.default_rng(5)
    if extreme:
        c, channel, bias = (
            extremes(seed, np.int32, s) for seed, s in ((6, SQUARE), (7, (TILE,)), (8, (TILE,)))
        )
        token, added = np.maximum(extremes(9, np.int32, (TILE,)), 0), extremes(10, np.int16, SQUARE)
    else:
        c = i32(random.integers(-(2**22), 2**22, SQUARE))
        channel = i32(random.integers(0, 2 ** min(30, shifts[0]) + 1, TILE))
        token = i32(random.integers(0, 2 ** max(0, shifts[1] - 9) + 1, TILE))
        bias, added = (
            i32(random.integers(-(2**12), 2**12, TILE)),
            random.integers(-(2**12), 2**12, SQUARE, np.int16),
        )
    columns, statistics = np.zeros(1024, np.int32), np.zeros((8, TILE), np.int32)
    columns[:TILE], columns[TILE : 2 * TILE], columns[128:130] = channel, bias, shifts
    columns.view(np.int16)[264 : 264 + len(CURVE)], statistics[SCALES] = CURVE, token
    sums, out = blocked(c, 4, 8), np.zeros((2, 16, 8, 4, 4), np.int16)
    ask(kernels, "settle_i32", sums, columns, statistics)
    if activation:
        ask(kernels, "activate_i16", sums, columns)
    for half, tile in enumerate(out):
        ask(kernels, "narrow_i16", sums, tile, half)
        if residual:
            ask(kernels, "add_half_i16", blocked(added[:, half * HALF :][:, :HALF], 8, 4), tile, down)
    if residual:
        added = oracle.round_even(added, down).astype(np.int16)
    expected = oracle.epilogue(
        c, channel, token, bias, *shifts, CURVE if activation else None, added if residual else None
    )
    assert np.array_equal(np.concatenate([unblocked(tile) for tile in out], axis=1), expected)


def floats(seed: int, shape: tuple[int, ...] = SQUARE) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    return (random.standard_normal(shape) * np.exp(random.standard_normal(shape))).astype(np.float32)


def test_rounding_to_bf16(kernels: HostKernels) -> None:
    """Goes to nearest, halves to even, for every kind of float."""
    halves = (np.arange(0x3F80, 0x3F80 + 512, dtype=np.uint32) << 16 | 0x8000).view(np.float32)
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, -3.4e38, 1e-45, 1.17e-38], np.float32)
    bits = np.random.default_rng(4).integers(0, 2**32, TILE * TILE, np.uint32)
    c = bits.view(np.float32).copy()
    c[: len(halves)], c[512 : 512 + len(special)] = halves, special
    c[np.isnan(c)] = np.nan
    out = np.zeros(c.shape, np.uint16)
    expected = oracle.to_bf16(c)
    ask(kernels, "narrow_bf16", c, out)
    assert np.array_equal(out, expected)
    assert not (expected[:512] & 1).any()


def test_gemm_bf16(kernels: HostKernels) -> None:
    """Sums in float in the order of depth; what is narrowed is within one unit of the exact sum's rounding."""
    a, b = oracle.to_bf16(floats(1, (TILE, TILE // 2))), oracle.to_bf16(floats(2, (TILE // 2, TILE)))
    c = floats(3)
    sums = blocked(c, 4, 4)
    ask(kernels, "gemm_bf16", blocked(a, 4, 8), blocked(b, 8, 4), sums)
    assert np.array_equal(unblocked(sums), oracle.product_bf16(a, b, c))
    exact = c.astype(np.float64) + oracle.from_bf16(a).astype(np.float64) @ oracle.from_bf16(b)
    large = (
        np.abs(exact) > 0.05
    )  # near zero sums cancel, and the units are smaller than the float sum's own error
    apart = oracle.to_bf16(exact).astype(np.int64) - oracle.to_bf16(unblocked(sums))
    assert np.abs(apart[large]).max() <= 1
    ask(kernels, "zero_f32", sums)
    assert not sums.any()


@pytest.mark.parametrize("kind", ["random", "extreme", "constant", "zero", "one outlier"])
@pytest.mark.parametrize("width", [16, 288, 1280])
@pytest.mark.parametrize("offset", [False, True])
def test_layer_norm(operators: Operators, kind: str, width: int, offset: bool) -> None:
    """Every row with a scale of its own, from statistics that are exact."""
    random = np.random.default_rng(width)
    x = random.integers(-3000, 3000, (5, width), np.int16)
    if kind == "extreme":
        x = extremes(1, np.int16, (5, width))
    elif kind in ("constant", "zero"):
        x[:] = 32767 if kind == "constant" else 0
    elif kind == "one outlier":
        x[:], x[:, 3] = 1, -32768
    gain, added = (i32(random.integers(-(2**15), 2**15, width)) for _ in range(2))
    added *= offset
    none = np.zeros(width, np.float32)
    q, token = operators.layer_norm(x, Normalisation(gain, added, 1, none, none))
    expected, scales = oracle.layer_norm(x, gain, added, 1)
    assert np.array_equal(q, expected)
    assert np.array_equal(token, scales)


@pytest.mark.parametrize("extreme", [False, True])
def test_quantise(operators: Operators, extreme: bool) -> None:
    """Rows in steps of their largest."""
    random = np.random.default_rng(4)
    x = extremes(2, np.int16, (7, 320)) if extreme else random.integers(-900, 900, (7, 320), np.int16)
    x[3] = 0
    gain = i32(random.integers(0, 2**13, 320))
    q, token = operators.quantise(x, gain)
    expected, scales = oracle.quantise(x, gain)
    assert np.array_equal(q, expected)
    assert np.array_equal(token, scales)


def attend(
    kernels: HostKernels, q: Values, k: Values, v: Values, scales: Any, shift: int,
    first_query: int = 0, keys: int | None = None, causal: bool = False,
) -> Values:  # fmt: skip
    """The four kernels in turn, as a core calls them."""
    o, turned, out = (
        np.zeros(TILE * TILE, np.int32),
        np.zeros(4096, np.int8),
        np.zeros((2, 16, 8, 4, 4), np.int16),
    )
    statistics, tiles, kept = (
        np.zeros((8, TILE), np.int32),
        np.zeros((3, 4096), np.int8),
        np.zeros(128, np.int32),
    )
    tiles[0] = blocked(q, 4, 8).ravel()
    kept[2:8] = len(k) if keys is None else keys, causal, shift, 0, first_query, TILE
    ask(kernels, "attention_start_i8", statistics, o)
    for first in range(0, len(k), TILE):
        span = slice(first, first + TILE)
        statistics[SCALES:] = scales[0], scales[1][span], scales[2][span]
        ask(kernels, "turn_keys_i8", blocked(k[span], 8, 8), turned)
        ask(kernels, "attention_step_i8", tiles, turned, blocked(v[span], 8, 8), kept, statistics, o)
    for half, tile in enumerate(out):
        ask(kernels, "attention_finish_i8", o, statistics, tile, half)
    return np.concatenate([unblocked(tile) for tile in out], axis=1)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("first_query", "keys"), [(0, 192), (64, 130), (0, 0), (100, 65), (0, 1)])
@pytest.mark.parametrize("shift", [36, 30, 24, 0])
def test_attention(kernels: HostKernels, causal: bool, first_query: int, keys: int, shift: int) -> None:
    """Masked before the maximum, online over the tiles of keys, from flat weights to a single one."""
    random = np.random.default_rng(shift + keys)
    q, k, v = (chance_i8(seed, False, (n, TILE)) for seed, n in ((1, TILE), (2, 192), (3, 192)))
    scales = (
        random.integers(0, 2**24, TILE),
        random.integers(0, 2**24, 192),
        random.integers(0, 65281, 192),
    )
    found = attend(kernels, q, k, v, scales, shift, first_query, keys, causal)
    assert np.array_equal(found, oracle.attention(q, k, v, scales, shift, first_query, keys, causal))


def test_attention_extremes(kernels: HostKernels) -> None:
    """The largest scores and values there are overflow nowhere."""
    q, k, v = (chance_i8(seed, True, (n, TILE)) for seed, n in ((1, TILE), (2, 512), (3, 512)))
    most = np.iinfo(np.int32).max
    for scales in (
        (np.full(TILE, most), np.full(512, most), np.full(512, oracle.VALUE_STEPS)),
        (np.zeros(TILE), np.zeros(512), np.full(512, oracle.VALUE_STEPS)),
    ):
        found = attend(kernels, q, k, v, scales, 0)
        assert np.array_equal(found, oracle.attention(q, k, v, scales, 0))


def test_attention_sees_what_it_should(kernels: HostKernels) -> None:
    """Queries of one tile see keys of all others, and none that are masked: what is hidden can be anything."""
    q, k, v = (chance_i8(seed, False, (n, TILE)) for seed, n in ((1, TILE), (2, 128), (3, 128)))
    scales = (np.full(TILE, 1 << 23), np.full(128, 1 << 23), np.full(128, oracle.VALUE_STEPS))
    first = attend(kernels, q, k, v, scales, 30, first_query=32, keys=100, causal=True)
    k[96:], v[96:] = 127, -128  # the last query is the 95th
    assert np.array_equal(first, attend(kernels, q, k, v, scales, 30, first_query=32, keys=100, causal=True))
    v[:32] += 1
    assert not np.array_equal(
        first, attend(kernels, q, k, v, scales, 30, first_query=32, keys=100, causal=True)
    )


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("extreme", [False, True])
def test_heads(kernels: HostKernels, extreme: bool, part: int) -> None:
    """The first pairs of queries and keys are turned, the rest is left; then rows in steps of their largest."""
    random = np.random.default_rng(3)
    x = extremes(4, np.int16, SQUARE) if extreme else random.integers(-9000, 9000, SQUARE, np.int16)
    x[5] = 0
    angle = random.uniform(0, 6.3, (TILE, HALF // 2))
    cosine, sine = (np.round(f(angle) * (1 << oracle.ANGLE_BITS)).astype(np.int16) for f in (np.cos, np.sin))
    turns = np.repeat(np.stack([cosine, sine]), 2, axis=2)
    turns[1, :, ::2] *= -1
    tiles, head, statistics = np.stack([blocked(each, 4, 4) for each in turns]), *empty(SQUARE, (8, TILE))
    for half in range(2):
        tile = blocked(x[:, half * HALF :][:, :HALF], 4, 4)
        ask(kernels, "keep_head_i16", tile, tiles, head, half, int(part < 2))
    turned = oracle.rope(x, cosine, sine) if part < 2 else x
    assert np.array_equal(head.view(np.int16).reshape(-1, *SQUARE)[0], turned)
    factor, out = i32(np.full(1024, 3 << 16)), np.zeros((16, 8, 4, 8), np.int8)
    ask(kernels, "scale_head", head, factor, statistics, part)
    ask(kernels, "narrow_head_i8", head, statistics, out)
    values, scale = oracle.quantise(turned, np.full(TILE, 1 << oracle.GAIN_BITS))
    assert np.array_equal(unblocked(out), values)
    assert np.array_equal(statistics[SCALES + part], value_scales(scale, 3 << 16) if part == 2 else scale)


def empty(*shapes: tuple[int, ...]) -> list[NDArray[np.int32]]:
    return [np.zeros(shape, np.int32) for shape in shapes]


def test_scales_travel(kernels: HostKernels) -> None:
    """What a core wrote of three tiles' scales arrives on the way of A, and of B."""
    statistics = i32(np.random.default_rng(1).integers(0, 2**31, (8, TILE)))
    out = np.zeros(4096, np.uint8)
    ask(kernels, "scales_out", statistics, out)
    rows = unblocked(out.reshape(16, 8, 4, 8))
    of_rows, of_keys = empty((8, TILE), (8, TILE))
    ask(kernels, "keep_row_scales", blocked(rows, 4, 8), of_rows)
    ask(kernels, "keep_key_scales", blocked(rows, 8, 8), of_keys)
    assert np.array_equal(of_rows[SCALES], statistics[SCALES])
    assert np.array_equal(of_keys[SCALES + 1 :], statistics[SCALES + 1 :])


@pytest.mark.parametrize("extreme", [False, True])
def test_swiglu_i16(kernels: HostKernels, extreme: bool) -> None:
    """The hidden half times SiLU of its gate."""
    curve = curve_of(silu, oracle.ACTIVATION_BITS)
    random = np.random.default_rng(3)
    hidden, gate = (
        extremes(seed, np.int16, (512,)) if extreme else random.integers(-9000, 9000, 512, np.int16)
        for seed in (1, 2)
    )  # fmt: skip
    out = np.zeros(512, np.int16)
    for shift in (0, 7, 10, 16):
        ask(kernels, "swiglu_i16", hidden, gate, curve, out, 512, shift)
        assert np.array_equal(out, oracle.swiglu(hidden, gate, curve, shift))


@pytest.mark.parametrize("extreme", [False, True])
def test_gemv_i8(kernels: HostKernels, extreme: bool) -> None:
    """One row times a tile of a matrix."""
    x, w = chance_i8(1, extreme, (TILE,)), chance_i8(2, extreme)
    before = i32(np.arange(TILE) * 1000)
    y = before.copy()
    ask(kernels, "gemv_i8", x, w, y)
    assert np.array_equal(y, oracle.product(x[None], w, before)[0])
