"""The oracle of the bf16 kernels that need more than a product: the same float32 operations in the same order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npu.xdna.oracle import Bits, Floats, Ints, from_bf16, product_bf16, round_even, saturate, to_bf16
from npu.xdna.overlay import Activation

QUERIES, KEYS = 64, 32  # of one step of attention
_SCORE_BITS = 10  # after the point, of a score in fixed point
_ONE = 1 << _SCORE_BITS
_ZERO = np.float32(1.5 * 2 ** (23 - _SCORE_BITS))  # a score of 0; in its bits is a fixed-point number
_DEEPEST, _ROOM = 46 * _ONE, 16 * _ONE  # below the level nothing is left, and above it does not rise
_LEAST = np.float32(2.0**-82)  # of a sum of weights that is not zero
_TAIL = (5391, -3868, -15712, 21392, -921, -14550, 11244, -2972)  # of what GELU is less than max(x, 0)
_SLOPES = {Activation.SILU: 1.442695, Activation.TANH: 2 * 1.442695}
_ACTIVATION_LIMIT = 60
_LANES = 8
_EPSILON = np.float32(1e-5)


def layer_norm_bf16(x: Bits, gain: Floats, offset: Floats) -> Bits:
    """Normalises rows [rows, width], with sums over every eighth value first, and squares summed as they are."""
    values = from_bf16(x)
    share = np.float32(1 / x.shape[1])
    mean = summed(values) * share
    scale = reciprocal_deviations(summed(values * values) * share - mean * mean)
    normal = product_of_parts(values - mean[:, None], scale[:, None])
    (high, low), (above, below) = parts_of(normal), parts_of(gain)
    return to_bf16(offset + high * above + high * below + low * above)


def summed(x: Floats) -> Floats:
    """[rows, width] -> [rows]."""
    lanes = np.zeros((len(x), _LANES), np.float32)
    for at in range(0, x.shape[1], _LANES):
        lanes += x[:, at : at + _LANES]
    while lanes.shape[1] > 1:  # neighbours first
        lanes = lanes[:, ::2] + lanes[:, 1::2]
    return lanes[:, 0]


def reciprocal_deviations(variance: Floats) -> Floats:
    """One over the roots of variances, which may be less than nothing, and what is added to them."""
    value = np.maximum(variance, np.float32(0)) + _EPSILON
    y = (np.uint32(0x5F3759DF) - (value.view(np.uint32) >> 1)).view(np.float32)
    half = np.float32(0.5) * value
    for _ in range(4):
        y = y * (np.float32(1.5) - half * y * y)
    return y


def epilogue_bf16(
    c: Floats,
    bias: Floats,
    function: Activation | None = None,
    other: Bits | None = None,
    multiplied: bool = False,
) -> Bits:
    """Sums [m, n] plus bias [n], the function, plus or times something; narrowed once."""
    return to_bf16(ended_bf16((c + bias).astype(np.float32), function, other, multiplied))


def ended_bf16(
    y: Floats, function: Activation | None = None, other: Bits | None = None, multiplied: bool = False
) -> Floats:
    """The function of y, plus or times something, before it is narrowed."""
    if function is not None:
        y = activated_bf16(y, function)
    if other is not None:
        y = y * from_bf16(other) if multiplied else y + from_bf16(other)
    return y


def activated_bf16(x: Floats, function: Activation) -> Floats:
    """The function in float32, with factors in bf16 where the kernel has them."""
    if function is Activation.GELU:
        return _gelu(x)
    one, near_zero = np.float32(1), np.float32(0.5)
    logarithm = product_of_parts(x, -np.float32(_SLOPES[function]))
    exponent, fraction = power_bf16(logarithm, -_ACTIVATION_LIMIT, _ACTIVATION_LIMIT)
    share = reciprocal_bf16(fraction * two_to(exponent) + one)
    if function is not Activation.TANH:
        return product_of_parts(x, share)
    with np.errstate(over="ignore", invalid="ignore"):  # far from zero, where it is not asked for
        narrow = _rounded(x)
        square = _rounded(narrow * narrow)
        bent = _rounded(square * _rounded(np.float32(-0.33206911) + square * np.float32(0.1162109375)))
        return np.where(np.abs(x) < near_zero, x + narrow * bent, share + share - one).astype(np.float32)


def _gelu(x: Floats) -> Floats:
    """max(x, 0) less a polynomial of |x| in integers, which is as at 4 from there on."""
    z = saturate((np.abs(x) + np.float32(768)).view(np.int32).astype(np.int64) - 0x44400000 - (1 << 15), 16)
    tail = np.full(x.shape, _TAIL[0], np.int64)
    for coefficient in _TAIL[1:]:
        tail = saturate(round_even(coefficient * (1 << 15) + z * tail, 15), 16)
    found: Floats = tail.astype(np.float32) * np.float32(2.0**-16) + np.maximum(x, np.float32(0))
    return found


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
    """Queries [rows, 64] over keys and values [n * 32, 64]; scale: log2(e) / sqrt(width of the head)."""
    rows = len(q)
    above, below = parts_of(scale)
    scaled = to_bf16(from_bf16(q) * above + from_bf16(q) * below)
    level, total = np.full(rows, _DEEPEST, np.int64), np.zeros(rows, np.float32)
    o = np.zeros((rows, q.shape[1]), np.float32)
    for first in range(0, len(k), KEYS):
        span = slice(first, first + KEYS)
        scores = product_bf16(scaled, k[span].T, np.zeros((rows, KEYS), np.float32))
        fixed = np.where(seen.visible(first), fixed_scores(scores), 0)
        most = fixed.max(axis=1)
        now = np.where(most > level + _ROOM, most & -_ONE, level)
        down = (now - level) >> _SCORE_BITS
        total, o = shrunk(total, down), shrunk(o, down[:, None])
        weights = weights_bf16(fixed, now[:, None])
        for column in from_bf16(weights).T:
            total += column
        o = product_bf16(weights, v[span], o)
        level = now
    return to_bf16(product_of_parts(o, reciprocal_bf16(np.maximum(total, _LEAST))[:, None]))


def fixed_scores(scores: Floats) -> Ints:
    """In fixed point, from zero on, in the order of scores; exact to 2^-10 within +-4096."""
    return np.maximum((scores + _ZERO).view(np.int32).astype(np.int64), 0)


def weights_bf16(fixed: Ints, level: Ints) -> Bits:
    """2^(score - level - 81) of fixed-point numbers, or zero; the level is a whole number, and no more than 16 below."""
    logarithm = np.clip(fixed - (level - _DEEPEST - 3), 0, 65535)
    rest = logarithm & (_ONE - 1)
    bend = round_even(-2844 * 4096 + 11125 * rest, 12)
    return round_even((logarithm << 13) + rest * bend, 16).astype(np.uint16)


def rope_bf16(x: Bits, cosine: Bits, sine: Bits) -> Bits:
    """Turns the interleaved pairs at the beginning of rows [rows, width] by angles [rows, pairs]."""
    turned, width = x.copy(), 2 * cosine.shape[1]
    even, odd, c, s = map(from_bf16, (x[:, 0:width:2], x[:, 1:width:2], cosine, sine))
    turned[:, 0:width:2] = to_bf16(even * c - odd * s)
    turned[:, 1:width:2] = to_bf16(odd * c + even * s)
    return turned


# what functions are made of


def product_of_parts(x: Floats, y: Floats | np.float32) -> Floats:
    """x * y within 2^-15: each as two numbers in bf16, of which the product of the lower ones is left out."""
    (high, low), (above, below) = parts_of(x), parts_of(y)
    found: Floats = high * above + high * below + low * above
    return found


_WHOLE = np.float32(12582912)  # 1.5 * 2^23


def power_bf16(x: Floats, low: int, high: int) -> tuple[Ints, Floats]:
    """2^x as an exponent between the two, and a fraction in bf16 that 2^exponent is multiplied with."""
    shifted = x + _WHOLE
    exponent = np.clip(shifted.view(np.int32).astype(np.int64) - int(_WHOLE.view(np.int32)), low, high)
    rest = np.clip(_rounded(x - (shifted - _WHOLE)), np.float32(-0.5), np.float32(0.5))
    inner = _rounded(np.float32(0.24221111) + rest * np.float32(0.054931640625))
    inner = _rounded(np.float32(0.69329294) + rest * inner)
    return exponent, _rounded(np.float32(1) + rest * inner)


def two_to(exponent: Ints) -> Floats:
    """2^exponent, or zero below 2^-126."""
    biased = np.maximum(exponent + 127, 0)
    return (biased << 23).astype(np.int32).view(np.float32)


def shrunk(x: Floats, down: Ints) -> Floats:
    """x / 2^down, down >= 0, or zero below 2^-126."""
    bits, taken = x.view(np.int32).astype(np.int64), np.minimum(down, 254) << 23
    left = np.where((bits & 0x7FFFFFFF) < taken + (1 << 23), 0, bits - taken)
    return left.astype(np.int32).view(np.float32)


def reciprocal_bf16(x: Floats) -> Floats:
    """Of positive numbers, by Newton's steps in bf16, of which the last sees what narrowing took away."""
    one, narrow = np.float32(1), to_bf16(x)
    high = from_bf16(narrow)
    low = _rounded(x - high)
    y = from_bf16((0x7EF3 - narrow.astype(np.int64)).astype(np.uint16))
    for _ in range(2):
        y = _rounded(y + y * _rounded(one - high * y))
    found: Floats = y + y * _rounded(one - high * y - low * y)
    return found


def parts_of(x: Floats | np.float32) -> tuple[Floats, Floats]:
    """As two numbers in bf16, of which 16 bits are exact."""
    high = _rounded(x)
    return high, _rounded(x - high)


def _rounded(x: Floats | np.float32) -> Floats:
    return from_bf16(to_bf16(np.asarray(x)))
