"""What each kernel of the NPU computes, exactly, in NumPy: the arithmetic that both of its paths are held to.

Matrices are plain here, [rows, columns]; `blocked` and `unblocked` go to and from the order of the matrix unit.
"""

from __future__ import annotations

from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bits = NDArray[np.uint16]  # bf16 as its 16 bits

TILE = 64
ACTIVATION_BITS = 10  # fraction bits of what a table of activations is asked for
_STEP_BITS = 6  # of these lie between two entries of the table
_RANGE = 8  # the table covers -8..8


def blocked(x: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """[m, n] -> [m / rows, n / columns, rows, columns], in one piece."""
    m, n = x.shape
    return np.ascontiguousarray(x.reshape(m // rows, rows, n // columns, columns).swapaxes(1, 2))


def unblocked(x: NDArray[Any]) -> NDArray[Any]:
    """[m / rows, n / columns, rows, columns] -> [m, n]."""
    i, j, rows, columns = x.shape
    return np.ascontiguousarray(x.swapaxes(1, 2).reshape(i * rows, j * columns))


# fixed point


def round_even(value: NDArray[Any], shift: int | NDArray[Any]) -> Ints:
    """value / 2^shift to the nearest integer, halves to even."""
    value = np.asarray(value, np.int64)
    down = value >> shift
    rest = value - (down << shift)
    half = (np.int64(1) << shift) >> 1
    up = (rest > half) | ((rest == half) & (down & 1 == 1))
    rounded: Ints = np.where(np.asarray(shift) == 0, value, down + up)
    return rounded


def saturate(value: NDArray[Any], bits: int) -> Ints:
    """Into so many bits, signed."""
    limit = 1 << (bits - 1)
    clipped: Ints = np.clip(value, -limit, limit - 1).astype(np.int64)
    return clipped


def product(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any] | int = 0) -> NDArray[np.int32]:
    """c + a @ b in 32 bits, which wrap; [m, k], [k, n], [m, n]."""
    exact = np.asarray(a, np.float64) @ np.asarray(b, np.float64)  # of 8-bit values: exact far beyond 32 bits
    return (exact.astype(np.int64) + c).astype(np.int32)


def activated(x: NDArray[Any], table: NDArray[np.int16]) -> Ints:
    """The table's function of 16-bit values with 10 fraction bits; lines between its 257 entries."""
    at = np.asarray(x, np.int64) + (_RANGE << ACTIVATION_BITS)
    i = np.clip(at >> _STEP_BITS, 0, 255)
    entries = table.astype(np.int64)
    between = entries[i] + round_even(
        (entries[i + 1] - entries[i]) * (at & ((1 << _STEP_BITS) - 1)), _STEP_BITS
    )
    found: Ints = np.where(at < 0, entries[0], np.where(at >> _STEP_BITS >= 256, x, between))
    return found


def activation_table(function: Any) -> NDArray[np.int16]:
    """[257]: a function at -8, -8 + 1/16, ... 8, with 10 fraction bits."""
    x = np.arange(-_RANGE * 16, _RANGE * 16 + 1) / 16
    return np.asarray(np.round(function(x) * (1 << ACTIVATION_BITS)), np.int16)


def epilogue(
    c: NDArray[Any],
    channel: NDArray[Any],
    token: NDArray[Any],
    bias: NDArray[Any],
    channel_shift: int,
    token_shift: int,
    table: NDArray[np.int16] | None = None,
    residual: NDArray[Any] | None = None,
) -> NDArray[np.int16]:
    """Sums c [m, n] times the scales of columns [n] and rows [m], plus bias [n], the activation, the residual."""
    u = saturate(round_even(c.astype(np.int64) * channel, channel_shift), 32)
    start = bias.astype(np.int64) << token_shift
    y = saturate(round_even(u * token[:, None].astype(np.int64) + start, token_shift), 16)
    if table is not None:
        y = activated(y, table)
    total = y if residual is None else saturate(y + residual, 16)
    return np.asarray(total, np.int16)


# bf16


def to_bf16(x: NDArray[Any]) -> Bits:
    """float32 rounded to nearest, halves to even; what is no number stays so."""
    wide = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (wide + 0x7FFF + ((wide >> 16) & 1)) >> 16
    return np.where(np.isnan(x), (wide >> 16) | 0x40, rounded).astype(np.uint16)


def from_bf16(bits: Bits) -> Floats:
    """The float32 of the same value."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def product_bf16(a: Bits, b: Bits, c: Floats) -> Floats:
    """c + a @ b in float32, the terms of a sum in the order of depth; [m, k], [k, n], [m, n]."""
    left, right, total = from_bf16(a), from_bf16(b), c.copy()
    for k in range(left.shape[1]):
        total += left[:, k, None] * right[k]
    return total


# norms and 8-bit rows

_STEPS = 127  # a row's largest magnitude
GAIN_BITS, NORM_BITS, PLAIN_BITS = (
    12,
    24,
    16,
)  # fraction bits: of gains, of the scale after a norm, and without
_RANGE_BITS = 22

Rows = tuple[NDArray[np.int8], NDArray[np.int32]]  # values [rows, width], the scale of each row [rows]


def _bits(value: int) -> int:
    return int(value).bit_length()


def _narrowed(y: Ints) -> tuple[Ints, int]:
    """A row in steps of its largest magnitude, and that."""
    most = int(np.abs(y).max())
    shift = _bits(most) + 8
    steps = ((_STEPS << shift) + most // 2) // most if most else 0
    return saturate(round_even(y * steps, shift), 8), most


def layer_norm(x: NDArray[np.int16], gain: NDArray[Any], offset: NDArray[Any], epsilon: int) -> Rows:
    """Normalises rows [rows, width]; epsilon in squared units of x, the scale with 24 fraction bits."""
    values, scales = [], []
    n = x.shape[1]
    for row in x.astype(np.int64):
        total = int(row.sum())
        square = n * int((row * row).sum()) - total**2 + n * n * epsilon
        root = max(isqrt(square), 1)
        shift = max(_bits(root) + _RANGE_BITS - 31, 0)
        exact = (n * row - total) * gain.astype(np.int64) + root * offset.astype(np.int64)
        q, most = _narrowed(saturate(round_even(exact, shift), 32))
        unit = _STEPS * root
        values.append(q)
        scales.append(((most << (shift + NORM_BITS - GAIN_BITS)) + unit // 2) // unit)
    return np.array(values, np.int8), saturate(np.array(scales), 32).astype(np.int32)


def quantise(x: NDArray[np.int16], gain: NDArray[Any]) -> Rows:
    """Rows [rows, width] times a gain of each column; the scale in units of x, with 16 fraction bits."""
    found = [_narrowed(row * gain.astype(np.int64)) for row in x.astype(np.int64)]
    scales = [((most << (PLAIN_BITS - GAIN_BITS)) + _STEPS // 2) // _STEPS for _, most in found]
    return np.array([q for q, _ in found], np.int8), saturate(np.array(scales), 32).astype(np.int32)


# attention

SCORE_LIMIT, MASKED = 1 << 24, -(1 << 30)
VALUE_STEPS = 255 * 256  # the largest scale of values
POWERS = np.round(2.0 ** (16 - np.arange(256) / 256)).astype(np.int32)  # [256]: 2^16 * 2^(-i / 256)


def power(x: NDArray[Any]) -> Ints:
    """2^(-x / 256) in 65,536ths, x >= 0."""
    down = np.minimum(np.asarray(x, np.int64) >> 8, 18)
    return np.where(down > 17, 0, (POWERS[x & 255].astype(np.int64) + ((1 << down) >> 1)) >> down)


def attention(
    q: NDArray[np.int8],
    k: NDArray[np.int8],
    v: NDArray[np.int8],
    scales: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    shifts: tuple[int, int],
    first_query: int = 0,
    keys: int | None = None,
    causal: bool = False,
) -> NDArray[np.int16]:
    """Queries [64, 64] over keys and values [n * 64, 64]; scales and shifts as of the kernel -> 256ths [64, 64]."""
    q_scale, k_scale, v_scale = (each.astype(np.int64) for each in scales)
    keys = len(k) if keys is None else keys
    highest, total = np.full(TILE, MASKED, np.int64), np.zeros(TILE, np.int64)
    o = np.zeros((TILE, TILE), np.int64)
    for first in range(0, len(k), TILE):
        span = slice(first, first + TILE)
        u = saturate(round_even(product(q, k[span].T).astype(np.int64) * k_scale[span], shifts[1]), 32)
        scores = np.clip(round_even(u * q_scale[:, None], shifts[0]), -SCORE_LIMIT, SCORE_LIMIT)
        key, query = np.arange(first, first + TILE), np.arange(first_query, first_query + TILE)[:, None]
        scores[np.broadcast_to((key >= keys) | (causal & (key > query)), scores.shape)] = MASKED
        most = np.maximum(highest, scores.max(axis=1))
        moved = (most > highest) & (total > 0)
        factor = np.where(moved, power(most - highest), 1 << 16)
        total, o = round_even(total * factor, 16), round_even(o * factor[:, None], 16)
        weights = np.where(scores == MASKED, 0, power(most[:, None] - scores))
        total += weights.sum(axis=1)
        p = (weights * v_scale[span] + (1 << 23)) >> 24
        o += p @ v[span].astype(np.int64)
        highest = most
    reciprocal = np.where(total > 0, ((1 << 54) // 255) // np.maximum(total, 1), 0)
    return saturate(round_even(o * reciprocal[:, None], 30), 16).astype(np.int16)


# what is done value by value

ANGLE_BITS = 14


def rope(x: NDArray[np.int16], cosine: NDArray[Any], sine: NDArray[Any]) -> NDArray[np.int16]:
    """Turns the interleaved pairs at the beginning of rows [rows, width] by angles [rows, pairs]."""
    turned, width = x.copy(), 2 * cosine.shape[1]
    even, odd = (x[:, start:width:2].astype(np.int64) for start in (0, 1))
    turned[:, 0:width:2] = saturate(round_even(even * cosine - odd * sine, ANGLE_BITS), 16)
    turned[:, 1:width:2] = saturate(round_even(odd * cosine + even * sine, ANGLE_BITS), 16)
    return turned


def swiglu(
    hidden: NDArray[np.int16], gate: NDArray[np.int16], table: NDArray[np.int16], shift: int
) -> NDArray[np.int16]:
    """hidden times the table's function of the gate, divided by 2^shift."""
    gated = hidden.astype(np.int64) * activated(gate, table)
    return saturate(round_even(gated, shift), 16).astype(np.int16)
