"""What each kernel of the NPU computes, exactly, in NumPy: the arithmetic that both of its paths are held to.

Matrices are plain here, [rows, columns]; `blocked` and `unblocked` go to and from the order of the matrix unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bits = NDArray[np.uint16]  # bf16 as its 16 bits

TILE = 64
ACTIVATION_BITS = 10  # fraction bits that a curve of activations is fitted for
PART_BITS = 14  # fraction bits of numbers up to one
_WHOLE = 1 << PART_BITS


def blocked(x: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """[m, n] -> [m / rows, n / columns, rows, columns], in one piece."""
    m, n = x.shape
    return np.ascontiguousarray(x.reshape(m // rows, rows, n // columns, columns).swapaxes(1, 2))


def unblocked(x: NDArray[Any]) -> NDArray[Any]:
    """[m / rows, n / columns, rows, columns] -> [m, n]."""
    i, j, rows, columns = x.shape
    return np.ascontiguousarray(x.swapaxes(1, 2).reshape(i * rows, j * columns))


# fixed point


def round_even(value: NDArray[Any] | np.int64, shift: int | NDArray[Any]) -> Ints:
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


def sixteenth_power(s: Ints, factors: Sequence[int]) -> Ints:
    """The sixteenth power of a polynomial of s that is 1 at 0, with 14 fraction bits all of them; the highest first."""
    power = np.full(s.shape, factors[0], np.int64)
    for factor in (*factors[1:], _WHOLE):
        power = saturate(round_even(power * s + factor * _WHOLE, PART_BITS), 16)
    for _ in range(4):
        power = saturate(round_even(power * power, PART_BITS), 16)
    return power


def activated(x: NDArray[Any], curve: NDArray[np.int16]) -> Ints:
    """A function like GELU of 16-bit values: x where it is above zero, less |x| times half of the power that `curves.py`
    fits.
    """
    up, shift, *factors = (int(each) for each in curve)
    size = -np.abs(np.asarray(x, np.int64))
    s = np.minimum(round_even(size * up, shift), _WHOLE)
    less = round_even(size * sixteenth_power(s, factors), PART_BITS + 1)
    found: Ints = np.maximum(x, 0) + less
    return found


def epilogue(
    c: NDArray[Any],
    channel: NDArray[Any],
    token: NDArray[Any],
    bias: NDArray[Any],
    channel_shift: int,
    token_shift: int,
    curve: NDArray[np.int16] | None = None,
    residual: NDArray[Any] | None = None,
) -> NDArray[np.int16]:
    """Sums c [m, n] times the scales of columns [n] and rows [m], plus bias [n], the activation, the residual."""
    u = saturate(round_even(c.astype(np.int64) * channel, channel_shift), 32)
    start = bias.astype(np.int64) << token_shift
    y = saturate(round_even(u * token[:, None].astype(np.int64) + start, token_shift), 16)
    if curve is not None:
        y = activated(y, curve)
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
LEAST_ROOT = 512  # so that a row's shift is at least one
_SHARE, _SHARE_BITS = 1082196484, 33  # 16 / 127: the scale of a row out of its largest value

Rows = tuple[NDArray[np.int8], NDArray[np.int32]]  # values [rows, width], the scale of each row [rows]


def _bits(value: int) -> int:
    return int(value).bit_length()


def inverse(value: int) -> tuple[int, int]:
    """2^61 / value, 0 < value < 2^31, the value brought to 31 bits; and how many bits it had."""
    bits = _bits(value)
    return ((1 << 61) - 1) // (value << (31 - bits)), bits


def _narrowed(y: Ints) -> tuple[Ints, int]:
    """A row in steps of its largest magnitude, and that."""
    most = min(int(np.abs(y).max()), (1 << 31) - 1)
    found, bits = inverse(max(most, 1))
    steps = round_even(np.int64(found * _STEPS), 23)
    return saturate(round_even(y * steps, bits + 7), 8), most


def scale_of(most: NDArray[Any]) -> Ints:
    """The scale of rows out of their largest magnitudes."""
    return round_even(most.astype(np.int64) * _SHARE, _SHARE_BITS)


def layer_norm(x: NDArray[np.int16], gain: NDArray[Any], offset: NDArray[Any], epsilon: int) -> Rows:
    """Normalises rows [rows, width]; epsilon in squared units of x, the scale with 24 fraction bits."""
    values, scales = [], []
    n = x.shape[1]
    for row in x.astype(np.int64):
        total = int(row.sum())
        square = n * int((row * row).sum()) - total**2 + n * n * epsilon
        root = max(isqrt(square), LEAST_ROOT)
        shift = _bits(root) + _RANGE_BITS - 31
        exact = (n * row - total) * gain.astype(np.int64) + root * offset.astype(np.int64)
        q, most = _narrowed(saturate(round_even(exact, shift), 32))
        values.append(q)
        scales.append(scale_of(round_even(np.array(most * inverse(root)[0]), 31)))
    return np.array(values, np.int8), np.array(scales, np.int32)


def quantise(x: NDArray[np.int16], gain: NDArray[Any]) -> Rows:
    """Rows [rows, width] times a gain of each column; the scale in units of x, with 16 fraction bits."""
    found = [_narrowed(row * gain.astype(np.int64)) for row in x.astype(np.int64)]
    return np.array([q for q, _ in found], np.int8), scale_of(np.array([most for _, most in found])).astype(
        np.int32
    )


# attention

MASKED = -(1 << 30)
VALUE_STEPS = 255 * 256  # the largest scale of values
SCORE_BITS = 27  # that the product of a score with both scales has lost before its shift
SHARE = (1 << 52) // 255  # what sums of weights divide
_POWER = (-811, 3919, -11356)  # 2^-s, less one: fitted, within 4e-5
_SCORE_SHIFT, _SCALE_SHIFT, WEIGHT_SHIFT = 5, 10, 22


def kept_score(sums: NDArray[Any]) -> Ints:
    """16 bits of a product of queries and keys."""
    return saturate(round_even(sums, _SCORE_SHIFT), 16)


def kept_scale(scale: NDArray[Any]) -> Ints:
    """15 bits of a query's or a key's."""
    return saturate(round_even(scale, _SCALE_SHIFT), 16)


def power(x: NDArray[Any], shift: int) -> Ints:
    """2^(-x / 2^shift / 1024), x >= 0, with 14 fraction bits."""
    return sixteenth_power(np.minimum(round_even(x, shift), _WHOLE), _POWER)


def attention(
    q: NDArray[np.int8],
    k: NDArray[np.int8],
    v: NDArray[np.int8],
    scales: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    shift: int,
    first_query: int = 0,
    keys: int | None = None,
    causal: bool = False,
) -> NDArray[np.int16]:
    """Queries [64, 64] over keys and values [n * 64, 64]; scales and shift as of the kernel -> 256ths [64, 64]."""
    q_scale, k_scale, v_scale = (
        kept_scale(scales[0])[:, None],
        kept_scale(scales[1]),
        scales[2].astype(np.int64),
    )
    keys = len(k) if keys is None else keys
    highest, total = np.full(TILE, MASKED, np.int64), np.zeros(TILE, np.int64)
    o = np.zeros((TILE, TILE), np.int64)
    for first in range(0, len(k), TILE):
        span = slice(first, first + TILE)
        scores = kept_score(product(q, k[span].T)) * k_scale[span]
        key, query = np.arange(first, first + TILE), np.arange(first_query, first_query + TILE)[:, None]
        scores[np.broadcast_to((key >= keys) | (causal & (key > query)), scores.shape)] = MASKED
        most = np.maximum(highest, scores.max(axis=1))
        factor = power((most - highest)[:, None] * q_scale, shift)
        total, o = round_even(total * factor[:, 0], PART_BITS), round_even(o * factor, PART_BITS)
        weights = np.where(scores == MASKED, 0, power((most[:, None] - scores) * q_scale, shift))
        total += weights.sum(axis=1)
        o += round_even(weights * v_scale[span], WEIGHT_SHIFT) @ v[span].astype(np.int64)
        highest = most
    reciprocal = SHARE // np.maximum(total, _WHOLE)
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
    hidden: NDArray[np.int16], gate: NDArray[np.int16], curve: NDArray[np.int16], shift: int
) -> NDArray[np.int16]:
    """hidden times the curve's function of the gate, divided by 2^shift."""
    gated = hidden.astype(np.int64) * activated(gate, curve)
    return saturate(round_even(gated, shift), 16).astype(np.int16)
