"""The oracle's arithmetic over whole matrices at once: what makes minutes of speech in 8 bits a matter of minutes.

Every function gives, bit for bit, what the kernels give tile by tile, because nothing in it is rounded where they do
not round. Products run in floats: a term is below 2^14, so that up to a depth of 1,024 every partial sum is an integer
that float32 holds, and up to any depth one that float64 does, and the order of summation does not matter. All else is
64-bit integers, which no step here can overflow where the kernels' own 64 bits do not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npu.xdna.oracle import (
    LEAST_ROOT,
    MASKED,
    PART_BITS,
    SHARE,
    TILE,
    WEIGHT_SHIFT,
    Ints,
    Rows,
    kept_scale,
    kept_score,
    power,
    round_even,
    saturate,
    scale_of,
)

_STEPS = 127  # a row's largest magnitude
_RANGE_BITS = 22  # of what the scaled deviations of a row are brought to
_EXACT_DEPTH = 1024  # terms below 2^14, and sums up to 2^24: what float32 holds


def layer_norm(x: NDArray[np.int16], gain: NDArray[Any], offset: NDArray[Any], epsilon: int) -> Rows:
    """Normalises rows [rows, width]; as `oracle.layer_norm`."""
    wide, n = x.astype(np.int64), x.shape[1]
    total = wide.sum(axis=1)
    square = n * (wide * wide).sum(axis=1) - total**2 + n * n * epsilon
    root = np.maximum(_square_root(square), LEAST_ROOT)
    shift = _bits(root) + _RANGE_BITS - 31
    exact = (n * wide - total[:, None]) * gain.astype(np.int64) + root[:, None] * offset.astype(np.int64)
    q, most = _narrowed(saturate(round_even(exact, shift[:, None]), 32))
    return q, scale_of(round_even(most * _inverse(root)[0], 31)).astype(np.int32)


def quantise(x: NDArray[np.int16], gain: NDArray[Any]) -> Rows:
    """Rows [rows, width] times a gain of each column; as `oracle.quantise`."""
    q, most = _narrowed(x.astype(np.int64) * gain.astype(np.int64))
    return q, scale_of(most).astype(np.int32)


def rescale(x: NDArray[np.int16], down: int) -> NDArray[np.int16]:
    """x / 2^down, as `add_half_i16` adds a residual to nothing."""
    return round_even(x, down).astype(np.int16) if down else x


def in_floats(values: NDArray[np.int8]) -> NDArray[Any]:
    """A matrix [k, n] of values within +-127, in a type whose products with such rows are exact."""
    return values.astype(np.float32 if len(values) <= _EXACT_DEPTH else np.float64)


def attention(query: Rows, key: Rows, value: Rows, shift: int) -> NDArray[np.int16]:
    """Queries [queries, width] over keys and values [keys, width], all queries at once.

    The scales and the shift are as of `oracle.attention`, which sees keys in the same blocks of 64 -> 256ths
    [queries, width].
    """
    (q, q_scale), (k, k_scale), (v, v_scale) = (
        (x.astype(np.float64), s.astype(np.int64)) for x, s in (query, key, value)
    )
    q_scale, k_scale = kept_scale(q_scale)[:, None], kept_scale(k_scale)
    highest, total = np.full(len(q), MASKED, np.int64), np.zeros(len(q), np.int64)
    o = np.zeros(q.shape, np.int64)
    for first in range(0, len(k), TILE):
        span = slice(first, first + TILE)
        sums = (q @ k[span].T).astype(np.int64)
        scores = kept_score(sums) * k_scale[span]
        most = np.maximum(highest, scores.max(axis=1))
        factor = power((most - highest)[:, None] * q_scale, shift)
        total, o = round_even(total * factor[:, 0], PART_BITS), round_even(o * factor, PART_BITS)
        weights = power((most[:, None] - scores) * q_scale, shift)
        total += weights.sum(axis=1)
        p = round_even(weights * v_scale[span], WEIGHT_SHIFT)
        o += (p.astype(np.float64) @ v[span]).astype(np.int64)
        highest = most
    reciprocal = SHARE // np.maximum(total, 1 << PART_BITS)
    return saturate(round_even(o * reciprocal[:, None], 30), 16).astype(np.int16)


def _narrowed(y: Ints) -> tuple[NDArray[np.int8], Ints]:
    """Rows in steps of their largest magnitudes, and those."""
    most = np.minimum(np.abs(y).max(axis=1), (1 << 31) - 1)
    found, bits = _inverse(np.maximum(most, 1))
    steps = round_even(found * _STEPS, 23)
    return saturate(round_even(y * steps[:, None], bits[:, None] + 7), 8).astype(np.int8), most


def _inverse(values: Ints) -> tuple[Ints, Ints]:
    """As `oracle.inverse`."""
    bits = _bits(values)
    return ((1 << 61) - 1) // (values << (31 - bits)), bits


def _bits(values: Ints) -> Ints:
    """Bits that each value needs, below 2^53: the exponent of float64, which holds them exactly."""
    found: Ints = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    return found


def _square_root(square: Ints) -> Ints:
    """The largest root of each, rounded down: float64's, which is off by one at most, put right."""
    root = np.sqrt(square.astype(np.float64)).astype(np.int64)
    root -= root * root > square
    root += (root + 1) * (root + 1) <= square
    return root
