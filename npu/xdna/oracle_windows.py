"""The oracle of attention to windows in 8 bits: the same float32 operations in the same order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npu.xdna.oracle import TILE, Bits, Floats, Ints, blocked, from_bf16, to_bf16
from npu.xdna.oracle_bf16 import power_bf16, product_of_parts, reciprocal_bf16, shrunk, two_to

Narrow = NDArray[np.int8]

_LARGEST = np.float32(127)  # what the largest magnitude of a tile becomes
_LEAST = np.float32(1e-18)  # whose reciprocal is a number
_LARGEST_16 = np.float32(127 * 256)  # what a query's largest magnitude becomes
_WEIGHT_BITS = 14
_SCORE_LIMIT = 1 << 21
_NONE = -(1 << 29)  # the largest of no scores


def narrowed_tile(sums: Floats, rows: int) -> tuple[Narrow, np.float32]:
    """sums [64, 64] in float, of which the first rows count -> [64, 64] in 8 bits, zeros behind them, and their scale."""
    counted = sums.copy()
    counted[max(rows, 0) :] = 0
    most = np.maximum(np.abs(counted).max(), _LEAST)[None]
    factor = product_of_parts(reciprocal_bf16(most), _LARGEST)
    values = np.rint(product_of_parts(counted, factor)).astype(np.int8)
    return values, product_of_parts(most, np.float32(1) / _LARGEST)[0]


def laid_tile(keys: Narrow, values: Narrow) -> NDArray[np.uint8]:
    """keys, values [64, 64] -> [8192]: in the order in which they reach a core that attends to them."""
    both = [blocked(each, 8, 8).ravel() for each in (keys.T, values)]
    return np.concatenate(both).view(np.uint8)


@dataclass(frozen=True, eq=False)
class Window:
    """Keys and values of one head and a window's states, 64 at a time."""

    keys: Narrow  # [n * 64, 64]
    values: Narrow  # [n * 64, 64]
    scales: Floats  # [n, 2]: of keys and of values
    states: int  # that count


def windows_attention(q: Bits, windows: Iterable[Window], scale: np.float32) -> Bits:
    """Queries [rows, 64], each over its own window; scale: log2(e) / sqrt(width of the head)."""
    found = [_attended(each, window, scale) for each, window in zip(from_bf16(q), windows, strict=True)]
    return to_bf16(np.stack(found))


def _attended(q: Floats, window: Window, scale: np.float32) -> Floats:
    """q [64] -> [64]."""
    query, unit = _narrowed_query(q, scale)
    highest, total, o = np.int64(_NONE), np.zeros(1, np.float32), np.zeros(TILE, np.float32)
    for block in range(-(-window.states // TILE)):
        span = slice(block * TILE, block * TILE + TILE)
        keys = window.keys[span][: window.states - block * TILE].astype(np.int64)
        values = window.values[span][: len(keys)].astype(np.int64)
        of_keys, of_values = window.scales[block]
        scores = product_of_parts((keys @ query).astype(np.float32), product_of_parts(unit, of_keys))
        wholes, fractions = power_bf16(scores, -_SCORE_LIMIT, _SCORE_LIMIT)
        most = max(highest, wholes.max())
        total, o = shrunk(total, most - highest), shrunk(o, most - highest)
        weights = np.rint(fractions * two_to(wholes - most + _WEIGHT_BITS)).astype(np.int64)
        total = total + np.float32(weights.sum())
        (high, low), (above, below) = _parts((weights @ values).astype(np.float32)), _parts(of_values)
        o = o + high * above + high * below + low * above
        highest = most
    return product_of_parts(o, reciprocal_bf16(np.maximum(total, np.float32(0.5))))


def _narrowed_query(q: Floats, scale: np.float32) -> tuple[Ints, Floats]:
    """[64] in 16 bits, and what 1 stands for in a score, as a binary logarithm [1]."""
    most = np.maximum(np.abs(q).max(), _LEAST)[None]
    factor = product_of_parts(reciprocal_bf16(most), _LARGEST_16)
    query = np.rint(product_of_parts(q, factor)).astype(np.int64)
    return query, product_of_parts(product_of_parts(most, np.float32(1) / _LARGEST_16), scale)


def _parts(x: Floats | np.float32) -> tuple[Floats, Floats]:
    high = from_bf16(to_bf16(np.asarray(x)))
    return high, from_bf16(to_bf16(x - high))
