"""The oracle of the bf16 kernels that need more than a product: the same float32 operations in the same order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npu.xdna.oracle import MASKED, Bits, Floats, from_bf16, power, product_bf16, round_even, to_bf16

QUERIES, KEYS = 64, 32  # of one step of attention
SCORE_LIMIT = 1 << 21
_LANES = 8
_EPSILON = np.float32(1e-5)


def layer_norm_bf16(x: Bits, gain: Floats, offset: Floats) -> Bits:
    """Normalises rows [rows, width], with sums over every eighth value first, and squares summed as they are."""
    values = from_bf16(x)
    share = np.float32(1 / x.shape[1])
    mean = summed(values) * share
    variance = np.maximum(summed(values * values) * share - mean * mean, np.float32(0)) + _EPSILON
    normal = (values - mean[:, None]) * _reciprocal_root(variance)[:, None]
    return to_bf16(offset + normal * gain)


def summed(x: Floats) -> Floats:
    """[rows, width] -> [rows]."""
    lanes = np.zeros((len(x), _LANES), np.float32)
    for at in range(0, x.shape[1], _LANES):
        lanes += x[:, at : at + _LANES]
    total = np.zeros(len(x), np.float32)
    for lane in lanes.T:
        total += lane
    return total


def _reciprocal_root(value: Floats) -> Floats:
    y = (np.uint32(0x5F3759DF) - (value.view(np.uint32) >> 1)).view(np.float32)
    half = np.float32(0.5) * value
    for _ in range(4):
        y = y * (np.float32(1.5) - half * y * y)
    return y


@dataclass(frozen=True)
class Seen:
    """Which keys queries see: of a first part, as many as `keys` says, then those of the queries themselves."""

    past: int  # keys of the first part, all groups together, a multiple of 32
    keys: NDArray[np.int64]  # [rows]: of the first part, of one's own group
    groups: int = 1  # which have 32 of the first part in turn
    shared: int = QUERIES  # queries of a group
    alone: bool = False  # of the second part, one's own key alone, otherwise those before it as well
    queries: int = QUERIES  # that count

    def visible(self, first: int) -> NDArray[np.bool_]:
        """[rows, 32]: of the keys from `first` on."""
        row, key = np.arange(len(self.keys))[:, None], np.arange(KEYS)
        if first >= self.past:
            key = key + first - self.past
            seen = key == row if self.alone else key <= row
        else:
            turn, group = divmod(first // KEYS, self.groups)
            seen = (row // self.shared == group) & (turn * KEYS + key < self.keys[:, None])
        return np.asarray(seen & (row < self.queries))


def attention_bf16(q: Bits, k: Bits, v: Bits, scale: np.float32, seen: Seen) -> Bits:
    """Queries [rows, 64] over keys and values [n * 32, 64]; scale: 256 * log2(e) / sqrt(width of the head)."""
    rows = len(q)
    highest, total = np.full(rows, MASKED, np.int64), np.zeros(rows, np.int64)
    o = np.zeros((rows, q.shape[1]), np.float32)
    for first in range(0, len(k), KEYS):
        span = slice(first, first + KEYS)
        raw = product_bf16(q, k[span].T, np.zeros((rows, KEYS), np.float32)) * scale
        scores = np.rint(np.clip(raw, -SCORE_LIMIT, SCORE_LIMIT)).astype(np.int64)
        hidden = ~seen.visible(first)
        scores[hidden] = MASKED
        most = np.maximum(highest, scores.max(axis=1))
        factor = np.where((most > highest) & (total > 0), power(most - highest), 1 << 16)
        total = round_even(total * factor, 16)
        o *= (factor.astype(np.float32) / np.float32(1 << 16))[:, None]
        weights = np.where(hidden, 0, power(most[:, None] - scores))
        total += weights.sum(axis=1)
        o = product_bf16(to_bf16(weights.astype(np.float32)), v[span], o)
        highest = most
    share = np.where(total > 0, np.float32(1) / np.maximum(total, 1).astype(np.float32), np.float32(0))
    return to_bf16(o * share[:, None])


def rope_bf16(x: Bits, cosine: Bits, sine: Bits) -> Bits:
    """Turns the interleaved pairs at the beginning of rows [rows, width] by angles [rows, pairs]."""
    turned, width = x.copy(), 2 * cosine.shape[1]
    even, odd, c, s = map(from_bf16, (x[:, 0:width:2], x[:, 1:width:2], cosine, sine))
    turned[:, 0:width:2] = to_bf16(even * c - odd * s)
    turned[:, 1:width:2] = to_bf16(odd * c + even * s)
    return turned
